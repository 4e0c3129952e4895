"""Evaluate a trained run on a split of its data: metrics, report.json, predictions.csv and plots."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jaxvision import data as datas
from jaxvision import failures, folds, reports, specs
from jaxvision import run as runs
from jaxvision.distributed import compilation, multihost
from jaxvision.engine import inference, logs
from jaxvision.engine.step import make_eval_step
from jaxvision.interfaces import Dataset, Outputs, Split, Task

Measure = Callable[[Split], tuple[dict[str, float], Outputs]]


def evaluate_on(
    trained: runs.Trained,
    data: Dataset,
    differences: Sequence[str] = (),
    *,
    split: str | None = None,
    out: str | Path | None = None,
    fid_classifier: str | Path | None = None,
    calibrate: bool | None = True,
    plugins: Sequence[str] = (),
) -> reports.Report:
    """Evaluate a loaded run on a split of the data of its training, or of others with `differences`, as `evaluate`."""
    split = split or datas.reported(data)
    chosen = split_of(data, split, has_all=bool(differences))
    measure, absent = make_measure(trained), {}
    if not differences and (trained.run.task.fit_thresholds is not None or chosen.kind == "multilabel"):
        from jaxvision.thresholds import absent_in_validation, with_thresholds

        trained = with_thresholds(trained, data, measure)
        measure = make_measure(trained)
        absent = absent_in_validation(trained, data) if chosen.kind == "multilabel" else {}
    task = trained.run.task
    values, outputs = measure(chosen)
    rows, num_validation = logs.read_rows(trained.workdir / "metrics.jsonl"), trained.run.signature.num_validation or 0
    report = {
        "split": split,
        "headline": task.headline,
        "num_examples": len(chosen),
        "num_parameters": runs.num_parameters(trained.params),
        "step": trained.step,
        "checkpoint": reports.describe_checkpoint(trained.checkpoint, rows, task.monitor, trained.step, num_validation),
        "tta": trained.run.execution.tta,
        **values,
        **inference.metrics_of(task, chosen, outputs, data.classes),
        "baseline": {} if differences else baselines(task, data, chosen),
        **({"data_differences": [*differences]} if differences else absent),
        **({"note": failures.no_test()} if data.test is None else {}),
    }
    report |= reports.calibration_section(report, trained, data, chosen, outputs, measure, calibrate=calibrate)
    if fid_classifier is not None:
        from jaxvision.generative_metrics import generative_metrics

        report |= generative_metrics(outputs.predictions, chosen, data.train, fid_classifier, plugins=plugins)
    if split != "train" and not differences:
        report["train"] = _measure_on_train(data, len(chosen), measure)
        report["gap"] = {name: report["train"][name] - value for name, value in values.items()}
    if multihost.is_main_process():
        folder = reports.folder_of(trained.workdir, report) if out is None else Path(out)
        reports.save(folder, report, rows, chosen, outputs, task, data.classes, trained, data)
    return reports.Report(report)


def split_of(data: Dataset, name: str, *, has_all: bool = False) -> Split:
    """Return a split by name, with `has_all` also that of "all" examples. Raises ValueError if there is none."""
    splits = datas.splits_of(data)
    if has_all:
        splits["all"] = functools.reduce(folds.concatenate, splits.values())
    if name not in splits:
        others = ", or all with --dataset" if name == "all" else specs.nearest(name, splits)
        raise ValueError(f"no split {name!r}; expected one of {', '.join(splits)}{others}")
    return splits[name]


def make_measure(trained: runs.Trained) -> Measure:
    """Build the function that predicts a split and scores it. It raises FloatingPointError if one is not finite."""
    run = trained.run
    eval_step = compilation.compile_eval(make_eval_step(run.model, run.task), run.mesh)

    def measure(split: Split):
        values, outputs = inference.infer_split(
            eval_step,
            trained.params,
            trained.model_state,
            split,
            batch_size=run.execution.eval_batch_size,
            mesh=run.mesh,
        )
        if not np.isfinite(outputs.predictions).all():
            raise FloatingPointError(failures.diverged_predictions(trained.step, trained.workdir))
        return {"loss": values["loss"], **values}, outputs

    return measure


def baselines(task: Task, data: Dataset, split: Split) -> dict[str, dict[str, float]]:
    """Score the predictions of simple rules: those of the split, or else the baseline of the task."""
    rules = dict(split.baselines)
    if not rules and task.baseline is not None:
        name, prediction = task.baseline(data.train.targets)
        rules = {name: np.broadcast_to(prediction, (len(split), *prediction.shape))}
    targets, _ = split.in_original_units(split.targets)
    return {name: task.score(targets, predictions) for name, predictions in rules.items()}


def _measure_on_train(data: Dataset, num_examples: int, measure) -> dict[str, float]:
    """Evaluate as many evenly spaced training examples as the split has, to measure the generalization gap."""
    size = min(num_examples, len(data.train))
    subset = data.train.select(np.linspace(0, len(data.train) - 1, size, dtype=int))
    return {"num_examples": size, "num_in_split": len(data.train), **measure(subset)[0]}
