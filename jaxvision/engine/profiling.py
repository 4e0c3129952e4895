"""A JAX profile of a few steps."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path

import jax

from jaxvision.interfaces import Batch

PROFILED = range(3, 8)  # steps after the first; those before compile and warm up


def profiled(batches: Iterable[Batch], folder: Path) -> Generator[Batch]:
    """Gives batches, and traces the steps that a few of them are used for into a folder, for viewers of traces."""
    is_tracing = False
    try:
        for index, batch in enumerate(batches):
            if index == PROFILED.start:
                jax.profiler.start_trace(folder)
                is_tracing = True
            elif index == PROFILED.stop:
                jax.profiler.stop_trace()
                is_tracing = False
            yield batch
    finally:
        if is_tracing:
            jax.profiler.stop_trace()
