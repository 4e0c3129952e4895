"""Splits -> batches: shuffled and endless for training, ordered, padded and masked for evaluation.

A training batch is a function of its number: batch n is the positions nB to (n+1)B of the concatenated permutations of
all epochs, which are functions of (seed, epoch). So resuming is a start number, and no batch is ever short.
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


class Order:
    """The order of examples in training: positions of the concatenated epochs -> indices of examples.

    With `targets`, the class of each, an epoch is as long, and holds equally many of each class (to one): of some all
    several times, of others a part.
    """

    def __init__(self, num_examples: int, *, seed: int, targets: np.ndarray | None = None):
        self.num_examples = num_examples
        self.seed = seed
        self.targets = targets
        self._permutation = functools.lru_cache(maxsize=2)(self._drawn)  # two epochs are in use, by several threads

    def _drawn(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, epoch))
        if self.targets is None:
            return rng.permutation(self.num_examples)
        classes = rng.permutation(np.unique(self.targets))  # where it does not come out even, the first get one more
        drawn = []
        for index, each in enumerate(classes):
            members = np.flatnonzero(self.targets == each)
            count = len(range(index, self.num_examples, len(classes)))
            rounds = [rng.permutation(members) for _ in range(-(-count // len(members)))]
            drawn.append(np.concatenate(rounds)[:count])
        return rng.permutation(np.concatenate(drawn))

    def indices(self, start: int, stop: int) -> np.ndarray:
        """Gives the indices at the positions from start to before stop."""
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
    """Gives those rows of the batches from number `start` on, without end; reads ahead in a thread.

    With `balanced`, classes come equally often. A split that decodes its inputs anew is read by as many threads as
    there are cores, or num_threads, and each example by a generator of its own, of (seed, epoch, place in the epoch).
    """
    order = Order(len(split), seed=seed, targets=split.targets if balanced else None)
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
    """Gives the batches of those numbers; a thread reads two ahead."""
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


def _decoded(split: Split, decode: Decode, order: Order, batch_size: int, number: int, places: np.ndarray) -> Batch:
    """Decodes the examples of those places in a batch, one after the other."""
    positions = number * batch_size + places
    indices = order.indices(number * batch_size, (number + 1) * batch_size)[places]
    rngs = (np.random.default_rng((order.seed, *divmod(int(position), len(split)))) for position in positions)
    inputs = np.stack([decode(int(index), rng) for index, rng in zip(indices, rngs, strict=True)])
    return _batch(split, inputs, indices, positions)


def _batch(split: Split, inputs: np.ndarray, indices: np.ndarray, positions: np.ndarray) -> Batch:
    """Makes the training batch of inputs, which are those indices of a split and stand at those positions."""
    return {
        "inputs": inputs,
        "targets": split.targets[indices],
        "mask": np.ones(len(indices), np.float32),
        "index": indices.astype(np.int32),
        "epoch": (positions // len(split)).astype(np.int32),
    }


def eval_batches(split: Split, batch_size: int, *, rows: slice = slice(None)) -> Iterator[Batch]:
    """Gives those rows of the batches of a split, in order, once; the last is filled with its first example, masked."""

    def read(start: int) -> Batch:
        indices = np.arange(start, min(start + batch_size, len(split)))
        padded = np.pad(indices, (0, batch_size - len(indices)), constant_values=start)[rows]
        mask = (np.arange(batch_size) < len(indices)).astype(np.float32)[rows]
        return {"inputs": np.asarray(split.read(padded)), "targets": split.targets[padded], "mask": mask}

    yield from _read_ahead(read, range(0, len(split), batch_size))
