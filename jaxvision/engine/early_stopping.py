"""Early stopping."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxvision.distributed import multihost
from jaxvision.engine.logs import Log, Row, read_rows
from jaxvision.interfaces import Monitor


def is_exhausted(log: Log, step: int, *, monitor: Monitor, patience: int) -> bool:
    """Return whether a run stops early after a step, and print it; the main process reads the log for all."""
    rows = read_rows(log.folder / "metrics.jsonl")
    is_last = multihost.broadcast_from_main(str(patience_exhausted(rows, monitor, patience))) == "True"
    if is_last:
        log.say(f"early stopping at step {step}: {patience} evaluations without a better {monitor.name}")
    return is_last


def patience_exhausted(rows: Sequence[Row], monitor: Monitor, patience: int) -> bool:
    """Return whether none of the last `patience` evaluations on validation improved on an earlier one.

    >>> rows = [{"split": "validation", "accuracy": value} for value in (0.5, 0.7, 0.6, 0.7)]
    >>> patience_exhausted(rows, Monitor("accuracy", "max"), 2), patience_exhausted(rows, Monitor("accuracy", "max"), 3)
    (True, False)
    """
    values = [monitor.key(row.get(monitor.name, math.nan)) for row in rows if row["split"] == "validation"]
    return len(values) > patience and max(values[:-patience]) >= max(values[-patience:])
