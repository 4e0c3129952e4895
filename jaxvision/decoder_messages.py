"""Collect what image decoders warn about, for each decoding thread, so that a message can name its file.

Pillow warns by `warnings.warn` and by logging; libtiff writes its errors to stderr. None of them knows the file.
`warnings.catch_warnings` cannot be used while several threads decode, because it changes the whole process.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

_THREAD = threading.local()
_LOCK = threading.Lock()
_REDIRECTED: list[Any] = []  # not empty once the messages of decoders come here


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """Yield a list to which the warnings of decoders in this thread are appended."""
    if not _REDIRECTED:
        with _LOCK:  # a second handler would free the one that libtiff has
            _listen_to_pillow()
            _REDIRECTED.append(_listen_to_libtiff())
    _THREAD.messages = messages = []
    try:
        yield messages
    finally:
        del _THREAD.messages


def _add(message: object) -> bool:
    """Append a message to the list of this thread; return False if it collects none."""
    messages = getattr(_THREAD, "messages", None)
    if messages is not None:
        messages.append(" ".join(str(message).split()))
    return messages is not None


class _Warnings:
    """The module `warnings` for Pillow: what is warned while a file is decoded goes to the list of the thread."""

    def __getattr__(self, name: str) -> Any:
        return getattr(warnings, name)

    @staticmethod
    def warn(message: Any, category: Any = None, stacklevel: int = 1, **options: Any) -> None:
        if not _add(message):
            warnings.warn(message, category, stacklevel + 1, **options)


class _Handler(logging.Handler):
    """Append what Pillow logs as a warning or worse."""

    def emit(self, record: logging.LogRecord) -> None:
        _add(record.getMessage())


@functools.cache
def _listen_to_pillow() -> None:
    """Redirect the warnings and logs of Pillow's modules; call it after these are imported."""
    proxy = _Warnings()
    for name, module in list(sys.modules.items()):
        if name.startswith("PIL.") and getattr(module, "warnings", None) is warnings:
            vars(module)["warnings"] = proxy
    logging.getLogger("PIL").addHandler(_Handler(logging.WARNING))


@functools.cache
def _listen_to_libtiff() -> Any:
    """Redirect the errors of the libtiff that Pillow has loaded; return the handler, which must be kept alive.

    Where the library cannot be found, its errors stay on stderr.
    """
    with contextlib.suppress(OSError, AttributeError, StopIteration):
        with open("/proc/self/maps") as maps:
            path = next(line.split(maxsplit=5)[5].strip() for line in maps if "/libtiff" in line)
        libtiff, libc = ctypes.CDLL(path), ctypes.CDLL(None)
        kind = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)

        def handle(module: bytes, text: bytes, values: int) -> None:
            buffer = ctypes.create_string_buffer(500)
            libc.vsnprintf(buffer, ctypes.c_size_t(500), text, ctypes.c_void_p(values))
            if not _add(f"libtiff: {buffer.value.decode(errors='replace')}"):
                print(f"libtiff: {buffer.value.decode(errors='replace')}", file=sys.stderr)

        handler = kind(handle)
        libtiff.TIFFSetErrorHandler.argtypes = [kind]
        libtiff.TIFFSetErrorHandler(handler)
        return handler
    return None
