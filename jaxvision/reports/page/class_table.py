"""The metrics of each class or label, in a table that sorts by any of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxvision.reports.page.html import Cell, Html, paragraph, section, table
from jaxvision.reports.page.page_data import PageData


def class_table(data: PageData) -> Html | None:
    """Return the table of classes or labels, the lowest recall first."""
    per_class = data.report.get("per_class")
    if data.form not in ("classes", "labels") or not per_class:
        return None
    fullest = max(per_class.values(), key=len)
    names = ["num_examples", *(name for name in fullest if name != "num_examples")]
    mistaken = _mistaken_for(data)
    rows = []
    for name in sorted(per_class, key=lambda each: per_class[each].get("recall", 2.0)):
        cells = [_shown(per_class[name].get(metric)) for metric in names]
        rows.append([name, *([mistaken[name]] if mistaken else []), *cells])
    heads = ["examples" if name == "num_examples" else name.replace("_", " ") for name in names]
    what = "class" if data.form == "classes" else "label"
    first = [what, "most often mistaken for"] if mistaken else [what]
    note = "The lowest recall comes first. Activate the head of a column to sort by it."
    content = table(f"Metrics of each {what}", [*first, *heads], rows, sortable=True, num_texts=len(first))
    return section("Classes" if data.form == "classes" else "Labels", "classes", paragraph(note, note=True), content)


def _shown(value: Any) -> Any:
    if value is None:
        return Cell("–", -1.0)
    return Cell(f"{int(value):,}", value) if isinstance(value, int) else Cell(f"{value:.3f}", value)


def _mistaken_for(data: PageData) -> dict[str, str]:
    """Return for each class the two that its examples are most often taken for, with counts; of labels, nothing."""
    if "confusion_matrix" not in data.report:
        return {}
    matrix = np.array(data.report["confusion_matrix"])
    np.fill_diagonal(matrix, 0)
    found = {}
    for name, row in zip(data.classes, matrix, strict=True):
        others = [int(i) for i in np.argsort(-row, kind="stable")[:2] if row[i]]
        found[name] = ", ".join(f"{data.classes[i]} ({row[i]})" for i in others)
    return found
