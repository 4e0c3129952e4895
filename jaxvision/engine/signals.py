"""Signals that end a run: received, so that it saves first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path


class Interrupted(KeyboardInterrupt):
    """Training was told to stop, by a signal, and has saved: training again with the same workdir goes on."""

    def __init__(self, number: int, workdir: Path, step: int, num_steps: int):
        super().__init__(f"stopped and saved at step {step} of {num_steps} in {workdir}")
        self.exit_status = 128 + number
        self.workdir = workdir


class Stopped(Exception):
    """An evaluation was left half-way, because the run is told to stop."""


_unheard: list[int] = []  # signals that came before a run could receive them, and that did not end it


@contextlib.contextmanager
def before_runs() -> Iterator[None]:
    """Ends by Ctrl-C as ever, and remembers it: what is called from within JAX may swallow the exception."""
    _unheard.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def receive(number, _frame):
        _unheard.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, receive)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying by them; the second one ends the process as ever."""
    received: list[int] = [*_unheard]
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def receive(number, _frame):
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
