"""A JAX profile of a few steps."""

from __future__ import annotations

from pathlib import Path

import jax

PROFILED = range(3, 8)  # steps after the first; those before compile and warm up


class Profiler:
    """Traces a few steps into a folder, for viewers of traces."""

    def __init__(self, folder: Path):
        self._folder, self._is_tracing = folder, False

    def before_step(self, index: int) -> None:
        """Begins or ends the trace, before the steps from this one on are dispatched together."""
        if index >= PROFILED.stop:
            self.close()
        elif index >= PROFILED.start and not self._is_tracing:
            jax.profiler.start_trace(self._folder)
            self._is_tracing = True

    def close(self) -> None:
        """Ends the trace, if one is under way."""
        if self._is_tracing:
            jax.profiler.stop_trace()
            self._is_tracing = False
