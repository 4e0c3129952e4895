"""Charts as SVG: lines, bars and points between labeled axes, told apart by dashes and shapes as well as by color."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxvision.reports.page.html import Html, details, join, table, tag

STYLES = ("", "second", "third", "fourth")
DASHES = {"": None, "second": "7 4", "third": "2 3", "fourth": "10 3 2 3"}
LEFT, RIGHT, TOP, BOTTOM = 74, 14, 30, 44  # pixels around the plot
MOST_ROWS = 25  # of a table that stands for a chart
MOST_MARKED = 30  # points of a line that are marked

Point = tuple[float, float]
Range = tuple[float, float]


class Line(NamedTuple):
    """A line of a chart: its name, its points, and its style, one of STYLES."""

    name: str
    points: Sequence[Point]
    style: str = ""


class Axes(NamedTuple):
    """The plane of a chart: its ranges in data, its size in pixels, and the names of the axes."""

    x_range: Range
    y_range: Range
    x_label: str
    y_label: str
    width: int = 460
    height: int = 300

    def x(self, value: float) -> float:
        """Return the place of a value on the horizontal axis."""
        low, high = self.x_range
        return LEFT + (self.width - LEFT - RIGHT) * (value - low) / ((high - low) or 1)

    def y(self, value: float) -> float:
        """Return the place of a value on the vertical axis."""
        low, high = self.y_range
        return self.height - BOTTOM - (self.height - TOP - BOTTOM) * (value - low) / ((high - low) or 1)


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return round numbers in a range.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(3, 3)
    [3]
    """
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def range_of(values: Sequence[float], *, margin: float = 0.04) -> Range:
    """Return a range around finite values, with a margin."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    pad = (high - low) * margin or abs(low) * margin or 1.0
    return low - pad, high + pad


def chart(title: str, axes: Axes, *marks: Html, legend: Sequence[Line] = ()) -> Html:
    """Return a chart with marks on its plane. The legend names lines that differ in style."""
    shown = [_frame(axes), *marks, tag("text", title, x=LEFT, y=14, class_="heading")]
    box = f"0 0 {axes.width} {axes.height + 18 * bool(legend)}"
    made = tag("svg", *shown, _legend(legend, axes), viewBox=box, width=axes.width, role="img", aria_label=title)
    return tag("figure", made)


def _frame(axes: Axes) -> Html:
    """Return grid lines, numbers and names of the axes."""
    parts = []
    bottom, right = axes.height - BOTTOM, axes.width - RIGHT
    for value in ticks(*axes.y_range):
        y = _n(axes.y(value))
        parts.append(tag("path", d=f"M{LEFT} {y}H{right}", class_="grid"))
        parts.append(tag("text", number(value), x=LEFT - 6, y=_n(axes.y(value) + 4), text_anchor="end", class_="pale"))
    for value in ticks(*axes.x_range):
        x = _n(axes.x(value))
        parts.append(tag("path", d=f"M{x} {bottom}v4", class_="axis"))
        parts.append(tag("text", number(value), x=x, y=bottom + 17, text_anchor="middle", class_="pale"))
    parts.append(tag("path", d=f"M{LEFT} {bottom}H{right}", class_="axis"))
    middle = _n((LEFT + right) / 2)
    parts.append(tag("text", axes.x_label, x=middle, y=bottom + 35, text_anchor="middle"))
    place = f"translate(12 {_n((TOP + bottom) / 2)}) rotate(-90)"
    parts.append(tag("text", axes.y_label, transform=place, text_anchor="middle"))
    return join(parts)


def _legend(lines: Sequence[Line], axes: Axes) -> Html:
    parts, x, y = [], float(LEFT), axes.height + 8
    for line in lines:
        parts.append(
            tag("path", d=f"M{_n(x)} {y}h24", class_=f"line {line.style}", stroke_dasharray=DASHES[line.style])
        )
        parts.append(tag("text", line.name, x=_n(x + 29), y=y + 4))
        x += 46 + 6.6 * len(line.name)
    return join(parts)


def line(drawn: Line, axes: Axes, *, has_marks: bool | None = None) -> Html:
    """Return a line; few points are marked."""
    points = [(axes.x(x), axes.y(y)) for x, y in drawn.points if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return Html("")
    path = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
    parts = [tag("path", d=path, class_=f"line {drawn.style}", stroke_dasharray=DASHES[drawn.style])]
    if len(points) <= MOST_MARKED if has_marks is None else has_marks:
        parts += [shape(x, y, drawn.style) for x, y in points]
    return join(parts)


def shape(x: float, y: float, style: str = "", *, size: float = 3.0, title: str | None = None) -> Html:
    """Return a mark at a place in pixels: a circle, square, triangle or diamond, by style."""
    inside = () if title is None else (tag("title", title),)
    name, s = f"mark {style}", size
    if style == "second":
        return tag("rect", *inside, x=_n(x - s), y=_n(y - s), width=_n(2 * s), height=_n(2 * s), class_=name)
    if style == "third":
        return tag(
            "path", *inside, d=f"M{_n(x)} {_n(y - 1.3 * s)}l{_n(1.3 * s)} {_n(2.3 * s)}h{_n(-2.6 * s)}z", class_=name
        )
    if style == "fourth":
        r = _n(1.4 * s)
        d = f"M{_n(x)} {_n(y - 1.4 * s)}l{r} {r}l-{r} {r}l-{r} -{r}z"
        return tag("path", *inside, d=d, class_=name)
    return tag("circle", *inside, cx=_n(x), cy=_n(y), r=_n(s), class_=name)


def bar(low: float, high: float, height: float, axes: Axes, *, title: str) -> Html:
    """Return a bar over a part of the horizontal axis."""
    x, y = axes.x(low), axes.y(height)
    bottom, width = axes.y(axes.y_range[0]), axes.x(high) - axes.x(low)
    size = {"width": _n(max(width, 0)), "height": _n(max(bottom - y, 0))}
    return tag("rect", tag("title", title), x=_n(x), y=_n(y), **size, class_="bar")


def diagonal(axes: Axes) -> Html:
    """Return the line of equal values."""
    low, high = max(axes.x_range[0], axes.y_range[0]), min(axes.x_range[1], axes.y_range[1])
    path = f"M{_n(axes.x(low))} {_n(axes.y(low))}L{_n(axes.x(high))} {_n(axes.y(high))}"
    return tag("path", d=path, class_="axis", stroke_dasharray="4 4")


def line_chart(title: str, lines: Sequence[Line], axes: Axes, *marks: Html) -> Html:
    """Return a chart of lines with their legend, and a folded table of the values."""
    drawn = chart(title, axes, *marks, *(line(each, axes) for each in lines), legend=lines if len(lines) > 1 else ())
    rows = [[each.name, number(x), number(y)] for each in lines for x, y in thinned(each.points, MOST_ROWS)]
    values = table(f"{title}: values", ["line", axes.x_label, axes.y_label], rows)
    return tag("div", drawn, details(f"{title} as a table", values))


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most so many of the points, evenly spaced, the ends among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def number(value: float) -> str:
    """Return a number as text.

    >>> number(0.30000000000000004), number(12345.6), number(2013.0), number(1e-9)
    ('0.3', '12,346', '2013', '1e-09')
    """
    is_long = 1e4 <= abs(value) < 1e15
    return (
        f"{value:,.0f}"
        if is_long
        else f"{value:.0f}"
        if abs(value) < 1e4 and float(value).is_integer()
        else f"{value:.4g}"
    )


def _n(value: float) -> str:
    """Return a place in pixels, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")
