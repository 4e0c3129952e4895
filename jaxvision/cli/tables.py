"""Print rows as a table, as CSV or as JSON."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO


def cells(row: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Return the columns of a row: its own, labels joined into one, and those of runners-up, numbered from 2.

    >>> dict(cells({"file": "a.png", "class": "cat", "runners_up": [{"class": "dog"}]}))
    {'file': 'a.png', 'class': 'cat', 'class_2': 'dog'}
    """
    for name, value in row.items():
        if "labels" in row and isinstance(value, list):
            yield name, ", ".join(f"{each['label']} {each['probability']:.2f}" for each in value)
        elif isinstance(value, list):
            for number, other in enumerate(value, 2):
                yield from ((f"{what}_{number}", text) for what, text in cells(other))
        else:
            yield name, value if isinstance(value, str) else f"{value:.4f}"


def print_rows(rows: Sequence[dict[str, Any]], format: str = "table", file: TextIO | None = None) -> None:
    """Print rows as table, json or csv to the terminal or a file; rows may have different columns."""
    if format == "json":
        print(json.dumps(rows, indent=2), file=file)
        return
    shown = [dict(cells(row)) for row in rows]
    head = list(dict.fromkeys(name for row in shown for name in row))
    flat = [[row.get(name, "") for name in head] for row in shown]
    if format == "csv":
        csv.writer(file or sys.stdout).writerows([head, *flat])
        return
    widths = [max(len(row[i]) for row in [head, *flat]) for i in range(len(head))]
    for row in [head, *flat] if flat else []:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip(), file=file)
