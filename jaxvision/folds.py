"""Folds of cross-validation: splits joined, and one fold of them held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jaxvision.interfaces import Split


def fold(split: Split, number: int, count: int, *, seed: int) -> tuple[Split, Split]:
    """Hold one of `count` equal folds out: (the rest, the fold of that number, from 1), each class alike.

    Over all numbers each example is held out once, and a group as a whole. Where examples are ordered, the rest is
    what precedes the fold, so that the first of count + 1 blocks is never held out.
    """
    folds = _folds(split, count, np.random.default_rng(seed))
    rest = folds < number if split.ordered else folds != number
    return split.take(np.flatnonzero(rest)), split.take(np.flatnonzero(folds == number))


def _folds(split: Split, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the number of each example's fold, from 1; 0 for those that are but learned from."""
    groups = np.unique(split.groups, return_inverse=True)[1] if split.groups is not None else np.arange(len(split))
    size = len(split) - 1 if split.ordered else int(groups.max(initial=-1)) + 1
    if not 1 < count <= size:
        raise ValueError(f"{len(split)} examples in {size} parts at most cannot be cut into {count} folds")
    if split.ordered:
        return np.arange(len(split)) * (count + 1) // len(split)
    order = rng.permutation(size)
    if split.groups is None and split.kind == "classes":  # class after class, so that each is dealt out evenly
        order = order[np.argsort(split.targets[order], kind="stable")]
    folds = np.empty(size, int)
    folds[order] = 1 + np.arange(size) % count
    return folds[groups]


def joined(split: Split, other: Split) -> Split:
    """Return the split of one's examples and, after them, another's of the same kind."""
    size = len(split)

    def read(chosen: np.ndarray) -> np.ndarray:
        order = np.argsort(chosen >= size, kind="stable")
        own, others = chosen[chosen < size], chosen[chosen >= size] - size
        parts = [part.read(places) for part, places in ((split, own), (other, others)) if len(places)]
        return np.concatenate(parts)[np.argsort(order)]

    def decode(chosen: int, rng: np.random.Generator | None) -> np.ndarray:
        part, place = (split, chosen) if chosen < size else (other, chosen - size)
        return part.read(np.array([place]))[0] if part.decode is None else part.decode(place, rng)

    def both(one: np.ndarray | None, two: np.ndarray | None) -> np.ndarray | None:
        return None if one is None or two is None else np.concatenate([one, two])

    return replace(
        split,
        read=read,
        targets=np.concatenate([split.targets, other.targets]),
        names=[*split.names, *other.names],
        groups=both(split.groups, other.groups),
        offsets=both(split.offsets, other.offsets),
        baselines={name: np.concatenate([each, other.baselines[name]]) for name, each in split.baselines.items()},
        decode=None if split.decode is None and other.decode is None else decode,
        is_random=split.is_random or other.is_random,
    )
