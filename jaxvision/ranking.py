"""Rank the configurations of a sweep by the rows of their trials, and format them as a table."""

from __future__ import annotations

import json
import math
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxvision import search_space as spaces
from jaxvision.config import Config
from jaxvision.interfaces import Monitor

Row = dict[str, Any]


class Sweep(NamedTuple):
    """The result of a sweep: one row per configuration, the best first, the best config, and the workdir."""

    rows: list[Row]
    best: Config
    workdir: Path

    def __repr__(self) -> str:
        return f"Sweep(workdir={str(self.workdir)!r}, {self._title()})"

    def _title(self) -> str:
        best = self.rows[0]
        result = f"{best['name']} {best['value']:.4f} by {spaces.describe(best['setting'])}"
        return f"{len(self.rows)} configurations, best {result}"

    def _repr_html_(self) -> str:
        from jaxvision.reports import notebook

        return notebook.sweep(table(self), f"{self._title()}, in {self.workdir}")


def rank(rows: Sequence[Row]) -> list[Row]:
    """Group the rows of trials by configuration and sort by mean, best first; configurations with failures come last.

    Raises ValueError if all trials failed, or if their metrics differ.
    """
    monitors = {(row["name"], row["direction"]) for row in rows if "error" not in row}
    if not monitors:
        raise ValueError(f"all {len(rows)} trials failed; the first: {rows[0]['error']}")
    if len(monitors) > 1:
        raise ValueError(
            f"cannot rank by both {' and '.join(sorted(name for name, _ in monitors))}; run one sweep per task"
        )
    monitor = Monitor(*monitors.pop())
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(json.dumps(row["setting"]), []).append(row)
    gathered = [_gathered(group, monitor.name) for group in groups.values()]

    def order(row: Row) -> tuple[bool, float]:
        return row["error"] is None, -math.inf if row["value"] is None else monitor.key(row["value"])

    return sorted(gathered, key=order, reverse=True)


def _gathered(group: list[Row], name: str) -> Row:
    """Return the row of a configuration: mean and standard deviation over its trials, and their total time."""
    good = [row for row in group if "error" not in row]
    errors = [row["error"] for row in group if "error" in row]
    values = [row["value"] for row in good]
    prefix = f"{len(errors)} of {len(group)}: " if len(group) > 1 else ""
    return {
        "setting": group[0]["setting"],
        "name": name,
        "value": statistics.mean(values) if values else None,
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "steps": round(statistics.mean(row["steps"] for row in good)) if good else None,
        "seconds": sum(row["seconds"] for row in good),
        "error": f"{prefix}{errors[0]}" if errors else None,
        "trials": [row["trial"] for row in group],
    }


def table(sweep: Sweep) -> list[dict[str, str]]:
    """Return the cells of a table, one row per configuration, with the fields that vary."""
    settings = [row["setting"] for row in sweep.rows]
    varied = [name for name in settings[0] if len({repr(setting[name]) for setting in settings}) > 1]
    failed = any(row["error"] for row in sweep.rows)
    return [
        {
            row["name"]: _figure(row["value"], row["deviation"]),
            **{name: repr(row["setting"][name]) for name in varied},
            "steps": "" if row["steps"] is None else str(row["steps"]),
            "seconds": f"{row['seconds']:.1f}",
            **({"failed": textwrap.shorten(row["error"] or "", 80, placeholder=" …")} if failed else {}),
        }
        for row in sweep.rows
    ]


def _figure(value: float | None, deviation: float | None) -> str:
    spread = "" if deviation is None else f" ± {deviation:.4f}"
    return "" if value is None else f"{value:.4f}{spread}"
