"""Evaluate a checkpoint of a run on a split: metrics, report.json and plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import data as datas
from jaxvision import failures, reports, specs
from jaxvision import run as runs
from jaxvision import workdir as workdirs
from jaxvision.distributed import compilation, multihost
from jaxvision.engine import inference, logs
from jaxvision.engine.step import make_eval_step
from jaxvision.interfaces import Dataset, Split, Task


def evaluate(
    workdir: str | Path,
    *,
    split: str = "test",
    checkpoint: str | int = "best",
    tta: str | None = None,
    out: str | Path | None = None,
    data_dir: str | None = None,
    dataset: Any = None,
    fid_classifier: str | Path | None = None,
    plugins: Sequence[str] = (),
) -> reports.Report:
    """Evaluate a checkpoint on a split, write the report and return it.

    Args:
        workdir: The folder of a trained run.
        split: train, validation or test.
        checkpoint: best, last, or the step of a checkpoint.
        tta: Test-time augmentation: none, flip or flip_shift. If None, that of training.
        out: The folder for the report. If None, `report` in the workdir, or `report_<split>` for other splits.
        data_dir: The folder of TensorFlow Datasets. If None, that of training.
        dataset: The data, as for `train`, if training had them in memory.
        fid_classifier: The workdir of a classifier, whose features give FID and class coverage of generated images.
        plugins: Modules or .py files that register more, besides those of training.

    Returns:
        The content of report.json.

    Raises:
        ValueError: The data are not those of the run, or it has no such split or checkpoint.
        FileNotFoundError: There is no such workdir.
    """
    trained, data = opened(workdir, checkpoint=checkpoint, tta=tta, data_dir=data_dir, dataset=dataset, plugins=plugins)
    return evaluate_on(trained, data, split=split, out=out, fid_classifier=fid_classifier, plugins=plugins)


def evaluate_on(
    trained: runs.Trained,
    data: Dataset,
    *,
    split: str = "test",
    out: str | Path | None = None,
    fid_classifier: str | Path | None = None,
    plugins: Sequence[str] = (),
) -> reports.Report:
    """Evaluate a loaded run on a split of the data that it was trained on, as `evaluate` does."""
    chosen, config = split_of(data, split), trained.run.config
    measure, absent = make_measure(trained), {}
    if trained.run.task.fit_thresholds is not None or chosen.kind == "multilabel":
        from jaxvision.thresholds import absent_in_validation, with_thresholds

        trained = with_thresholds(trained, data, measure)
        measure = make_measure(trained)
        absent = absent_in_validation(trained, data) if chosen.kind == "multilabel" else {}
    task = trained.run.task
    values, predictions = measure(chosen)
    judged = chosen.in_original_units(predictions)
    report = {
        "split": split,
        "headline": task.headline,
        "num_examples": len(chosen),
        "num_parameters": runs.num_parameters(trained.params),
        "step": trained.step,
        **values,
        **task.score(*judged),
        **task.report(*judged, data.classes),
        "baseline": baselines(task, data, chosen),
        **absent,
    }
    if fid_classifier is not None:
        if predictions.ndim != 4:
            raise ValueError(f"fid_classifier is for generated images, and the task {config.task!r} generates none")
        from jaxvision.generative_metrics import generative_metrics

        report |= generative_metrics(predictions, chosen, data.train, fid_classifier, plugins=plugins)
    if split != "train":
        report["train"] = _measure_on_train(data, len(chosen), measure)
        report["gap"] = {name: report["train"][name] - value for name, value in values.items()}
    if multihost.is_main_process():
        rows = logs.read_rows(trained.workdir / "metrics.jsonl")
        folder = reports.folder_of(trained.workdir, split) if out is None else Path(out)
        labels = task.predict_labels(predictions)
        reports.save(folder, report, rows, chosen, predictions, labels, data.classes, monitor=task.monitor)
    return reports.Report(report)


def opened(
    workdir: str | Path,
    *,
    checkpoint: str | int = "best",
    tta: str | None = None,
    data_dir: str | None = None,
    dataset: Any = None,
    plugins: Sequence[str] = (),
) -> tuple[runs.Trained, Dataset]:
    """Load a trained run and open its data. Raises ValueError if these are not what it was trained on."""
    path = workdirs.open_workdir(workdir)
    trained = runs.load(path, checkpoint=checkpoint, tta=tta, plugins=plugins)
    config, signature = trained.run.config, trained.run.signature
    preprocessing = signature.preprocessing if config.init_from else None
    place = data_dir or signature.data_dir
    resize = signature.preprocessing.resize
    data = datas.open_dataset(config, data_dir=place, dataset=dataset, preprocessing=preprocessing, resize=resize)
    if datas.fingerprint(data) != signature.data:
        raise ValueError(
            f"these are not the data that the run in {str(path)!r} was trained on, so the splits could mix"
        )
    return trained, data


def split_of(data: Dataset, name: str) -> Split:
    """Return a split by name. Raises ValueError if the dataset does not have it."""
    splits = datas.splits_of(data)
    if name not in splits:
        raise ValueError(f"no split {name!r}{specs.nearest(name, splits)}; expected one of {', '.join(splits)}")
    return splits[name]


def make_measure(trained: runs.Trained) -> Callable[[Split], tuple[dict[str, float], np.ndarray]]:
    """Build the function that predicts a split and scores it. It raises FloatingPointError if one is not finite."""
    run = trained.run
    eval_step = compilation.compile_eval(make_eval_step(run.model, run.task), run.mesh)

    def measure(split: Split):
        values, predictions = inference.infer_split(
            eval_step,
            trained.params,
            trained.model_state,
            split,
            batch_size=run.execution.eval_batch_size,
            mesh=run.mesh,
        )
        if not np.isfinite(predictions).all():
            raise FloatingPointError(failures.diverged_predictions(trained.step, trained.workdir))
        return {"loss": values["loss"], **values}, predictions

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
    return {"num_examples": size, **measure(subset)[0]}
