"""Bootstrap intervals of a metric on the examples of a split."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from jaxvision.interfaces import Split

NUM_RESAMPLES = 1000
MOST_VALUES = 1e9  # scores that all resamples read together, a limit on time
LEAST_RESAMPLES = 100  # whatever they take

Interval = tuple[float, float]


def percentile_interval(
    statistic: Callable[[np.ndarray], float], split: Split, *, values_per_example: float = 1, level: float = 0.95
) -> tuple[Interval, int]:
    """Return the percentile interval of `statistic(indices)` under resampling, and the number of resamples.

    Examples of a group are drawn together, and of a series blocks of consecutive examples, the cube root of their
    number long (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, sections 13.3 and 8.6).
    """
    most = MOST_VALUES / max(len(split) * values_per_example, 1)
    num_resamples = int(min(max(most, LEAST_RESAMPLES), NUM_RESAMPLES))
    rng = np.random.default_rng(0)
    draw = _draws(split)
    values = [statistic(draw(rng)) for _ in range(num_resamples)]
    tail = (1 - level) / 2
    low, high = np.quantile([value for value in values if math.isfinite(value)] or [math.nan], [tail, 1 - tail])
    return (float(low), float(high)), num_resamples


def _draws(split: Split) -> Callable[[np.random.Generator], np.ndarray]:
    """Return the function that draws the indices of a resample."""
    size = len(split)
    if split.ordered:
        length = max(round(size ** (1 / 3)), 1)

        def blocks(rng: np.random.Generator) -> np.ndarray:
            starts = rng.integers(0, size, -(-size // length))
            return ((starts[:, None] + np.arange(length)) % size).ravel()[:size]

        return blocks
    if split.groups is None:
        return lambda rng: rng.integers(0, size, size)
    _, places = np.unique(split.groups, return_inverse=True)
    members = np.split(np.argsort(places, kind="stable"), np.cumsum(np.bincount(places))[:-1])
    return lambda rng: np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
