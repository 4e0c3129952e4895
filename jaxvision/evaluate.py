"""The verb evaluate: a workdir's best checkpoint on a split -> report.json, pictures, predicted numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import data as datas
from jaxvision import reports, specs, storage
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
    data_dir: str | None = None,
    dataset: Any = None,
    judge: str | Path | None = None,
    plugins: Sequence[str] = (),
) -> dict[str, Any]:
    """Judges the best checkpoint of a workdir on a split, writes `report/` or `report_<split>/`, gives the report.

    `dataset` stands in for the config's, as in `train`, where training had data in memory. `judge` is the workdir of a
    classifier that judges the images that a generator makes, one for each of the split. Raises ValueError where the
    data are not those of the run.
    """
    trained, data = opened(workdir, data_dir=data_dir, dataset=dataset, plugins=plugins)
    return evaluate_on(trained, data, split=split, judge=judge, plugins=plugins)


def evaluate_on(
    trained: runs.Trained,
    data: Dataset,
    *,
    split: str = "test",
    judge: str | Path | None = None,
    plugins: Sequence[str] = (),
) -> dict[str, Any]:
    """Judges a loaded run on a split of the data that it was trained on, cut as they were then; as `evaluate`."""
    chosen, config = split_of(data, split), trained.run.config
    measure, absent = make_measure(trained), {}
    if trained.run.task.choose is not None or chosen.kind == "tags":
        from jaxvision.thresholds import absent_in_validation, with_thresholds

        trained = with_thresholds(trained, data, measure)
        measure = make_measure(trained)
        absent = absent_in_validation(trained, data) if chosen.kind == "tags" else {}
    task = trained.run.task
    values, predictions = measure(chosen)
    judged = chosen.judged(predictions)
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
    if judge is not None:
        if predictions.ndim != 4:
            raise ValueError(f"judge={str(judge)!r} is for made images, and the task {config.task!r} makes none")
        from jaxvision.judge import judge as judged_by

        report |= judged_by(predictions, chosen, data.train, judge, plugins=plugins)
    if split != "train":
        report["train"] = _train_share(data, len(chosen), measure)
        report["gap"] = {name: report["train"][name] - value for name, value in values.items()}
    if multihost.is_first():
        _write(trained.workdir, report, chosen, predictions, task.decide(predictions), data.classes)
    return report


def opened(
    workdir: str | Path, *, data_dir: str | None = None, dataset: Any = None, plugins: Sequence[str] = ()
) -> tuple[runs.Trained, Dataset]:
    """Loads a trained run and opens its data. Raises ValueError where these are not what it was trained on."""
    path = workdirs.require(workdir)
    trained = runs.load(path, plugins=plugins)
    config, signature = trained.run.config, trained.run.signature
    preprocessing = signature.preprocessing if config.init_from else None
    place = data_dir or signature.data_dir
    data = datas.open_dataset(config, data_dir=place, dataset=dataset, preprocessing=preprocessing)
    if datas.fingerprint(data) != signature.data:
        raise ValueError(f"these are not the data that the run in {str(path)!r} was trained on: its splits would mix")
    return trained, data


def split_of(data: Dataset, name: str) -> Split:
    """Gives a split by its name. Raises ValueError where the data have none."""
    splits = datas.splits_of(data)
    if name not in splits:
        raise ValueError(f"no split {name!r}{specs.nearest(name, splits)}; {', '.join(splits)}")
    return splits[name]


def make_measure(trained: runs.Trained) -> Callable[[Split], tuple[dict[str, float], np.ndarray]]:
    """Makes the function that runs a split through the trained model. It raises where predictions are not finite."""
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
            raise FloatingPointError(
                f"the predictions of step {trained.step} in {str(trained.workdir)!r} are not finite: its training had "
                "diverged; begin anew with a lower --learning_rate"
            )
        return {"loss": values["loss"], **values}, predictions

    return measure


def baselines(task: Task, data: Dataset, split: Split) -> dict[str, dict[str, float]]:
    """Scores what simple rules predict: those that come with the data, or else the task's own."""
    rules = dict(split.baselines)
    if not rules and task.baseline is not None:
        name, prediction = task.baseline(data.train.targets)
        rules = {name: np.broadcast_to(prediction, (len(split), *prediction.shape))}
    targets, _ = split.judged(split.targets)
    return {name: task.score(targets, predictions) for name, predictions in rules.items()}


def _write(path: Path, report: dict[str, Any], split: Split, predictions, decided, classes: Sequence[str]) -> None:
    """Writes the report, its pictures and predicted numbers into a folder of the workdir, named by the split."""
    folder = path / ("report" if report["split"] == "test" else f"report_{report['split']}")
    folder.mkdir(exist_ok=True)
    storage.write_json(folder / "report.json", report)
    reports.draw(folder, report, logs.read_rows(path / "metrics.jsonl"), split, predictions, decided, classes)
    reports.save_predictions(folder / "predictions.csv", split, predictions)


def _train_share(data: Dataset, num_examples: int, measure) -> dict[str, float]:
    """Measures as many examples of train, evenly spread, as the split has: what the gap is measured by."""
    size = min(num_examples, len(data.train))
    share = data.train.take(np.linspace(0, len(data.train) - 1, size, dtype=int))
    return {"num_examples": size, **measure(share)[0]}
