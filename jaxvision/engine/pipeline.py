"""Batches of splits: shuffled and endless for training; in order, padded and masked for evaluation.

A training batch is a function of its number: batch n is positions nB to (n+1)B of the concatenated permutations of all
epochs, which are functions of (seed, epoch). So a run resumes from a batch number, and no batch is incomplete.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxvision.interfaces import Batch, Decode, Split
from jaxvision.machine import num_cores

PREFETCH = 2  # batches


class Sampler:
    """The order of training examples: maps positions in the concatenated epochs to indices of examples.

    With `targets`, the class of each example, an epoch has the same length but equally many examples of each class
    (plus or minus one): small classes are repeated, large ones subsampled.
    """

    def __init__(self, num_examples: int, *, seed: int, targets: np.ndarray | None = None):
        self.num_examples = num_examples
        self.seed = seed
        self.targets = targets
        self._permutation = functools.lru_cache(maxsize=2)(self._drawn)  # several threads use two epochs

    def _drawn(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, epoch))
        if self.targets is None:
            return rng.permutation(self.num_examples)
        classes = rng.permutation(np.unique(self.targets))  # the first classes get one more if it is uneven
        drawn = []
        for index, label in enumerate(classes):
            members = np.flatnonzero(self.targets == label)
            count = len(range(index, self.num_examples, len(classes)))
            rounds = [rng.permutation(members) for _ in range(-(-count // len(members)))]
            drawn.append(np.concatenate(rounds)[:count])
        return rng.permutation(np.concatenate(drawn))

    def indices(self, start: int, stop: int) -> np.ndarray:
        """Return the indices at positions start to stop - 1."""
        epochs = range(start // self.num_examples, (stop - 1) // self.num_examples + 1)
        parts = [
            self._permutation(e)[max(start - e * self.num_examples, 0) : stop - e * self.num_examples] for e in epochs
        ]
        return np.concatenate(parts)


def train_batches(
    split: Split,
    batch_size: int,
    *,
    seed: int,
    start: int = 0,
    rows: slice = slice(None),
    balanced: bool = False,
    num_threads: int | None = None,
) -> Generator[Batch]:
    """Yield `rows` of the training batches from number `start` on, without end, reading ahead in a thread.

    With `balanced`, all classes are equally frequent. A split that decodes its inputs is read by `num_threads` threads,
    by default one per core; each example has its own generator, seeded by (seed, epoch, position in the epoch).
    """
    order = Sampler(len(split), seed=seed, targets=split.targets if balanced else None)
    if split.decode is not None:
        from jaxvision.engine.decoding import read_in_parallel

        read_part = functools.partial(_decoded, split, split.decode, order, batch_size)
        yield from read_in_parallel(
            read_part, np.arange(batch_size)[rows], start=start, num_threads=num_threads or num_cores()
        )
        return

    def read(number: int) -> Batch:
        positions = (number * batch_size + np.arange(batch_size))[rows]
        indices = order.indices(number * batch_size, (number + 1) * batch_size)[rows]
        return _batch(split, np.asarray(split.read(indices)), indices, positions)

    yield from _read_ahead(read, itertools.count(start))


def _read_ahead(read: Callable[[int], Batch], numbers: Iterable[int]) -> Generator[Batch]:
    """Yield the batches with those numbers, reading two ahead in a thread."""
    numbers = iter(numbers)
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(read, number) for number in itertools.islice(numbers, PREFETCH)]
        try:
            while waiting:
                waiting += [pool.submit(read, number) for number in itertools.islice(numbers, 1)]
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def _decoded(split: Split, decode: Decode, order: Sampler, batch_size: int, number: int, rows: np.ndarray) -> Batch:
    """Decode the examples at those positions of a batch, one after the other."""
    positions = number * batch_size + rows
    indices = order.indices(number * batch_size, (number + 1) * batch_size)[rows]
    rngs = (np.random.default_rng((order.seed, *divmod(int(position), len(split)))) for position in positions)
    inputs = np.stack([decode(int(index), rng) for index, rng in zip(indices, rngs, strict=True)])
    return _batch(split, inputs, indices, positions)


def _batch(split: Split, inputs: np.ndarray, indices: np.ndarray, positions: np.ndarray) -> Batch:
    """Build a training batch from inputs and their indices and positions."""
    return {
        "inputs": inputs,
        "targets": split.targets[indices],
        "mask": np.ones(len(indices), np.float32),
        "index": indices.astype(np.int32),
        "epoch": (positions // len(split)).astype(np.int32),
    }


def eval_batches(split: Split, batch_size: int, *, rows: slice = slice(None)) -> Iterator[Batch]:
    """Yield `rows` of the batches of a split once, in order; the last is padded with its first example, masked."""

    def read(start: int) -> Batch:
        indices = np.arange(start, min(start + batch_size, len(split)))
        padded = np.pad(indices, (0, batch_size - len(indices)), constant_values=start)[rows]
        mask = (np.arange(batch_size) < len(indices)).astype(np.float32)[rows]
        return {"inputs": np.asarray(split.read(padded)), "targets": split.targets[padded], "mask": mask}

    yield from _read_ahead(read, range(0, len(split), batch_size))
