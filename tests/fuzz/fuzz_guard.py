"""Run a reader on one input, and raise Failure if it does anything that a reader must not do."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxvision.cli.errors import _is_message

MAX_SECONDS, MAX_GROWTH = 5.0, 1 << 30  # of one case; growth of memory in bytes
FORBIDDEN = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"),
    *("pickle.find_class", "os.startfile", "webbrowser.open"),
)
_watched: list[list[str]] = []  # the forbidden calls of the case that runs now


class Failure(AssertionError):
    """A reader that broke its contract."""


class TooSlow(BaseException):
    """Raised by the alarm, past every `except Exception`."""


def _audit(event: str, _arguments: Any) -> None:
    if _watched and event in FORBIDDEN:
        _watched[-1].append(event)
        raise Failure(f"it calls {event}")


sys.addaudithook(_audit)


def report(what: str) -> None:
    """Note that the case that runs now did something forbidden."""
    if _watched:
        _watched[-1].append(what)


def is_traceback(error: BaseException) -> bool:
    """Return whether a user would see an error as a traceback on the command line, not as a line."""
    return not _is_message(error, Path(__file__).parent)


def _memory() -> int:
    """Return the memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def ring(_number: int, _frame: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 4 * MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check(read: Callable[[bytes], Any], content: bytes) -> bool:
    """Return whether a reader accepts an input; False if it refuses it with a message.

    Raises Failure for an exception that a user would see as a traceback, a forbidden call, more than 5 seconds, or more
    than 1 GiB of memory.
    """
    calls: list[str] = []
    before, start = _memory(), time.perf_counter()
    _watched.append(calls)
    error: BaseException | None = None
    try:
        with _alarm(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(content)
    except (Exception, TooSlow) as raised:
        error = raised
    finally:
        _watched.pop()
    seconds = time.perf_counter() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - max(before, _peak[0])
    _peak[0] = max(_peak[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    if calls:
        raise Failure(f"it calls {calls[0]}")
    if seconds > MAX_SECONDS:
        raise Failure(f"it takes {seconds:.1f} s")
    if grown > MAX_GROWTH:
        raise Failure(f"it takes {grown / 2**20:,.0f} MiB")
    if error is not None and is_traceback(error):
        raise Failure(f"{type(error).__name__}: {str(error)[:200]} ({_place(error)})") from error
    return error is None


_peak = [0]  # the highest memory so far


def _place(error: BaseException) -> str:
    """Return the last file and line of this package that an error passed through."""
    place, trace = "", error.__traceback__
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if "/jaxvision/" in file:
            place = f"{file.rpartition('/jaxvision/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
