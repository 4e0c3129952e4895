"""A report and what it is about -> PNG files and rows, by what it holds and what the targets are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import storage
from jaxvision.engine import logs
from jaxvision.interfaces import Split
from jaxvision.reports import plots

NUM_MISTAKES = 25
NUM_SAMPLES = 64
LESS_IS_BETTER = ("loss", "error", "mse", "mae", "distance")  # ends of names of values


def save(
    folder: Path,
    report: dict[str, Any],
    rows: list[logs.Row],
    split: Split,
    predictions: np.ndarray,
    predicted_labels: np.ndarray,
    classes: Sequence[str],
) -> None:
    """Write report.json, its pictures and predictions.csv into a folder. `rows` are those of metrics.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_json(folder / "report.json", report)
    draw(folder, report, rows, split, predictions, predicted_labels, classes)
    save_predictions(folder / "predictions.csv", split, predictions)


def folder_of(workdir: Path, split: str) -> Path:
    """Return the folder of the report of a split."""
    return workdir / ("report" if split == "test" else f"report_{split}")


def draw(
    folder: Path,
    report: dict[str, Any],
    rows: list[logs.Row],
    split: Split,
    predictions: np.ndarray,
    predicted_labels: np.ndarray,
    classes: Sequence[str],
) -> None:
    """Draw the curves of training, how predictions lie to targets, and what is most wrong, as PNG files."""
    if rows:
        first = dict.fromkeys(("loss", report.get("headline") or "accuracy"))
        step = report["step"]
        name = f"{'best ' if is_best(rows, step) else ''}checkpoint"
        plots.curves(rows, folder / "curves.png", first=list(first), chosen_step=step, chosen_name=name)
    if "confusion_matrix" in report:
        plots.confusion_matrix(np.array(report["confusion_matrix"]), classes, folder / "confusion_matrix.png")
    if predictions.ndim == 4:
        samples(predictions, folder / "samples.png")
        return
    if split.kind == "continuous":
        targets, numbers = split.in_original_units(predictions)
        if split.ordered:
            plots.forecast(targets, numbers, split.baselines, split.names, folder / "forecast.png")
        plots.scatter(targets, numbers, folder / "scatter.png")
    if not split.ordered:
        _draw_mistakes(folder / "mistakes.png", split, predictions, predicted_labels, classes)


def is_best(rows: Sequence[logs.Row], step: int) -> bool:
    """Return whether a step has the best of some value on validation: the least loss or error, the most of others."""
    validation = [row for row in rows if row["split"] == "validation"]
    at_step = next((row for row in validation if row["step"] == step), {})
    for name in at_step.keys() - plots.NOT_DRAWN:
        best = min if name.endswith(LESS_IS_BETTER) else max
        if at_step[name] == best(row[name] for row in validation if name in row):
            return True
    return False


def save_predictions(file: Path, split: Split, predictions: np.ndarray) -> None:
    """Write numbers that were predicted as CSV, in the units of the data; of other predictions, nothing.

    A row has the example's name, its target, the prediction, and what the rules that come with the data say.
    """
    if split.kind != "continuous" or predictions.ndim > 1:
        return
    names = split.names if len(split.names) else range(len(split))
    columns = [*split.in_original_units(predictions), *split.baselines.values()]
    with file.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(["name", "target", "prediction", *split.baselines])
        rows.writerows([name, *map(str, values)] for name, *values in zip(names, *columns, strict=True))


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
    """Return the number of wrong tags plus the confidence in them, and a function of captions."""
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
