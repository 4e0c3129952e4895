"""Training splits made smaller on purpose: few examples of each class, or ever fewer from class to class."""

from __future__ import annotations

import numpy as np

from jaxvision.interfaces import Split


def few(train: Split, per_class: int | None, *, seed: int) -> Split:
    """Draw so many examples of each class, all for None. Raise ValueError where a class has fewer."""
    if per_class is None:
        return train
    if per_class < 1:
        raise ValueError(f"per_class={per_class}; wanted a number of training examples of each class, 1 or more")
    targets, counts = _counted(train, f"per_class={per_class}")
    if counts.min() < per_class:
        rarest = targets[counts.argmin()]
        raise ValueError(f"per_class={per_class}, but class {rarest} has {counts.min()} training examples")
    return _drawn(train, dict.fromkeys(targets, per_class), seed)


def long_tailed(train: Split, imbalance: float | None, *, seed: int) -> Split:
    """Draw ever fewer examples of each class, the first one's number over the last one's being `imbalance`; None: all.

    Class c of C keeps the share imbalance^(-c / (C - 1)) of the rarest class's number (Y. Cui et al., Class-Balanced
    Loss, CVPR 2019, section 5.1; K. Cao et al., LDAM, NeurIPS 2019, section 4.2).
    """
    if imbalance is None:
        return train
    if imbalance < 1:
        raise ValueError(f"imbalance={imbalance}; wanted the first class's number over the last one's, 1 or more")
    targets, counts = _counted(train, f"imbalance={imbalance}")
    shares = imbalance ** -(np.arange(len(targets)) / max(len(targets) - 1, 1))
    wanted = np.maximum((counts.min() * shares).astype(int), 1)
    return _drawn(train, dict(zip(targets, wanted, strict=True)), seed)


def _counted(train: Split, asked: str) -> tuple[np.ndarray, np.ndarray]:
    if train.kind != "classes":
        raise ValueError(f"{asked}, but these targets are {train.kind}, not classes")
    return np.unique(train.targets, return_counts=True)


def _drawn(train: Split, counts: dict[int, int], seed: int) -> Split:
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(train.targets == target))[:count] for target, count in counts.items()]
    return train.take(np.sort(np.concatenate(chosen)))
