"""Figures and images -> PNG files: the only file that knows matplotlib."""

from __future__ import annotations

import functools
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def _plainly(draw: Callable[..., None]) -> Callable[..., None]:
    """Lets names be what they are: no mathematics between dollars, no word about glyphs that the font lacks."""

    @functools.wraps(draw)
    def drawn(*args: Any, **options: Any) -> None:
        import matplotlib

        with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")
            draw(*args, **options)

    return drawn


def _figure(width: float, height: float):
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def shortened(name: str, *, length: int = 22) -> str:
    """Leaves the middle of a long name out, for a caption."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


@_plainly
def confusion_matrix(matrix: np.ndarray, classes: Sequence[str], file: Path) -> None:
    """Draws a confusion matrix [C, C] of counts: rows are true classes, colours are shares of each row."""
    size = len(classes)
    figure = _figure(*[min(max(4.0, 1.6 + 0.45 * size), 24.0)] * 2)
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if size <= 50:
        axes.set_xticks(range(size), classes, rotation=90 if size > 4 else 0)
        axes.set_yticks(range(size), classes)
    if size <= 30:
        for (i, j), count in np.ndenumerate(matrix):
            if count:
                axes.text(
                    j, i, str(count), ha="center", va="center", fontsize=7, color="w" if shares[i, j] > 0.5 else "k"
                )
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.savefig(file)


@_plainly
def curves(rows: Sequence[dict[str, Any]], file: Path, *, chosen_step: int) -> None:
    """Draws each value of the rows of metrics.jsonl over epochs, a panel a value; a line marks the chosen step."""
    skipped = {"step", "epoch", "split", "seconds", "waiting"}
    names = list(dict.fromkeys(name for row in rows for name in row if name not in skipped))
    if not names:
        return
    figure = _figure(4 * len(names), 3.2)
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        for split in ("train", "validation"):
            points = [(row["epoch"], row[name]) for row in rows if row["split"] == split and name in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=split, marker="." if len(points) < 40 else None)
        chosen = next((row["epoch"] for row in rows if row["step"] == chosen_step), None)
        if chosen is not None:
            axes.axvline(chosen, color="0.7", linestyle="--", zorder=0)
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(file)


@_plainly
def images(inputs: np.ndarray, captions: Sequence[str], file: Path, *, columns: int = 5) -> None:
    """Draws images [N, H, W, C], uint8 or floats in 0..1, each below its caption, in at most so many columns."""
    columns = min(columns, len(inputs))
    rows = -(-len(inputs) // columns)
    lines = max((caption.count("\n") + 1 for caption in captions if caption), default=0)
    figure = _figure(2 * columns, (2.05 + 0.15 * lines) * rows)
    panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, image, caption in zip(panels, inputs, captions, strict=False):
        white = 255 if image.dtype == np.uint8 else 1  # else greys would be spread from black to white
        image = image.squeeze(-1) if image.shape[-1] == 1 else image
        axes.imshow(image, cmap="gray", vmin=0, vmax=white, interpolation="nearest")
        axes.set_title(caption, fontsize=8)
    figure.savefig(file)


@_plainly
def scatter(targets: np.ndarray, predictions: np.ndarray, file: Path) -> None:
    """Draws predictions [N] over targets [N], and the line on which they would agree."""
    figure = _figure(4.5, 4.5)
    axes = figure.subplots()
    axes.scatter(targets, predictions, s=12, alpha=0.6, linewidths=0)
    middle = float(np.mean(targets))
    axes.axline((middle, middle), slope=1, color="0.6", linestyle="--", zorder=0)
    axes.set_xlabel("target")
    axes.set_ylabel("prediction")
    axes.grid(alpha=0.3)
    figure.savefig(file)


@_plainly
def forecast(
    targets: np.ndarray,
    predictions: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    names: Sequence[str],
    file: Path,
) -> None:
    """Draws a series [N], what was predicted of it one step ahead, and what simple rules would have said."""
    figure = _figure(10, 4)
    axes = figure.subplots()
    steps = np.arange(len(targets))
    axes.plot(steps, targets, color="k", label="series")
    for name, values in baselines.items():
        axes.plot(steps, values, linewidth=0.8, linestyle=":", label=name)
    axes.plot(steps, predictions, color="C3", label="prediction")
    _name_steps(axes, names)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file)


def _name_steps(axes: Any, names: Sequence[str]) -> None:
    """Writes the names of a few steps, evenly spread, below the axis, where there are any."""
    if len(names):
        shown = np.unique(np.linspace(0, len(names) - 1, 8, dtype=int))
        axes.set_xticks(shown.tolist(), [str(names[i]) for i in shown.tolist()])


@_plainly
def series(by_split: Mapping[str, np.ndarray], names: Sequence[str], file: Path) -> None:
    """Draws a series whose parts, one after the other, are splits; `names` are those of all its steps, or none."""
    figure = _figure(10, 4)
    axes = figure.subplots()
    start = 0
    for name, values in by_split.items():
        axes.plot(np.arange(start, start + len(values)), values, linewidth=1, label=name)
        start += len(values)
    _name_steps(axes, names)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file)


@_plainly
def counts(by_split: Mapping[str, Sequence[int]], classes: Sequence[str], file: Path) -> None:
    """Draws how many examples each class, or tag, has in each split."""
    figure = _figure(7, min(max(2.5, 0.22 * len(classes)), 30))
    axes = figure.subplots()
    places, left = np.arange(len(classes)), np.zeros(len(classes))
    for name, values in by_split.items():
        axes.barh(places, values, left=left, label=name)
        left = left + np.array(values)
    if len(classes) <= 150:
        axes.set_yticks(places, list(classes), fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("examples")
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside upper right", ncols=len(by_split))
    figure.savefig(file)


@_plainly
def histogram(by_split: Mapping[str, np.ndarray], file: Path) -> None:
    """Draws how the numbers of each split spread, a panel a split: the share of its examples in each bin."""
    from matplotlib.ticker import PercentFormatter

    everything = np.concatenate(list(by_split.values()))
    edges = np.histogram_bin_edges(everything, bins=int(np.clip(len(everything) ** 0.5, 5, 40)))
    figure = _figure(7, 0.5 + 1.7 * len(by_split))
    panels = np.atleast_1d(figure.subplots(len(by_split), sharex=True, sharey=True))
    for index, (axes, (name, values)) in enumerate(zip(panels, by_split.items(), strict=True)):
        axes.stairs(np.histogram(values, edges)[0] / len(values), edges, fill=True, color=f"C{index}")
        axes.set_title(f"{name}, {len(values):,} examples", fontsize=9)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("target")
    figure.supylabel("share of the split", fontsize=10)
    figure.savefig(file)


@_plainly
def choices(
    settings: Sequence[Mapping[str, Any]],
    values: Sequence[float],
    deviations: Sequence[float | None],
    name: str,
    file: Path,
) -> None:
    """Draws the value of each setting, the best first, over each field that varies, a panel a field.

    A line joins the best of those that share a value; a ring marks the best of all.
    """
    fields = [field for field in settings[0] if len({repr(setting[field]) for setting in settings}) > 1]
    if not fields:
        return
    figure = _figure(max(4.5, 3.8 * len(fields)), 3.8)
    panels = np.atleast_1d(figure.subplots(1, len(fields), sharey=True))
    for axes, field in zip(panels, fields, strict=True):
        places = _places(axes, [setting[field] for setting in settings])
        best = dict(zip(places[::-1], values[::-1], strict=True))  # of those at one place, the first stays
        if len(best) <= max(len(places) // 2, 6):  # else they are numbers drawn at random
            axes.plot(*zip(*sorted(best.items()), strict=True), color="0.7", zorder=0)
        axes.errorbar(places, values, [each or 0.0 for each in deviations], fmt="o", markersize=5, elinewidth=1)
        axes.plot(places[0], values[0], "o", markersize=13, markerfacecolor="none", markeredgecolor="C3")
        axes.set_xlabel(field.replace("_", " "))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"{name.replace('_', ' ')} on validation")
    figure.savefig(file)


def _places(axes: Any, chosen: Sequence[Any]) -> list[float]:
    """Places values on the axis below: numbers where they are, by logarithm from a decade on, others side by side."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in chosen):
        if min(chosen) > 0 and max(chosen) >= 10 * min(chosen):
            axes.set_xscale("log")
        if len(set(chosen)) <= 6:
            axes.set_xticks(sorted(set(chosen)))
        axes.minorticks_off()
        axes.xaxis.set_major_formatter("{x:g}")
        return list(chosen)
    names = sorted({str(value) or "none" for value in chosen})
    axes.set_xticks(range(len(names)), [textwrap.fill(each, max(14, 60 // len(names))) for each in names], fontsize=7)
    axes.set_xlim(-0.5, len(names) - 0.5)
    return [names.index(str(value) or "none") for value in chosen]
