"""Predicted numbers: truth against prediction, the distribution of errors, and a series over its steps."""

from __future__ import annotations

import numpy as np

from jaxvision.reports.page.html import Html, details, paragraph, section, table, tag
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.svg import (
    STYLES,
    Axes,
    Line,
    bar,
    chart,
    diagonal,
    line_chart,
    number,
    range_of,
    shape,
)

MOST_POINTS = 1000
MOST_STEPS = 200  # of a series, the last ones
NUM_BARS = 25


def numbers(data: PageData) -> Html | None:
    """Return charts of predicted numbers."""
    if data.form != "numbers":
        return None
    targets, predictions = (
        np.asarray(values, np.float64) for values in data.split.in_original_units(data.outputs.predictions)
    )
    charts = [_scatter(data, targets, predictions), _errors(predictions - targets)]
    series = _series(data, targets, predictions) if data.split.ordered else None
    shown = f"{min(len(targets), MOST_POINTS):,} of {len(targets):,} examples are drawn as points."
    return section(
        "Predictions and errors", "numbers", series, tag("div", *charts, class_="charts"), paragraph(shown, note=True)
    )


def _scatter(data: PageData, targets: np.ndarray, predictions: np.ndarray) -> Html:
    both = range_of([*targets.tolist(), *predictions.tolist()])
    axes = Axes(both, both, "true value", "predicted", width=420, height=380)
    chosen = np.unique(np.linspace(0, len(targets) - 1, min(len(targets), MOST_POINTS), dtype=int)).tolist()
    points = [(i, float(targets[i]), float(predictions[i])) for i in chosen]
    marks = [
        shape(axes.x(x), axes.y(y), size=2.2, title=f"{data.name(i)}: true {number(x)}, predicted {number(y)}")
        for i, x, y in points
    ]
    return chart("Truth and prediction", axes, diagonal(axes), *marks)


def _errors(errors: np.ndarray) -> Html:
    counts, edges = np.histogram(errors, NUM_BARS)
    axes = Axes(
        (float(edges[0]), float(edges[-1])),
        (0.0, counts.max() * 1.05),
        "predicted minus true",
        "examples",
        width=420,
        height=380,
    )
    spans = list(zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True))
    marks = [bar(a, b, n, axes, title=f"{number(a)} to {number(b)}: {n:,}") for a, b, n in spans if n]
    drawn = chart("Errors", axes, *marks)
    quantiles = np.quantile(errors, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
    rows = [
        [name, number(value)] for name, value in zip(("5 %", "25 %", "50 %", "75 %", "95 %"), quantiles, strict=True)
    ]
    return tag(
        "div", drawn, details("Quantiles of the errors", table("Quantiles of the errors", ["quantile", "error"], rows))
    )


def _series(data: PageData, targets: np.ndarray, predictions: np.ndarray) -> Html:
    """Return the last steps of a series with its predictions and those of simple rules."""
    start = max(len(targets) - MOST_STEPS, 0)
    known = {"true": targets, "predicted": predictions, **data.split.baselines}
    lines = [
        Line(name, [(float(i), float(values[i])) for i in range(start, len(targets))], style)
        for (name, values), style in zip(known.items(), STYLES, strict=False)
    ]
    span = (float(start), float(len(targets) - 1))
    values = range_of([y for each in lines for _, y in each.points])
    axes = Axes(span, values, "step of the split", "value", width=880, height=320)
    return line_chart(f"The last {len(targets) - start} steps", lines, axes)
