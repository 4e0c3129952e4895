"""JAX profiles of a few steps."""

from __future__ import annotations

from pathlib import Path

import jax

PROFILED = range(3, 8)  # steps after the first; earlier ones compile and warm up


class Profiler:
    """Record a JAX profiler trace of a few steps in a folder."""

    def __init__(self, folder: Path):
        self._folder, self._is_tracing = folder, False
        self._first: int | None = None  # first traced step

    def before_step(self, index: int) -> None:
        """Start or stop the trace before step `index` is dispatched."""
        if self._first is None and index >= PROFILED.start:
            jax.profiler.start_trace(self._folder)
            self._is_tracing, self._first = True, index
        elif self._first is not None and index >= self._first + len(PROFILED):
            self.close()

    def close(self) -> None:
        """Stop the trace if it is running."""
        if self._is_tracing:
            jax.profiler.stop_trace()
            self._is_tracing = False
