"""The curves of training: loss and metrics over epochs."""

from __future__ import annotations

import math

from jaxvision.reports.page.html import Html, escaped, paragraph, section, tag
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.svg import BOTTOM, TOP, Axes, Line, line_chart, range_of, thinned

NOT_DRAWN = {"step", "epoch", "split", "seconds", "data_wait_fraction", "waiting", "count"}
MOST_CHARTS = 6
MOST_POINTS = 300  # of a line


def curves(data: PageData) -> Html | None:
    """Return charts of loss, headline and further values over epochs, training and validation in one."""
    names = list(dict.fromkeys(name for row in data.rows for name in row if name not in NOT_DRAWN))
    first = [name for name in ("loss", data.report.get("headline")) if name in names]
    ordered = [*first, *sorted((n for n in names if n not in first), key=lambda n: n == "learning_rate")]
    charts = [_chart(data, name) for name in ordered[:MOST_CHARTS]]
    charts = [chart for chart in charts if chart is not None]
    if not charts:
        return None
    left_out = [escaped(name.replace("_", " ")) for name in ordered[MOST_CHARTS:]]
    more = f" Not drawn here, but in metrics.jsonl: {', '.join(left_out)}." if left_out else ""
    note = f"The vertical line marks the checkpoint that this page is about, step {data.report.get('step', 0):,}.{more}"
    return section("Curves", "curves", paragraph(note, note=True), tag("div", *charts, class_="charts"))


def _chart(data: PageData, name: str) -> Html | None:
    lines = []
    for split, style in (("train", ""), ("validation", "second")):
        rows = [row for row in data.rows if row["split"] == split and name in row]
        points = [(float(row["epoch"]), float(row[name])) for row in rows]
        points = [point for point in points if math.isfinite(point[1])]
        if points:
            lines.append(Line(split, thinned(points, MOST_POINTS), style))
    if not lines:
        return None
    values = [y for each in lines for _, y in each.points]
    last = max(x for each in lines for x, _ in each.points)
    words = name.replace("_", " ")
    axes = Axes((0.0, math.ceil(last) or 1.0), range_of(values), "epoch", words)
    chosen = next((row["epoch"] for row in data.rows if row["step"] == data.report.get("step")), None)
    marks = []
    if chosen is not None:
        x = axes.x(chosen)
        marks.append(tag("path", d=f"M{x:.1f} {TOP}V{axes.height - BOTTOM}", class_="axis", stroke_dasharray="3 3"))
    return line_chart(words, lines, axes, *marks)
