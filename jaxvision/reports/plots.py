"""Figures and images -> PNG files: the only file that imports matplotlib."""

from __future__ import annotations

import functools
import io
import itertools
import math
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# M. Okabe and K. Ito, Color Universal Design, 2008, without its yellow: all kinds of color vision tell these apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
IMAGE_INCHES = 1.9  # the longer side of an image among others
CAPTION_POINTS = 8
MOST_CHARACTERS = 40  # of a name beside or below a plot, which would leave no room for it
MOST_COUNTED = 20  # classes of a confusion matrix whose cells have room for their counts
NOT_DRAWN = {"step", "epoch", "split", "seconds", "data_wait_fraction", "waiting"}  # the last: as version 0.1 named it


def plainly(draw: Callable[..., None]) -> Callable[..., None]:
    """Return a function that draws names as they are: without mathematics, or warnings about glyphs of the font."""

    @functools.wraps(draw)
    def drawn(*args: Any, **options: Any) -> None:
        import matplotlib
        from matplotlib.rcsetup import cycler

        style: dict[Any, Any] = {"text.parse_math": False, "axes.prop_cycle": cycler("color", PALETTE)}
        with matplotlib.rc_context(style), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")
            draw(*args, **options)

    return drawn


def new_figure(width: float, height: float):
    """Return an empty figure of a size in inches."""
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def _inches(line: str) -> float:
    """Return the width of a line of a caption."""
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), line, size=CAPTION_POINTS).get_extents().width / 72 if line.strip() else 0.0


def shortened(name: str, *, length: int = 22) -> str:
    """Return a name without its middle if it is long, for a caption."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


@plainly
def confusion_matrix(matrix: np.ndarray, classes: Sequence[str], file: Path) -> None:
    """Draw a confusion matrix [C, C] of counts: rows are true classes, colors are fractions of each row.

    Up to MOST_COUNTED classes have their counts in the cells, more have a color bar.
    """
    from matplotlib.ticker import PercentFormatter

    size, has_counts = len(classes), len(classes) <= MOST_COUNTED
    names = [shortened(name) for name in classes]
    side = min(max(2.6, 0.46 * size), 10.0)
    fontsize = 9 if has_counts else 7.5
    cell, longest = side / size, 0.0085 * fontsize * max(map(len, names))  # inches
    figure = new_figure(
        side + longest + (1.0 if has_counts else 1.6), side + (longest if longest > cell else 0.2) + 0.6
    )
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(0, size, math.ceil(0.15 / cell))
    axes.set_yticks(places, [names[i] for i in places], fontsize=fontsize)
    axes.set_xticks(places, [names[i] for i in places], fontsize=fontsize)
    if longest > cell:
        axes.tick_params(axis="x", rotation=90)
    if has_counts:
        font = min(9.0, 90 * cell / max(len(f"{matrix.max()}"), 1))
        for i, j in np.argwhere(matrix):
            color = "w" if shares[i, j] > 0.5 else "k"
            axes.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=font, color=color)
    else:
        bar = figure.colorbar(shown, ax=axes, shrink=0.6, format=PercentFormatter(1))
        bar.set_label("fraction of the true class")
    axes.set_title(f"{matrix.sum():,} examples, accuracy {np.trace(matrix) / max(matrix.sum(), 1):.4f}", fontsize=9)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.savefig(file)


@plainly
def curves(
    rows: Sequence[dict[str, Any]], file: Path, *, first: Sequence[str], chosen_step: int, chosen_name: str
) -> None:
    """Draw each value of the rows of metrics.jsonl over epochs, train and validation in one panel.

    The values named by `first` are large, the others small, and the learning rate is last. A line marks the chosen
    step, which the legend names.
    """
    names = list(dict.fromkeys(name for row in rows for name in row if name not in NOT_DRAWN))
    if not names:
        return
    large = [name for name in first if name in names] or names[:1]
    small = sorted((name for name in names if name not in large), key=lambda name: name == "learning_rate")
    lines = math.ceil(len(small) / 4)
    columns = math.ceil(len(small) / max(lines, 1))
    figure = new_figure(9, 3.8 + 2.1 * lines)
    grid = figure.add_gridspec(1 + lines, 12, height_ratios=[1.6] + [1] * lines)
    span = 12 // len(large)
    panels = [figure.add_subplot(grid[0, span * i : span * (i + 1)]) for i in range(len(large))]
    for i in range(len(small)):
        row, column, width = 1 + i // columns, i % columns, 12 // columns
        panels.append(figure.add_subplot(grid[row, width * column : width * (column + 1)]))
    chosen = next((row["epoch"] for row in rows if row["step"] == chosen_step), None)
    handles: dict[str, Any] = {}
    for axes, name in zip(panels, [*large, *small], strict=True):
        for split, marker in (("train", "o"), ("validation", "s")):
            points = [(row["epoch"], row[name]) for row in rows if row["split"] == split and name in row]
            if points:
                color = "0.3" if name == "learning_rate" else PALETTE[split == "validation"]
                shown = {"marker": marker, "markersize": 3} if len(points) < 40 else {}
                (line,) = axes.plot(*zip(*points, strict=True), color=color, label=split, **shown)
                if name != "learning_rate":
                    handles.setdefault(split, line)
        if chosen is not None:
            marked = axes.axvline(chosen, color="0.5", linestyle="--", zorder=0)
            handles[f"{chosen_name}, step {chosen_step}, epoch {chosen:.4g}"] = marked
        axes.set_title(name.replace("_", " "), fontsize=11 if name in large else 9)
        axes.set_xlabel("epoch", fontsize=10 if name in large else 8)
        axes.tick_params(labelsize=9 if name in large else 7)
        axes.grid(alpha=0.3)
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=len(handles))
    figure.savefig(file)


@plainly
def images(inputs: np.ndarray, captions: Sequence[str], file: Path, *, columns: int = 5) -> None:
    """Draw images [N, H, W, C], uint8 or floats in 0..1, each below its caption, in at most so many columns."""
    columns = min(columns, len(inputs))
    rows = -(-len(inputs) // columns)
    lines = [line for caption in captions for line in caption.split("\n")]
    above = 0.08 + 0.15 * max((caption.count("\n") + 1 for caption in captions if caption), default=0)
    height, width = (IMAGE_INCHES * side / max(inputs.shape[1:3]) for side in inputs.shape[1:3])
    column, row = max(IMAGE_INCHES, *map(_inches, lines)) + 0.1, above + height + 0.05  # inches
    total = column * columns, row * rows
    figure = new_figure(*total)
    figure.set_layout_engine("none")
    for index, (image, caption) in enumerate(zip(inputs, captions, strict=True)):
        left, bottom = (index % columns + 0.5) * column - width / 2, total[1] - index // columns * row - above - height
        axes = figure.add_axes((left / total[0], bottom / total[1], width / total[0], height / total[1]))
        axes.axis("off")
        white = 255 if image.dtype == np.uint8 else 1  # else greys would be spread from black to white
        image = image.squeeze(-1) if image.shape[-1] == 1 else image
        axes.imshow(image, cmap="gray", vmin=0, vmax=white, interpolation="nearest")
        axes.set_title(caption, fontsize=CAPTION_POINTS, pad=3)
    figure.savefig(file)


def png(image: np.ndarray) -> bytes:
    """Return an image [H, W, C] as the content of a PNG file."""
    from matplotlib.image import imsave

    file = io.BytesIO()
    imsave(file, image, format="png")
    return file.getvalue()


@plainly
def scatter(targets: np.ndarray, predictions: np.ndarray, file: Path) -> None:
    """Draw predictions [N] over targets [N], and the line on which they would agree."""
    figure = new_figure(4.5, 4.5)
    axes = figure.subplots()
    axes.scatter(targets, predictions, s=12, alpha=0.6, linewidths=0)
    middle = float(np.mean(targets))
    axes.axline((middle, middle), slope=1, color="0.6", linestyle="--", zorder=0)
    axes.locator_params(axis="x", nbins=4)  # so that long numbers stay apart
    axes.set_xlabel("target")
    axes.set_ylabel("prediction")
    axes.grid(alpha=0.3)
    figure.savefig(file)


@plainly
def forecast(
    targets: np.ndarray,
    predictions: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    names: Sequence[str],
    file: Path,
) -> None:
    """Draw a series [N], what was predicted of it one step ahead, and what simple rules would have said."""
    figure = new_figure(10, 4)
    axes = figure.subplots()
    steps = np.arange(len(targets))
    axes.plot(steps, targets, color="k", label="target")
    axes.plot(steps, predictions, color=PALETTE[1], label="prediction")
    for (name, values), color in zip(baselines.items(), itertools.cycle((PALETTE[0], *PALETTE[2:-1]))):
        axes.plot(steps, values, color=color, linewidth=1.1, linestyle=":", label=name, zorder=1)
    _name_steps(axes, names)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=min(2 + len(baselines), 4))
    figure.savefig(file)


def _name_steps(axes: Any, names: Sequence[str]) -> None:
    """Write the names of as many steps as have room, evenly spread, below the axis, where there are any."""
    if len(names):
        texts = [shortened(str(name), length=MOST_CHARACTERS) for name in names]
        room = 100 // (3 + max(map(len, texts)))  # of names side by side
        shown = np.unique(np.linspace(0, len(names) - 1, min(max(room, 2), 8), dtype=int))
        axes.set_xticks(shown.tolist(), [texts[i] for i in shown.tolist()])


@plainly
def series(by_split: Mapping[str, np.ndarray], names: Sequence[str], file: Path) -> None:
    """Draw a series whose parts, one after the other, are splits; `names` are those of all its steps, or none."""
    figure = new_figure(10, 4)
    axes = figure.subplots()
    start = 0
    for name, values in by_split.items():
        axes.plot(np.arange(start, start + len(values)), values, linewidth=1, label=name)
        start += len(values)
    _name_steps(axes, names)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file)


@plainly
def counts(by_split: Mapping[str, Sequence[int]], classes: Sequence[str], file: Path) -> None:
    """Draw how many examples each class, or tag, has in each split."""
    figure = new_figure(7, min(max(2.5, 0.22 * len(classes)), 30))
    axes = figure.subplots()
    places, left = np.arange(len(classes)), np.zeros(len(classes))
    for name, values in by_split.items():
        axes.barh(places, values, left=left, label=name)
        left = left + np.array(values)
    if len(classes) <= 150:
        axes.set_yticks(places, [shortened(name, length=MOST_CHARACTERS) for name in classes], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("examples")
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside upper right", ncols=len(by_split))
    figure.savefig(file)


@plainly
def histogram(by_split: Mapping[str, np.ndarray], file: Path) -> None:
    """Draw how the numbers of each split spread, a panel a split: the fraction of its examples in each bin."""
    from matplotlib.ticker import PercentFormatter

    everything = np.concatenate(list(by_split.values()))
    edges = np.histogram_bin_edges(everything, bins=int(np.clip(len(everything) ** 0.5, 5, 40)))
    figure = new_figure(7, 0.5 + 1.7 * len(by_split))
    panels = np.atleast_1d(figure.subplots(len(by_split), sharex=True, sharey=True))
    for index, (axes, (name, values)) in enumerate(zip(panels, by_split.items(), strict=True)):
        axes.stairs(np.histogram(values, edges)[0] / len(values), edges, fill=True, color=f"C{index}")
        axes.set_title(f"{name}, {len(values):,} examples", fontsize=9)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("target")
    figure.supylabel("fraction of the split", fontsize=10)
    figure.savefig(file)


@plainly
def choices(
    settings: Sequence[Mapping[str, Any]],
    values: Sequence[float],
    deviations: Sequence[float | None],
    name: str,
    file: Path,
) -> None:
    """Draw the value of each setting, the best first, over each field that varies, a panel a field.

    A line joins the best of those that share a value; a ring marks the best of all.
    """
    fields = [field for field in settings[0] if len({repr(setting[field]) for setting in settings}) > 1]
    if not fields:
        return
    figure = new_figure(max(4.5, 3.8 * len(fields)), 3.8)
    panels = np.atleast_1d(figure.subplots(1, len(fields), sharey=True))
    for axes, field in zip(panels, fields, strict=True):
        places = _places(axes, [setting[field] for setting in settings])
        best = dict(zip(places[::-1], values[::-1], strict=True))  # of those at one place, the first stays
        if len(best) <= max(len(places) // 2, 6):  # else they are numbers drawn at random
            axes.plot(*zip(*sorted(best.items()), strict=True), color="0.7", zorder=0)
        axes.errorbar(places, values, [each or 0.0 for each in deviations], fmt="o", markersize=5, elinewidth=1)
        axes.plot(places[0], values[0], "o", markersize=13, markerfacecolor="none", markeredgecolor=PALETTE[1])
        axes.set_xlabel(field.replace("_", " "))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"{name.replace('_', ' ')} on validation")
    figure.savefig(file)


def _places(axes: Any, chosen: Sequence[Any]) -> list[float]:
    """Place values on the axis below: numbers where they are, by logarithm from a decade on, others side by side."""
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
