"""Loggers: registered factories that write the rows of a run elsewhere, beside metrics.jsonl.

A factory has the arguments `folder` (the workdir) and `start` (the step at which the run begins or goes on) from the
run, and returns a `Logger`. Only the main process logs.
"""

import errno
import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxvision.registry import loggers as _registry

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)


class Logger(NamedTuple):
    """`report` writes a row of metrics.jsonl: its step, epoch and split, and numbers by name. `close` ends the log."""

    report: Callable[[dict[str, Any]], None]
    close: Callable[[], Any]


def register(name: str, **metadata: Any) -> Callable[[Callable[..., Logger]], Callable[..., Logger]]:
    """Register the decorated factory of a logger.

    An error of the factory ends the run in one line; its state is saved. An error while it logs is a warning, after
    which the run goes on without this logger: metrics.jsonl has all rows. `metadata` may name a `package` that the
    factory imports, and the `extra` that installs it.
    """

    def decorate(factory: Callable[..., Logger]) -> Callable[..., Logger]:
        @functools.wraps(factory)
        def guarded(**arguments: Any) -> Logger:
            try:
                return _guarded(name, factory(**arguments))
            except Exception as error:
                raise ValueError(f"cannot open the logger {name!r}: {_in_words(error)}") from error

        _registry.register(name, **metadata)(guarded)
        return factory

    return decorate


def _guarded(name: str, logger: Logger) -> Logger:
    """Return a logger that warns of its first error, and then logs no more."""
    failed: list[BaseException] = []

    def attempt(call: Callable[..., Any], *arguments: Any) -> None:
        if failed:
            return
        try:
            call(*arguments)
        except Exception as error:
            failed.append(error)
            if getattr(error, "errno", None) in DISK_IS_FULL:
                if arguments:
                    raise  # the disk of the workdir, which ends the run with its own message
                return
            text = f"the logger {name!r} failed, and the run goes on without it: {_in_words(error)}"
            warnings.warn(text, stacklevel=3)

    return Logger(lambda row: attempt(logger.report, row), lambda: attempt(logger.close))


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
