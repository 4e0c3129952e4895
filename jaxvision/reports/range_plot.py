"""Draw a learning-rate range test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxvision.reports.plots import new_figure, plainly


@plainly
def range_test(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], chosen: float, file: Path
) -> None:
    """Draw the losses over the learning rate, on a logarithmic axis, and mark the chosen rate."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    axes.plot(rates, losses, color="0.75", label="loss of a step")
    axes.plot(rates, smoothed, label="smoothed")
    axes.axvline(chosen, color="0.3", linestyle="--", label=f"learning rate {chosen:.2g}")
    least, most = min(smoothed), max(smoothed[0], min(smoothed))
    axes.set_ylim(least - 0.1 * (most - least), most + 0.5 * (most - least))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(file)
