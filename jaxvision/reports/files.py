"""A report and what it is about -> PNG files and rows, by what it holds and what the targets are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import storage
from jaxvision.engine import logs
from jaxvision.interfaces import Dataset, Monitor, Outputs, Split, Task
from jaxvision.reports import plots
from jaxvision.reports.calibration import calibrated
from jaxvision.reports.page import save_page
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.prediction_table import save_predictions
from jaxvision.run import Trained
from jaxvision.splits import FEW

NUM_MISTAKES = 25
NUM_SAMPLES = 64


def save(
    folder: Path,
    report: dict[str, Any],
    rows: list[logs.Row],
    split: Split,
    outputs: Outputs,
    task: Task,
    classes: Sequence[str],
    trained: Trained | None = None,
    dataset: Dataset | None = None,
    *,
    has_images: bool = True,
) -> None:
    """Write report.json, its plots, predictions.csv and the page report.html into a folder.

    `rows` are those of metrics.jsonl; by the task's monitor, the plot of the curves states whether the checkpoint is
    the best. The trained run and its dataset are for what only the page has. Without
    `has_images`, or if the run has `no_images`, no image is shown, and mistakes.png is not drawn.
    """
    predicted_labels, monitor = task.predict_labels(outputs.predictions), task.monitor
    outputs = calibrated(outputs, report, split)
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_json(folder / "report.json", report)
    save_predictions(folder / "predictions.csv", split, outputs, predicted_labels, classes)
    if rows:
        first = dict.fromkeys(("loss", report.get("headline") or "accuracy"))
        step = report["step"]
        best = None if monitor is None else best_evaluation(rows, monitor)
        name = "best checkpoint" if best is not None and best[1] == step else "checkpoint"
        plots.curves(rows, folder / "curves.png", first=list(first), chosen_step=step, chosen_name=name)
    if "confusion_matrix" in report:
        plots.confusion_matrix(np.array(report["confusion_matrix"]), classes, folder / "confusion_matrix.png")
    has_images = has_images and not (trained is not None and trained.run.execution.no_images)
    data = PageData(report, rows, split, outputs, task, classes, predicted_labels, has_images)
    _draw_predictions(folder, data)
    save_page(folder, data, trained=trained, dataset=dataset)


def _draw_predictions(folder: Path, data: PageData) -> None:
    split, predictions = data.split, data.outputs.predictions
    if predictions.ndim == 4:
        if data.has_images:
            samples(predictions, folder / "samples.png")
        return
    if split.kind == "continuous":
        targets, numbers = split.in_original_units(predictions)
        if split.ordered:
            plots.forecast(targets, numbers, split.baselines, split.names, folder / "forecast.png")
        plots.scatter(targets, numbers, folder / "scatter.png")
    if not data.has_images:
        (folder / "mistakes.png").unlink(missing_ok=True)
    elif not split.ordered:
        _draw_mistakes(folder / "mistakes.png", split, predictions, data.predicted, data.classes)


def best_evaluation(history: Sequence[logs.Row], monitor: Monitor) -> tuple[float, int] | None:
    """Return the best finite value of the monitored metric on validation, and its step.

    Ties go to the last step. Returns None if no value is finite.
    """
    values = [(row.get(monitor.name, math.nan), row["step"]) for row in history if row["split"] == "validation"]
    values = [(value, step) for value, step in values if math.isfinite(value)]
    return max(values, key=lambda pair: (monitor.key(pair[0]), pair[1]), default=None)


def folder_of(workdir: Path, report: Mapping[str, Any]) -> Path:
    """Return the folder of a report: that of its split, of an ensemble, or of other data than those of training."""
    if "data_differences" in report:
        return workdir / "report_other_data"
    name = "ensemble" if "members" in report else report["split"]
    return workdir / ("report" if name == "test" else f"report_{name}")


def describe_checkpoint(
    requested: str, rows: Sequence[logs.Row], monitor: Monitor | None, step: int, num_validation: int
) -> str:
    """Return in words how a checkpoint was chosen; `requested` is best, last, or a number; `step` was read.

    >>> rows = [{"split": "validation", "step": 5, "accuracy": 0.5}]
    >>> describe_checkpoint("best", rows, Monitor("accuracy", "max"), 5, 24)
    'highest accuracy on 24 validation examples, which are few to choose by'
    >>> describe_checkpoint("best", rows, Monitor("accuracy", "max"), 4, 240)
    'best that can be read; highest accuracy on 240 validation examples at step 5'
    >>> describe_checkpoint("last", rows, Monitor("accuracy", "max"), 5, 24)
    'last; 24 validation examples would be few to choose by'
    """
    is_few = 0 < num_validation < FEW
    if requested == "last" and is_few:
        return f"last; {num_validation} validation examples would be few to choose by"
    if requested != "best":
        return "last" if requested == "last" else "requested step"
    best = best_evaluation(rows, monitor) if monitor is not None else None
    if monitor is None or best is None:
        return f"last, because {'the task has no monitored metric' if monitor is None else 'nothing was validated'}"
    on = f"{num_validation:,} validation examples" if num_validation else "validation"
    how = f"{'highest' if monitor.mode == 'max' else 'lowest'} {monitor.name} on {on}"
    if best[1] != step:
        return f"best that can be read; {how} at step {best[1]}"
    return f"{how}, which are few to choose by" if is_few else how


def chosen_evaluation(history: Sequence[logs.Row], monitor: Monitor, rule: str) -> tuple[float, int] | None:
    """Return the monitored value of the checkpoint that counts by a rule, best or last, and its step."""
    if rule == "last":
        step = max((row["step"] for row in history if row["split"] == "validation"), default=0)
        history = [row for row in history if row["step"] == step]
    return best_evaluation(history, monitor)


def draw_step(folder: Path, step: int, predictions: np.ndarray) -> None:
    """Draw what a generator makes after a step of training into `samples/`; of other predictions, nothing."""
    if predictions.ndim == 4:
        (folder / "samples").mkdir(exist_ok=True)
        samples(predictions, folder / "samples" / f"{step:08d}.png")


def samples(made: np.ndarray, file: Path) -> None:
    """Draw the first images [N, H, W, C] that a generator made."""
    plots.images(made[:NUM_SAMPLES], [""] * min(len(made), NUM_SAMPLES), file, columns=8)


def _draw_mistakes(file: Path, split: Split, predictions, predicted_labels, classes: Sequence[str]) -> None:
    """Draw the inputs of the largest errors; no picture where none is wrong."""
    wrongness, captions = {"multiclass": _wrong_classes, "multilabel": _wrong_labels, "continuous": _wrong_numbers}[
        split.kind
    ](split.targets, predictions, predicted_labels, classes)
    worst = [int(i) for i in np.argsort(-wrongness, kind="stable")[:NUM_MISTAKES] if wrongness[i] > 0]
    if not worst:
        file.unlink(missing_ok=True)
        return
    named = [f"\n{plots.shortened(Path(str(split.names[i])).name)}" if len(split.names) else "" for i in worst]
    plots.images(split.read(np.array(worst)), [captions(i) + name for i, name in zip(worst, named, strict=True)], file)


def _wrong_classes(targets, predictions, predicted_labels, classes):
    """Return the confidence of wrong answers, and a function of their captions."""
    confidence = predictions[np.arange(len(predicted_labels)), predicted_labels]

    def caption(i: int) -> str:
        answer, truth = (plots.shortened(classes[int(of[i])], length=17) for of in (predicted_labels, targets))
        return f"predicted {answer} ({confidence[i]:.0%})\ntrue {truth}"

    return np.where(predicted_labels != targets, confidence, 0.0), caption


def _wrong_labels(targets, predictions, predicted_labels, classes):
    """Return the number of wrong labels plus the confidence in them, and a function of captions."""
    wrong = predicted_labels != (targets >= 0.5)

    def caption(i: int) -> str:
        marks = [f"{'+' if predicted_labels[i, j] else '-'}{_tag(classes[j])}" for j in np.flatnonzero(wrong[i])]
        return "\n".join(marks[:3] + ([f"and {len(marks) - 3} more"] if len(marks) > 3 else []))

    return (wrong * (1 + np.abs(predictions - targets))).sum(axis=1), caption


def _tag(name: str) -> str:
    """Return the value of a tag as 'season=Fall', whose column its reader knows, shortened."""
    return plots.shortened(name.rpartition("=")[2])


def _wrong_numbers(targets, predictions, predicted_labels, classes):
    """Return how far off the numbers are, and a function of captions."""
    return np.abs(predictions - targets), lambda i: f"predicted {predictions[i]:.4g}\ntrue {targets[i]:.4g}"
