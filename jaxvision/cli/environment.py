"""Where a command runs: its standard streams, and messages for a machine that lacks what its settings name."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

NO_READER = "jaxvision: the reader of the output has gone: the output is dropped, and the command goes on"


def open_streams() -> None:
    """Open the null device in place of closed standard streams, and let the others print every character.

    Schedulers start programs with closed streams; the next file that is opened would then receive what is printed. On
    a terminal that takes only ASCII, and for file names that are not text, characters are printed as \\xe9.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process
        elif hasattr(stream, "reconfigure") and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


class Droppable:
    """A stream whose text is dropped from when its reader has gone, as after `| head -1`; the command goes on.

    `notice` is printed to stderr then, "" for nothing.
    """

    def __init__(self, stream: Any, notice: str = ""):
        self._stream, self._notice = stream, notice

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        """Let the null device take the place of the pipe, for what is buffered and all that follows."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)
        self._stream.flush()
        if self._notice:
            print(self._notice, file=sys.stderr, flush=True)


@contextlib.contextmanager
def without_reader() -> Iterator[None]:
    """Let a command whose product is files go on after the reader of its output has gone."""
    before = sys.stdout, sys.stderr
    sys.stderr = Droppable(before[1])
    sys.stdout = Droppable(before[0], NO_READER)
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = before


def utf8_output() -> Any:
    """Return the standard output as a file of other programs: UTF-8, whatever the terminal takes.

    Names of files that are not text are written as their bytes.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # pyright: ignore[reportAttributeAccessIssue]
    return sys.stdout


def discard_output() -> None:
    """Send what is still printed to the null device, after the output turned out not to be writable."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(null, stream.fileno())
        except ValueError:  # closed
            continue
    os.close(null)


def explain(error: BaseException) -> str | None:
    """Return the message for an error that the machine's settings cause, or None for another error."""
    frame = _innermost(error)
    module = "" if frame is None else frame.f_globals.get("__name__", "")
    if frame is None or isinstance(error, OSError):
        return None
    if module.startswith("pathlib") and frame.f_code.co_name == "expanduser":
        return f"{str(frame.f_locals.get('self', '~'))!r}: there is no such home folder; set HOME or give a whole path"
    if module == "jax._src.xla_bridge":
        reason = " ".join(str(error).split())[:300]
        platforms = os.environ.get("JAX_PLATFORMS")
        repair = "; unset JAX_PLATFORMS to use the devices that there are" if platforms else ""
        return (
            f"JAX cannot use {f'JAX_PLATFORMS={platforms!r}' if platforms else 'the devices'} on this machine"
            f"{f' ({reason})' if reason else ''}{repair}"
        )
    return None


def _innermost(error: BaseException) -> FrameType | None:
    """Return the frame that raised an error."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame if trace else None
