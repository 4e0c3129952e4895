"""A report and what it is about -> PNG files and rows, by what it holds and what the targets are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.engine import logs
from jaxvision.interfaces import Split
from jaxvision.reports import plots

NUM_MISTAKES = 25
NUM_SAMPLES = 64


def draw(
    folder: Path,
    report: dict[str, Any],
    rows: list[logs.Row],
    split: Split,
    predictions: np.ndarray,
    decided: np.ndarray,
    classes: Sequence[str],
) -> None:
    """Draws the curves of training, how predictions lie to targets, and what is most wrong, as PNG files."""
    if rows:
        plots.curves(rows, folder / "curves.png", chosen_step=report["step"])
    if "confusion_matrix" in report:
        plots.confusion_matrix(np.array(report["confusion_matrix"]), classes, folder / "confusion_matrix.png")
    if predictions.ndim == 4:
        samples(predictions, folder / "samples.png")
        return
    if split.kind == "numbers":
        targets, judged = split.judged(predictions)
        if split.ordered:
            plots.forecast(targets, judged, split.baselines, split.names, folder / "forecast.png")
        plots.scatter(targets, judged, folder / "scatter.png")
    if not split.ordered:
        _draw_mistakes(folder / "mistakes.png", split, predictions, decided, classes)


def save_predictions(file: Path, split: Split, predictions: np.ndarray) -> None:
    """Writes numbers that were predicted as CSV, in the units of the data; of other predictions, nothing.

    A row has the example's name, its target, the prediction, and what the rules that come with the data say.
    """
    if split.kind != "numbers" or predictions.ndim > 1:
        return
    names = split.names if len(split.names) else range(len(split))
    columns = [*split.judged(predictions), *split.baselines.values()]
    with file.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(["name", "target", "prediction", *split.baselines])
        rows.writerows([name, *map(str, values)] for name, *values in zip(names, *columns, strict=True))


def draw_step(folder: Path, step: int, predictions: np.ndarray) -> None:
    """Draws what a generator makes after a step of training into `samples/`; of other predictions, nothing."""
    if predictions.ndim == 4:
        (folder / "samples").mkdir(exist_ok=True)
        samples(predictions, folder / "samples" / f"{step:08d}.png")


def samples(made: np.ndarray, file: Path) -> None:
    """Draws the first images [N, H, W, C] that a generator made."""
    plots.images(made[:NUM_SAMPLES], [""] * min(len(made), NUM_SAMPLES), file, columns=8)


def _draw_mistakes(file: Path, split: Split, predictions, decided, classes: Sequence[str]) -> None:
    """Draws the inputs that are most wrongly judged; no picture where none is wrong."""
    wrongness, captions = {"classes": _wrong_classes, "tags": _wrong_tags, "numbers": _wrong_numbers}[split.kind](
        split.targets, predictions, decided, classes
    )
    worst = [int(i) for i in np.argsort(-wrongness, kind="stable")[:NUM_MISTAKES] if wrongness[i] > 0]
    if not worst:
        file.unlink(missing_ok=True)
        return
    named = [f"\n{plots.shortened(Path(str(split.names[i])).name)}" if len(split.names) else "" for i in worst]
    plots.images(split.read(np.array(worst)), [captions(i) + name for i, name in zip(worst, named, strict=True)], file)


def _wrong_classes(targets, predictions, decided, classes):
    """The confidence of wrong answers."""
    confidence = predictions[np.arange(len(decided)), decided]

    def caption(i: int) -> str:
        return f"{classes[int(decided[i])]} {confidence[i]:.0%}\nis {classes[int(targets[i])]}"

    return np.where(decided != targets, confidence, 0.0), caption


def _wrong_tags(targets, predictions, decided, classes):
    """The number of tags that are missing or too many, and how sure of the wrong the model was."""
    wrong = decided != (targets >= 0.5)

    def caption(i: int) -> str:
        marks = [f"{'+' if decided[i, j] else '-'}{_tag(classes[j])}" for j in np.flatnonzero(wrong[i])]
        return "\n".join(marks[:3] + ([f"and {len(marks) - 3} more"] if len(marks) > 3 else []))

    return (wrong * (1 + np.abs(predictions - targets))).sum(axis=1), caption


def _tag(name: str) -> str:
    """The value of a tag as 'season=Fall', whose column its reader knows, shortened."""
    return plots.shortened(name.rpartition("=")[2])


def _wrong_numbers(targets, predictions, decided, classes):
    """How far off the numbers are."""
    return np.abs(predictions - targets), lambda i: f"{predictions[i]:.4g}\nis {targets[i]:.4g}"
