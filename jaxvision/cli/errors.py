"""Errors on the command line: one line on stderr and an exit status, or a traceback for a bug."""

from __future__ import annotations

import contextlib
import linecache
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxvision import interruption, registry
from jaxvision.cli import environment

BAD_INPUT = 2  # exit status


class UsageError(ValueError):
    """Invalid command line; the message states the problem and the repair."""


def require(value: Any, message: str) -> None:
    """Raise UsageError if a value is missing or false."""
    if not value:
        raise UsageError(message)


def words_of(name: str) -> list[str]:
    """Return the words that run a command: of jaxvision by its name, or a script by its file.

    >>> words_of("train"), words_of("scripts/crash_test.py")
    (['jaxvision', 'train'], ['python', 'scripts/crash_test.py'])
    """
    return ["python", name] if name.endswith(".py") else ["jaxvision", name]


def _is_message(error: BaseException, folder: Path) -> bool:
    """Return whether an error is a message for the user: raised by this package, in the command's folder or a factory.

    Errors that libraries raise because of a bug in the calling code keep their traceback.
    """
    if isinstance(error, OSError | UsageError):
        return True
    if not isinstance(error, ValueError | TypeError | FloatingPointError):
        return False
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace is None:
        return False
    module = trace.tb_frame.f_globals.get("__name__", "")
    known = set().union(*(kind.modules() for kind in registry.REGISTRIES.values()))
    from jaxvision.cli.command import registered

    known |= {command.function.__module__ for command in registered()}
    line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    is_ours = module.partition(".")[0] == "jaxvision" or Path(trace.tb_frame.f_code.co_filename).is_relative_to(folder)
    return (is_ours or module in known) and line.lstrip().startswith("raise ")


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {os.fspath(error.filename)!r}"
    return " ".join(str(error).split())


def _resume_command(name: str, argv: Sequence[str], workdir: str) -> str:
    """Return the command line that resumes an interrupted command; a run has its settings in its workdir."""
    if name in ("train", "launch"):
        from jaxvision.cli.flags import PROCESSES

        kept = [word for word in argv if word.lstrip("-").partition("=")[0] in PROCESSES]  # which no workdir has
        return shlex.join(["jaxvision", "train", f"--workdir={workdir}", *kept])
    named = [word for word in argv if word.lstrip("-").startswith("workdir")]
    return shlex.join([*words_of(name), *argv, *([] if named else [f"--workdir={workdir}"])])


def _interrupted(stop: KeyboardInterrupt, name: str) -> str:
    """Return the message after Ctrl-C, with what training had written by then; `claim` notes the workdir."""
    workdirs = getattr(stop, "__notes__", ())
    if workdirs:
        resume = shlex.join(["jaxvision", "train", f"--workdir={workdirs[0]}"])
        return f"interrupted; the settings of the run and its checkpoints so far are kept; to resume: {resume}"
    return interruption.NOTHING if name in ("train", "launch") else "interrupted"


def _print_error(line: str) -> None:
    with contextlib.suppress(OSError):  # a full disk or a closed terminal; the exit status still tells
        print(f"jaxvision: {line}", file=sys.stderr, flush=True)


def _print_warning(message: str, warned: set[str]) -> None:
    """Print a warning once a command: Python repeats it after each change of its filters, which libraries make."""
    if message not in warned:
        warned.add(message)
        _print_error(f"warning: {message}")


@contextlib.contextmanager
def _catch_early_signals() -> Iterator[None]:
    """Let Ctrl-C end the command. Record it, and send it again if a callback of JAX swallows the exception."""
    from jaxvision.engine.signals import early_signals

    early_signals.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    timers: list[threading.Timer] = []
    is_over = threading.Event()

    def receive(number, _frame):
        early_signals.append(number)
        raise KeyboardInterrupt

    def repeat_swallowed(unraisable):
        if unraisable.exc_type is KeyboardInterrupt and not is_over.is_set():
            timers.append(threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)))
            timers[-1].start()
        else:
            hook(unraisable)

    before, hook = signal.signal(signal.SIGINT, receive), sys.unraisablehook
    sys.unraisablehook = repeat_swallowed
    try:
        yield
    finally:
        early_signals.clear()  # else a later run in this process would stop for them
        is_over.set()
        if sys.unraisablehook is repeat_swallowed:  # else the checkpoints' hook calls it, which must stay
            sys.unraisablehook = hook
        for timer in timers:  # else the signal would reach what comes after the command
            timer.cancel()
            timer.join()
        signal.signal(signal.SIGINT, signal.default_int_handler if before is interruption.end else before)


def run_command(function: Callable[[Sequence[str]], None], argv: Sequence[str], name: str) -> int:
    """Run a command and return its exit status: 2 after invalid input, with one line on stderr.

    `name` is that of the command, or the file of a script as in `scripts/crash_test.py`; the line on how to resume
    starts with it. Errors that are bugs are raised again.
    """
    from jaxvision.engine.signals import Interrupted

    environment.open_streams()
    warned: set[str] = set()
    warnings.showwarning = lambda message, *_, **__: _print_warning(str(message), warned)
    try:
        with _catch_early_signals():
            function(argv)
        sys.stdout.flush()
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:  # the reader of our output is gone, as after `head`
        return 128 + signal.SIGPIPE
    except Interrupted as stop:
        _print_error(f"{stop}; to resume: {_resume_command(name, argv, str(stop.workdir))}")
        return stop.exit_status
    except KeyboardInterrupt as stop:
        _print_error(_interrupted(stop, name))
        return 128 + signal.SIGINT
    except Exception as error:
        message = environment.explain(error)
        if message is None and not _is_message(error, Path(function.__code__.co_filename).parent):
            raise
        _print_error(message or _in_one_line(error))
        return BAD_INPUT
    finally:
        environment.discard_output()
