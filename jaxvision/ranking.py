"""The rows of a sweep's trials -> a row for each setting, the best first, and a table of them."""

from __future__ import annotations

import json
import math
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxvision import space as spaces
from jaxvision.config import Config
from jaxvision.interfaces import Monitor

Row = dict[str, Any]


class Sweep(NamedTuple):
    """What a sweep gives: a row for each setting, the best first, the config of the best, the workdir."""

    rows: list[Row]
    best: Config
    workdir: Path

    def __repr__(self) -> str:
        best = self.rows[0]
        told = f"{best['name']} {best['value']:.4f} by {spaces.describe(best['setting'])}"
        return f"Sweep(workdir={str(self.workdir)!r}, {len(self.rows)} settings, best {told})"


def best_evaluation(history: Sequence[Row], monitor: Monitor) -> tuple[float, int] | None:
    """Return the best finite value of that name on validation, and its step; of equals the last. None for none."""
    values = [(row.get(monitor.name, math.nan), row["step"]) for row in history if row["split"] == "validation"]
    values = [(value, step) for value, step in values if math.isfinite(value)]
    return max(values, key=lambda each: (monitor.key(each[0]), each[1]), default=None)


def rank(rows: Sequence[Row]) -> list[Row]:
    """Gather the rows of trials by setting, and sort these, the best mean first and last those where a trial failed.

    Raise ValueError where all trials failed, or are judged by values of different names.
    """
    judged = {(row["name"], row["direction"]) for row in rows if "error" not in row}
    if not judged:
        raise ValueError(f"all {len(rows)} trials failed; the first: {rows[0]['error']}")
    if len(judged) > 1:
        raise ValueError(f"no ranking by {' and '.join(sorted(name for name, _ in judged))}: sweep the tasks apart")
    monitor = Monitor(*judged.pop())
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(json.dumps(row["setting"]), []).append(row)
    gathered = [_gathered(group, monitor.name) for group in groups.values()]

    def order(row: Row) -> tuple[bool, float]:
        return row["error"] is None, -math.inf if row["value"] is None else monitor.key(row["value"])

    return sorted(gathered, key=order, reverse=True)


def _gathered(group: list[Row], name: str) -> Row:
    """Return the row of a setting: mean and standard deviation over its trials, and what they took together."""
    good = [row for row in group if "error" not in row]
    errors = [row["error"] for row in group if "error" in row]
    values = [row["value"] for row in good]
    share = f"{len(errors)} of {len(group)}: " if len(group) > 1 else ""
    return {
        "setting": group[0]["setting"],
        "name": name,
        "value": statistics.mean(values) if values else None,
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "steps": round(statistics.mean(row["steps"] for row in good)) if good else None,
        "seconds": sum(row["seconds"] for row in good),
        "error": f"{share}{errors[0]}" if errors else None,
        "trials": [row["trial"] for row in group],
    }


def table(found: Sweep) -> list[dict[str, str]]:
    """Return the cells of a table: a row for each setting, with those fields that vary."""
    settings = [row["setting"] for row in found.rows]
    varied = [name for name in settings[0] if len({repr(setting[name]) for setting in settings}) > 1]
    failed = any(row["error"] for row in found.rows)
    return [
        {
            row["name"]: _figure(row["value"], row["deviation"]),
            **{name: repr(row["setting"][name]) for name in varied},
            "steps": "" if row["steps"] is None else str(row["steps"]),
            "seconds": f"{row['seconds']:.1f}",
            **({"failed": textwrap.shorten(row["error"] or "", 80, placeholder=" …")} if failed else {}),
        }
        for row in found.rows
    ]


def _figure(value: float | None, deviation: float | None) -> str:
    spread = "" if deviation is None else f" ± {deviation:.4f}"
    return "" if value is None else f"{value:.4f}{spread}"
