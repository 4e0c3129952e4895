"""Splits -> batches: shuffled and endless for training, ordered, padded and masked for evaluation.

A training batch is a function of its number: batch n is the positions nB to (n+1)B of the concatenated permutations of
all epochs, which are functions of (seed, epoch). So resuming is a start number, and no batch is ever short.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxvision.interfaces import Batch, Split

PREFETCH = 2


class Order:
    """The order of examples in training: positions of the concatenated epochs -> indices of examples.

    With `targets`, the class of each, an epoch is as long, and holds equally many of each class (to one): of some all
    several times, of others a part.
    """

    def __init__(self, num_examples: int, *, seed: int, targets: np.ndarray | None = None):
        self.num_examples = num_examples
        self.seed = seed
        self.targets = targets
        self._permutations: dict[int, np.ndarray] = {}

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._permutations:
            self._permutations = {k: v for k, v in self._permutations.items() if k >= epoch - 1}  # two are in use
            self._permutations[epoch] = self._drawn(np.random.default_rng((self.seed, epoch)))
        return self._permutations[epoch]

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
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


def check_batch_size(batch_size: int, split: Split) -> None:
    """Raises ValueError where what one step learns from is larger than the training split."""
    if batch_size > len(split):
        raise ValueError(
            f"a step of {batch_size} examples is larger than the training split of {len(split)}; give --batch_size="
            f"{len(split)} or less (times --accumulate)"
        )


def train_batches(
    split: Split, batch_size: int, *, seed: int, start: int = 0, rows: slice = slice(None), balanced: bool = False
) -> Generator[Batch]:
    """Gives those rows of the batches from number `start` on, without end; reads ahead in a thread.

    With `balanced`, classes come equally often.
    """
    order = Order(len(split), seed=seed, targets=split.targets if balanced else None)
    mask = np.ones(batch_size, np.float32)[rows]

    def read(number: int) -> Batch:
        start = number * batch_size
        indices = order.indices(start, start + batch_size)[rows]
        epochs = (start + np.arange(batch_size)[rows]) // len(split)
        return {
            "inputs": np.asarray(split.read(indices)),
            "targets": split.targets[indices],
            "mask": mask,
            "index": indices.astype(np.int32),
            "epoch": epochs.astype(np.int32),
        }

    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(read, start + ahead) for ahead in range(PREFETCH)]
        try:
            while True:
                start += 1
                waiting.append(pool.submit(read, start + PREFETCH - 1))
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def eval_batches(split: Split, batch_size: int, *, rows: slice = slice(None)) -> Iterator[Batch]:
    """Gives those rows of the batches of a split, in order, once; the last is filled with its first example, masked."""
    for start in range(0, len(split), batch_size):
        indices = np.arange(start, min(start + batch_size, len(split)))
        padded = np.pad(indices, (0, batch_size - len(indices)), constant_values=start)[rows]
        mask = (np.arange(batch_size) < len(indices)).astype(np.float32)[rows]
        yield {"inputs": np.asarray(split.read(padded)), "targets": split.targets[padded], "mask": mask}
