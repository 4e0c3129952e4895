"""Batches whose examples are decoded in parallel by Grain: the only file that imports it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence

import numpy as np

from jaxvision.interfaces import Batch

PREFETCH = 2  # batches
PART_SIZE = 8  # examples decoded per task, enough that Grain's overhead is small


def read_in_parallel(
    read: Callable[[int, np.ndarray], Batch], places: np.ndarray, *, start: int, num_threads: int
) -> Generator[Batch]:
    """Yield batches from number `start` on, without end; `read(number, positions)` returns a part of a batch."""
    import grain

    parts = np.array_split(places, -(-len(places) // PART_SIZE))

    def read_part(number: int) -> Batch:
        batch, part = divmod(number, len(parts))
        return read(batch, parts[part])

    numbers = grain.MapDataset.range(start * len(parts), sys.maxsize)
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=max(PREFETCH * len(parts), num_threads))
    joined = numbers.map(read_part).to_iter_dataset(options).batch(len(parts), batch_fn=_joined)
    with contextlib.closing(iter(joined)) as batches:
        yield from batches


def _joined(parts: Sequence[Batch]) -> Batch:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
