"""Figures and images -> PNG files: the only file that knows matplotlib."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
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
    skipped = {"step", "epoch", "split", "seconds"}
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
    """Draws images [N, H, W, C], uint8 or floats in 0..1, in a grid, each below its caption."""
    rows = -(-len(inputs) // columns)
    figure = _figure(2 * columns, 2.5 * rows)
    panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, image, caption in zip(panels, inputs, captions, strict=False):
        axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", interpolation="nearest")
        axes.set_title(caption, fontsize=8)
    figure.savefig(file)
