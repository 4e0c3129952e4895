"""Signals that stop a run: recorded, so that it saves its state first."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path


class Interrupted(KeyboardInterrupt):
    """Raised after a signal stopped training and the state was saved; train with the same workdir to resume."""

    def __init__(self, number: int, workdir: Path, step: int, num_steps: int):
        super().__init__(f"stopped and saved at step {step} of {num_steps} in {workdir}")
        self.exit_status = 128 + number
        self.workdir = workdir


class EvaluationInterrupted(Exception):
    """Raised to abandon an evaluation because a signal arrived."""


early_signals: list[int] = []  # received before a run could catch them, and whose exception was swallowed


@contextlib.contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Record SIGINT and SIGTERM instead of terminating; the second signal terminates the process as usual."""
    received: list[int] = [*early_signals]
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def receive(number, _frame):
        received.append(number)
        print("jaxvision: stopping after this step, then saving; a second signal stops immediately", file=sys.stderr)
        for other, handler in before.items():
            signal.signal(other, handler)

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
