"""Draw metrics over the number of training examples."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxvision.reports.plots import MOST_CHARACTERS, new_figure, plainly, shortened

Point = tuple[float, float, float | None]  # number of examples, value, and half the length of its error bar


@plainly
def over_examples(
    lines: Mapping[str, Sequence[Point]],
    file: Path,
    *,
    label: str,
    value: str = "accuracy",
    title: str = "",
    chance: float | None = None,
) -> None:
    """Draw named lines of points with error bars over the number of examples, on a logarithmic axis.

    `label` names the number, `value` the metric, and `chance` is the value of a constant prediction, drawn dotted.
    """
    figure = new_figure(6, 4)
    axes = figure.subplots()
    counts = sorted({count for points in lines.values() for count, _, _ in points})
    for index, (name, points) in enumerate(lines.items()):
        shift = 1 + 0.015 * (index - (len(lines) - 1) / 2)  # so that error bars of one number stay apart
        places, values = [count * shift for count, _, _ in points], [middle for _, middle, _ in points]
        bars = [half or 0.0 for _, _, half in points]
        style = {"marker": "osD^vPX"[index % 7], "markersize": 4.5, "capsize": 2.5, "elinewidth": 1}
        axes.errorbar(places, values, bars, label=shortened(name, length=MOST_CHARACTERS), **style)
    if chance is not None:
        axes.axhline(chance, color="0.6", linestyle=":", label="chance", zorder=0)
    axes.set_xscale("log")
    axes.set_xticks(counts)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:g}")
    if len(counts) == 1:
        axes.set_xlim(counts[0] / 2, counts[0] * 2)
    axes.set_xlabel(label)
    axes.set_ylabel(value)
    axes.set_title(textwrap.fill(title, 80), fontsize=9)
    axes.grid(alpha=0.3)
    if len(lines) > 1 or chance is not None:
        axes.legend(fontsize=8)
    figure.savefig(file)
