"""When training ends early."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxvision.engine.logs import Row
from jaxvision.interfaces import Monitor


def is_exhausted(rows: Sequence[Row], monitor: Monitor, patience: int) -> bool:
    """Says whether the last `patience` evaluations on validation were all no better than one before them.

    >>> rows = [{"split": "validation", "accuracy": value} for value in (0.5, 0.7, 0.6, 0.7)]
    >>> is_exhausted(rows, Monitor("accuracy", "max"), 2), is_exhausted(rows, Monitor("accuracy", "max"), 3)
    (True, False)
    """
    values = [monitor.key(row.get(monitor.name, math.nan)) for row in rows if row["split"] == "validation"]
    return len(values) > patience and max(values[:-patience]) >= max(values[-patience:])
