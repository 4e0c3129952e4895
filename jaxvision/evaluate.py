"""The verb evaluate: a workdir's best checkpoint on a split -> report.json, pictures, predicted numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxvision import hosts, logs, parallel, pipeline, registry, reports
from jaxvision import run as runs
from jaxvision import workdir as workdirs
from jaxvision.config import write_json
from jaxvision.interfaces import Dataset, Split, Task
from jaxvision.interrupts import Stopped
from jaxvision.judge import judge as judged_by
from jaxvision.step import make_eval_step


def never() -> bool:
    """Nothing stops an evaluation."""
    return False


def run_split(
    run: runs.Run,
    eval_step,
    params,
    model_state,
    split: Split,
    batch_size: int,
    *,
    doing: str = "evaluate",
    stop: Callable[[], bool] = never,
):
    """Runs a split through the model: (mean of each value over its examples, predictions [N, …]), on all hosts.

    A batch has batch_size rows, or for a smaller split the next power of two, so that few sizes are compiled.
    Raises Stopped where `stop` says so, which is asked after each batch.
    """
    size = parallel.bucket(len(split), batch_size, run.mesh)
    rows = parallel.host_rows(size, run.mesh)
    sums: dict[str, float] = {}
    predictions = []
    with logs.progress(len(split), doing) as bar:
        for start, batch in zip(range(0, len(split), size), pipeline.eval_batches(split, size, rows=rows), strict=True):
            found, predicted = jax.device_get(eval_step(params, model_state, batch))
            sums = {name: sums.get(name, 0.0) + float(value) for name, value in found.items()}
            predictions.append(predicted[: len(split) - start])
            bar.update(len(predictions[-1]))
            if stop():
                raise Stopped
    count = sums.pop("count")
    return {name: total / count for name, total in sums.items()}, np.concatenate(predictions)


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
    trained = with_thresholds(trained, data)
    task, measure = trained.run.task, make_measure(trained)
    values, predictions = measure(chosen)
    judged = chosen.judged(predictions)
    report = {
        "split": split,
        "num_examples": len(chosen),
        "num_parameters": runs.num_parameters(trained.params),
        "step": trained.step,
        **values,
        **task.score(*judged),
        **task.report(*judged, data.classes),
        "baseline": baselines(task, data, chosen),
        **_absent(trained, data),
    }
    if judge is not None:
        if predictions.ndim != 4:
            raise ValueError(f"judge={str(judge)!r} is for made images, and the task {config.task!r} makes none")
        report |= judged_by(predictions, chosen, data.train, judge, plugins=plugins)
    if split != "train":
        report["train"] = _train_share(data, len(chosen), measure)
        report["gap"] = {name: report["train"][name] - value for name, value in values.items()}
    if hosts.is_first():
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
    data = runs.open_dataset(config, data_dir=place, dataset=dataset, preprocessing=preprocessing)
    if runs.fingerprint(data) != signature.data:
        raise ValueError(f"these are not the data that the run in {str(path)!r} was trained on: its splits would mix")
    return trained, data


def split_of(data: Dataset, name: str) -> Split:
    """Gives a split by its name. Raises ValueError where the data have none."""
    splits = runs.splits(data)
    if name not in splits:
        raise ValueError(f"no split {name!r}{registry.nearest(name, splits)}; {', '.join(splits)}")
    return splits[name]


def make_measure(trained: runs.Trained) -> Callable[[Split], tuple[dict[str, float], np.ndarray]]:
    """Makes the function that runs a split through the trained model. It raises where predictions are not finite."""
    run = trained.run
    eval_step = parallel.compile_eval(make_eval_step(run.model, run.task), run.mesh)

    def measure(split: Split):
        size = run.config.eval_batch_size
        values, predictions = run_split(run, eval_step, trained.params, trained.model_state, split, size)
        if not np.isfinite(predictions).all():
            raise FloatingPointError(
                f"the predictions of step {trained.step} in {str(trained.workdir)!r} are not finite: its training had "
                "diverged; begin anew with a lower --learning_rate"
            )
        return values, predictions

    return measure


def with_thresholds(trained: runs.Trained, data: Dataset) -> runs.Trained:
    """Chooses the task's thresholds on validation where they are to be chosen and are not yet, and keeps them."""
    task = trained.run.task
    if task.choose is None:
        return trained
    if data.validation is None:
        raise ValueError(f"the task {trained.run.config.task!r} chooses its thresholds on validation: there is none")
    _, predictions = make_measure(trained)(data.validation)
    thresholds = task.choose(*data.validation.judged(predictions))
    if hosts.is_first():
        workdirs.save_thresholds(trained.workdir, trained.step, trained.run.config.views, thresholds)
    task = runs.build_task(trained.run.config, trained.run.signature, thresholds=thresholds)
    return trained._replace(run=trained.run._replace(task=task))


def _absent(trained: runs.Trained, data: Dataset) -> dict[str, list[str]]:
    """Names the tags of which validation has no example, where thresholds are chosen there: theirs is 0.5."""
    chooses = runs.build_task(trained.run.config, trained.run.signature).choose is not None
    if not chooses or data.validation is None or data.validation.kind != "tags":
        return {}
    counts = data.validation.targets.sum(axis=0)
    return {"absent_in_validation": [name for name, count in zip(data.classes, counts, strict=True) if not count]}


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
    write_json(folder / "report.json", report)
    reports.draw(folder, report, logs.read_rows(path / "metrics.jsonl"), split, predictions, decided, classes)
    reports.save_predictions(folder / "predictions.csv", split, predictions)


def _train_share(data: Dataset, num_examples: int, measure) -> dict[str, float]:
    """Measures as many examples of train, evenly spread, as the split has: what the gap is measured by."""
    size = min(num_examples, len(data.train))
    share = data.train.take(np.linspace(0, len(data.train) - 1, size, dtype=int))
    return {"num_examples": size, **measure(share)[0]}
