"""Cross-validation: concatenate splits and hold out one fold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jaxvision.interfaces import Dataset, Split


def held_out(dataset: Dataset, number: str, *, seed: int) -> tuple[Split, Split]:
    """Hold out a fold, "2/5", of train and validation together: return (rest, fold)."""
    whole = dataset.train if dataset.validation is None else concatenate(dataset.train, dataset.validation)
    return fold(whole, *map(int, number.split("/")), seed=seed)


def fold(split: Split, number: int, count: int, *, seed: int) -> tuple[Split, Split]:
    """Hold out one of `count` folds: return (rest, fold `number`), numbered from 1.

    Each example is held out in exactly one fold. Multiclass folds are stratified, and folds are of equal size but for
    groups, which stay together. If examples are ordered, the rest is what
    precedes the fold (forward chaining), so the first of count + 1 blocks is never held out.
    """
    folds = numbers(split, count, seed=seed)
    rest = folds < number if split.ordered else folds != number
    return split.select(np.flatnonzero(rest)), split.select(np.flatnonzero(folds == number))


def numbers(split: Split, count: int, *, seed: int) -> np.ndarray:
    """Return the fold of each example, from 1; 0 for examples that are never held out."""
    rng = np.random.default_rng(seed)
    groups = np.unique(split.groups, return_inverse=True)[1] if split.groups is not None else np.arange(len(split))
    size = len(split) - 1 if split.ordered else int(groups.max(initial=-1)) + 1
    if not 1 < count <= size:
        raise ValueError(f"cannot split {len(split)} examples into {count} folds; expected 2 to {size} folds")
    if split.ordered:
        return np.arange(len(split)) * (count + 1) // len(split)
    order = rng.permutation(size)
    if (
        split.groups is None and split.kind == "multiclass"
    ):  # sort by class, so that each is spread evenly over the folds
        order = order[np.argsort(split.targets[order], kind="stable")]
    folds = np.empty(size, int)
    folds[order] = 1 + np.arange(size) % count
    return folds[groups]


def concatenate(split: Split, other: Split) -> Split:
    """Return the concatenation of two splits of the same kind."""
    size = len(split)

    def read(chosen: np.ndarray) -> np.ndarray:
        order = np.argsort(chosen >= size, kind="stable")
        first, second = chosen[chosen < size], chosen[chosen >= size] - size
        parts = [part.read(positions) for part, positions in ((split, first), (other, second)) if len(positions)]
        return np.concatenate(parts)[np.argsort(order)]

    def decode(chosen: int, rng: np.random.Generator | None) -> np.ndarray:
        part, position = (split, chosen) if chosen < size else (other, chosen - size)
        return part.read(np.array([position]))[0] if part.decode is None else part.decode(position, rng)

    def both(one: np.ndarray | None, two: np.ndarray | None) -> np.ndarray | None:
        return None if one is None or two is None else np.concatenate([one, two])

    return replace(
        split,
        read=read,
        targets=np.concatenate([split.targets, other.targets]),
        names=[*split.names, *other.names],
        groups=both(split.groups, other.groups),
        offsets=both(split.offsets, other.offsets),
        baselines={name: np.concatenate([values, other.baselines[name]]) for name, values in split.baselines.items()},
        columns={
            name: np.concatenate([values, other.columns[name]])
            for name, values in split.columns.items()
            if name in other.columns
        },
        decode=None if split.decode is None and other.decode is None else decode,
        is_random=split.is_random or other.is_random,
    )
