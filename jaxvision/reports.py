"""A report -> text for the terminal, pictures and rows, by what it holds and what the targets are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import logs, pictures
from jaxvision.interfaces import Split

NUM_MISTAKES = 25
NUM_SAMPLES = 64
FIGURES = (  # in the order in which they are told; the last is what people look for
    "loss",
    "auroc",
    "average_precision",
    "expected_calibration_error",
    "top_5_accuracy",
    "macro_recall",
    "discriminator_loss",
    "generator_loss",
    "least_class_share",
    "frechet_distance",
    "mae",
    "r2",
    "pearson",
    "spearman",
    "all_tags_right",
    "rmse",
    "accuracy",
    "mean_average_precision",
)
COLUMNS = ("precision", "recall", "f1", "average_precision", "auroc", "threshold")
ERRORS = ("loss", "mae", "rmse", "accuracy")  # what is measured on train too, and compared


def text(report: dict[str, Any]) -> str:
    """Writes the report as a table for the terminal; what people look for stands in its last line."""
    lines = _class_lines(report) if "per_class" in report else []
    confused = [f"{p['true']} as {p['predicted']} {p['count']}x" for p in report.get("most_confused", ())[:3]]
    if confused:
        lines.append(f"most confused: {', '.join(confused)}")
    if "threshold" in report and "confusion_matrix" in report:
        lines.append(f"{list(report['per_class'])[1]} from a probability of {report['threshold']:.4f} on")
    absent = report.get("absent_in_validation", ())
    if absent:
        lines.append(f"threshold 0.5 for want of examples in validation, no aim promised: {', '.join(absent)}")
    if "class_shares" in report:
        shares = ", ".join(f"{name} {share:.2%}" for name, share in report["class_shares"].items())
        lines.append(f"share of each class: {shares}")
    shared = [name for name in ERRORS if name in report.get("gap", {})]
    if shared:
        name = shared[-1]
        lines.append(f"{name} on train {report['train'][name]:.4f}, gap {report['gap'][name]:+.4f}")
    for name, figures in report.get("members", {}).items():
        lines.append(f"{name} alone: {_told(figures)}")
    for name, figures in report.get("baseline", {}).items():
        lines.append(f"{name}, for comparison: {_told(figures)}")
    lines.append(f"{report['split']} of {report['num_examples']:,}: {_told(report)}")
    return "\n".join(lines)


def _told(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {figures[name]:.4f}" for name in FIGURES if name in figures)


def headline(report: dict[str, Any]) -> str:
    """Names the figure that people look for, with its value."""
    return _told({name: report[name] for name in [name for name in FIGURES if name in report][-1:]})


def _class_lines(report: dict[str, Any]) -> list[str]:
    rows = [(name, scores, scores["num_examples"]) for name, scores in report["per_class"].items()]
    means = [name for name in ("macro", "micro", "weighted") if name in report]
    rows += [(f"{name} mean", report[name], report["num_examples"]) for name in means]
    width = max(13, *(len(name) for name, _, _ in rows))
    columns = [name for name in COLUMNS if any(name in scores for _, scores, _ in rows)]

    def line(name: str, scores: dict[str, float], count: int) -> str:
        cells = [f"{scores[each]:.4f}" if each in scores else "" for each in columns]
        shown = "".join(f"  {cell:>{max(6, len(each))}}" for each, cell in zip(columns, cells, strict=True))
        return f"{name:{width}}{shown}  {count:8,}".rstrip()

    heads = "".join(f"  {name.replace('_', ' '):>6}" for name in columns)
    return [f"{'':{width}}{heads}  examples", *(line(*row) for row in rows)]


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
        pictures.curves(rows, folder / "curves.png", chosen_step=report["step"])
    if "confusion_matrix" in report:
        pictures.confusion_matrix(np.array(report["confusion_matrix"]), classes, folder / "confusion_matrix.png")
    if predictions.ndim == 4:
        samples(predictions, folder / "samples.png")
        return
    if split.kind == "numbers":
        targets, judged = split.judged(predictions)
        if split.ordered:
            pictures.forecast(targets, judged, split.baselines, split.names, folder / "forecast.png")
        pictures.scatter(targets, judged, folder / "scatter.png")
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
    pictures.images(made[:NUM_SAMPLES], [""] * min(len(made), NUM_SAMPLES), file, columns=8)


def _draw_mistakes(file: Path, split: Split, predictions, decided, classes: Sequence[str]) -> None:
    """Draws the inputs that are most wrongly judged; no picture where none is wrong."""
    wrongness, captions = {"classes": _wrong_classes, "tags": _wrong_tags, "numbers": _wrong_numbers}[split.kind](
        split.targets, predictions, decided, classes
    )
    worst = [int(i) for i in np.argsort(-wrongness, kind="stable")[:NUM_MISTAKES] if wrongness[i] > 0]
    if not worst:
        file.unlink(missing_ok=True)
        return
    named = [f"\n{pictures.shortened(Path(str(split.names[i])).name)}" if len(split.names) else "" for i in worst]
    pictures.images(
        split.read(np.array(worst)), [captions(i) + name for i, name in zip(worst, named, strict=True)], file
    )


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
    return pictures.shortened(name.rpartition("=")[2])


def _wrong_numbers(targets, predictions, decided, classes):
    """How far off the numbers are."""
    return np.abs(predictions - targets), lambda i: f"{predictions[i]:.4g}\nis {targets[i]:.4g}"
