"""What a command says when it cannot go on: one line on stderr and an exit status, or a traceback for a bug."""

from __future__ import annotations

import linecache
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxvision import registry

BAD_INPUT = 2  # the exit status


class UsageError(ValueError):
    """What was typed cannot be carried out; the message says why and what to do."""


def require(value: Any, message: str) -> None:
    """Raise UsageError where a value is missing or false."""
    if not value:
        raise UsageError(message)


def words_of(name: str) -> list[str]:
    """Return the words that call a command: a verb of jaxvision, or a script by its file.

    >>> words_of("launch"), words_of("scripts/crash_test.py")
    (['jaxvision', 'launch'], ['python', 'scripts/crash_test.py'])
    """
    return ["python", name] if name.endswith(".py") else ["jaxvision", name]


def _is_told(error: BaseException, folder: Path) -> bool:
    """Say whether an error speaks to the user: raised by this package, in the command's folder or a factory.

    What a library raises for a bug in somebody's code, ours included, is not: it keeps its traceback.
    """
    if isinstance(error, OSError | UsageError):
        return True
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace is None:
        return False
    module = trace.tb_frame.f_globals.get("__name__", "")
    known = set().union(*(each.modules() for each in registry.REGISTRIES.values()))
    line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    is_ours = module.partition(".")[0] == "jaxvision" or Path(trace.tb_frame.f_code.co_filename).is_relative_to(folder)
    return (is_ours or module in known) and line.lstrip().startswith("raise ")


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {os.fspath(error.filename)!r}"
    return " ".join(str(error).split())


def _again(name: str, argv: Sequence[str], workdir: str) -> str:
    """Write the command that goes on where an interrupted one stopped."""
    named = [word for word in argv if word.lstrip("-").startswith("workdir")]
    return shlex.join([*words_of(name), *argv, *([] if named else [f"--workdir={workdir}"])])


def _tell(line: str) -> None:
    print(f"jaxvision: {line}", file=sys.stderr)


def run_command(function: Callable[[Sequence[str]], None], argv: Sequence[str], name: str) -> int:
    """Run a command and return its exit status: 2 after bad input, told in one line on stderr.

    `name` is the verb, or a script's file as `scripts/crash_test.py`: the line that says how to go on begins with it.
    An error that is a bug, not a message, is raised again.
    """
    from jaxvision.engine.signals import Interrupted, before_runs

    warnings.showwarning = lambda message, *_, **__: _tell(f"warning: {message}")
    try:
        with before_runs():
            function(argv)
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Interrupted as stop:
        _tell(f"{stop}; to go on: {_again(name, argv, str(stop.workdir))}")
        return stop.exit_status
    except KeyboardInterrupt:
        _tell("interrupted")
        return 128 + signal.SIGINT
    except (ValueError, TypeError, FloatingPointError, OSError) as error:
        if not _is_told(error, Path(function.__code__.co_filename).parent):
            raise
        _tell(_in_one_line(error))
        return BAD_INPUT
