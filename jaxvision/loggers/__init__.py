"""Loggers: registered factories that write the rows of a run elsewhere, beside metrics.jsonl.

A factory has the arguments `folder` (the workdir) and `start` (the step at which the run begins or goes on) from the
run, and returns a `Logger`. Only the main process logs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxvision.registry import loggers as _registry

register = _registry.register


class Logger(NamedTuple):
    """`report` writes a row of metrics.jsonl: its step, epoch and split, and numbers by name. `close` ends the log."""

    report: Callable[[dict[str, Any]], None]
    close: Callable[[], Any]
