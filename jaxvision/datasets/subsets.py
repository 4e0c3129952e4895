"""Subsets of training splits: few examples per class, or a long-tailed distribution."""

from __future__ import annotations

import numpy as np

from jaxvision.interfaces import Split


def few(train: Split, per_class: int | None, *, seed: int) -> Split:
    """Draw per_class examples of each class; None keeps all. Raises ValueError if a class has fewer."""
    if per_class is None:
        return train
    if per_class < 1:
        raise ValueError(f"per_class={per_class}; expected a number of training examples per class, 1 or more")
    targets, counts = _counted(train, f"per_class={per_class}")
    if counts.min() < per_class:
        rarest = targets[counts.argmin()]
        raise ValueError(f"per_class={per_class}, but class {rarest} has {counts.min()} training examples")
    return _drawn(train, dict.fromkeys(targets, per_class), seed)


def long_tailed(train: Split, imbalance_ratio: float | None, *, seed: int) -> Split:
    """Draw a long-tailed subset: the first class has `imbalance_ratio` times the last one's examples; None keeps all.

    Class c of C keeps the fraction imbalance_ratio^(-c / (C - 1)) of the smallest class's size (Y. Cui et al.,
    Class-Balanced Loss, CVPR 2019, section 5.1; K. Cao et al., LDAM, NeurIPS 2019, section 4.2).
    """
    if imbalance_ratio is None:
        return train
    if imbalance_ratio < 1:
        raise ValueError(
            f"imbalance_ratio={imbalance_ratio}; expected the first class's size divided by the last one's, 1 or more"
        )
    targets, counts = _counted(train, f"imbalance_ratio={imbalance_ratio}")
    fractions = imbalance_ratio ** -(np.arange(len(targets)) / max(len(targets) - 1, 1))
    sizes = np.maximum((counts.min() * fractions).astype(int), 1)
    return _drawn(train, dict(zip(targets, sizes, strict=True)), seed)


def _counted(train: Split, argument: str) -> tuple[np.ndarray, np.ndarray]:
    if train.kind != "multiclass":
        raise ValueError(f"{argument} needs class targets; these are {train.kind}")
    return np.unique(train.targets, return_counts=True)


def _drawn(train: Split, counts: dict[int, int], seed: int) -> Split:
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(train.targets == target))[:count] for target, count in counts.items()]
    return train.select(np.sort(np.concatenate(chosen)))
