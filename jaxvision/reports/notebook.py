"""Results -> HTML tables for notebooks, in which every name is escaped, and the dict that a report is."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvision import image_files
from jaxvision.interfaces import Preprocessing
from jaxvision.reports import plots, terminal

Row = Mapping[str, Any]
MOST_ROWS = 20  # of predictions, and of the history of a run
MOST_CLASSES = 100
THUMBNAIL = Preprocessing(size=(48, 48), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


class Report(dict[str, Any]):
    """The content of report.json: a dict, which a notebook shows as tables."""

    def __repr__(self) -> str:
        return f"Report({_title(self)}; {len(self)} entries: {', '.join(self)})"

    def _repr_html_(self) -> str:
        return report(self)


def report(found: Mapping[str, Any]) -> str:
    """Return a report as HTML: its headline, its figures beside those it compares with, and those of each class."""
    compared = [(str(found.get("split", "")), found), ("train", found.get("train", {}))]
    compared += [*found.get("members", {}).items(), *found.get("baseline", {}).items()]
    names = list(terminal.figures(dict(found)))
    figures = [{"": name, **{each: part.get(each, "") for each in names}} for name, part in compared if part]
    parts = [f"<p><b>{html.escape(_title(found))}</b></p>", table(figures)]
    if "per_class" in found:
        rows = [{"class": name, **scores} for name, scores in found["per_class"].items()]
        means = [name for name in ("macro", "micro", "weighted") if name in found]
        parts.append(table([*rows[:MOST_CLASSES], *({"class": f"{name} mean", **found[name]} for name in means)]))
        parts.append(_more(len(rows) - MOST_CLASSES, "classes"))
    if found.get("absent_classes"):
        parts.append(f"<p>{html.escape(terminal.absent_line(dict(found)))}</p>")
    if found.get("most_confused"):
        parts += ["<p>most confused</p>", table(found["most_confused"])]
    return "".join(parts)


def result_text(found: tuple[Sequence[Row], Report | None, Path, Report | None]) -> str:
    """Return what training returned as one line."""
    history, test, workdir, validation = found
    shown = f"test={terminal.headline(test) if test else 'none'}"
    shown += f", validation={terminal.headline(validation)}" if validation else ""
    return f"Result(workdir={str(workdir)!r}, {shown}, history of {len(history)} rows)"


def result_html(found: tuple[Sequence[Row], Report | None, Path, Report | None]) -> str:
    """Return what training returned as HTML: the report, and the last rows of metrics.jsonl."""
    history, test, workdir, validation = found
    test = test or validation
    title = f"<p>workdir <code>{html.escape(str(workdir))}</code>, history of {len(history)} rows</p>"
    return f"{report(test) if test else ''}{title}{table(history[-MOST_ROWS:])}"


def sweep(rows: Sequence[Row], title: str) -> str:
    """Return the rows of a sweep as HTML, below its title."""
    return f"<p><b>{html.escape(title)}</b></p>{table(rows)}"


def predictions(rows: Sequence[Row], errors: Mapping[str, str], *, total: int) -> str:
    """Return rows of predictions as HTML, with thumbnails of those that are image files, and what was unreadable."""
    parts = [table(rows, pictures=[_thumbnail(row["file"]) for row in rows]), _more(total - len(rows), "inputs")]
    if errors:
        unreadable = [{"unreadable file": name, "error": why} for name, why in errors.items()]
        parts += [table(unreadable[:MOST_ROWS]), _more(len(errors) - MOST_ROWS, "unreadable files")]
    return "".join(parts)


def table(rows: Sequence[Row], *, pictures: Sequence[str] = ()) -> str:
    """Return rows as an HTML table with the columns that they have, and the addresses of pictures in front."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    has_pictures = any(pictures)
    heads = _cells("th", [""] * has_pictures + [name.replace("_", " ") for name in names])
    lines = []
    for index, row in enumerate(rows):
        image = f'<img src="{pictures[index]}" alt="">' if has_pictures and pictures[index] else ""
        cells = _cells("td", [_text(row.get(name, "")) for name in names])
        lines.append(f"<tr>{f'<td>{image}</td>' if has_pictures else ''}{cells}</tr>")
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>" if rows else ""


def _title(found: Mapping[str, Any]) -> str:
    """Return the headline of a report with its value, and what it is about."""
    headline = terminal.headline(dict(found))
    is_placed = {"split", "num_examples"} <= found.keys()
    place = f"{terminal.split_name(found['split'])} of {found['num_examples']:,}" if is_placed else ""
    return " on ".join(part for part in (headline, place) if part) or "empty"


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)


def _text(value: Any) -> str:
    """Return a value as people read it: four decimals, and of a prediction with its probability, both.

    >>> _text([{"class": "cat", "probability": 0.25}, {"class": "dog", "probability": 0.125}]), _text(0.5)
    ('cat 25.0%, dog 12.5%', '0.5000')
    """
    if isinstance(value, Mapping):
        return " ".join(f"{each:.1%}" if name == "probability" else _text(each) for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)


def _more(count: int, what: str) -> str:
    return f"<p>and {count:,} more {what}</p>" if count > 0 else ""


def _thumbnail(name: str) -> str:
    """Return the address of a small copy of an image file, empty if the name is that of none."""
    try:
        image = image_files.read_image(name, THUMBNAIL, is_scaled=True)
    except (ValueError, OSError):
        return ""
    return f"data:image/png;base64,{base64.b64encode(plots.png(image)).decode()}"
