"""Whether what a page names can be chance: exact tests with the correction for all that were tried."""

from __future__ import annotations

import numpy as np

LEVEL = 0.01  # after Bonferroni's correction


def fewer_successes(successes: int, count: int, all_successes: int, all_count: int) -> float:
    """Return the probability that a random part of `count` examples has at most so many successes (Fisher's test).

    >>> round(fewer_successes(0, 5, 50, 100), 4)
    0.0281
    """
    from scipy.stats import hypergeom

    return float(hypergeom.cdf(successes, all_count, all_successes, count))


def larger_mean(part: np.ndarray, rest: np.ndarray) -> float:
    """Return the one-sided p-value of Welch's test that the mean of a part is larger than that of the rest."""
    from scipy.stats import ttest_ind

    if min(len(part), len(rest)) < 2 or np.ptp(part) == np.ptp(rest) == 0:
        return 1.0
    return float(ttest_ind(part, rest, equal_var=False, alternative="greater").pvalue)  # pyright: ignore


def more_events(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the probabilities of at least the observed counts under Poisson distributions of the expected means.

    >>> more_events(np.array([0, 10]), np.array([1.0, 1.0])).round(7).tolist()
    [1.0, 1e-07]
    """
    from scipy.stats import poisson

    return poisson.sf(observed - 1, np.maximum(expected, 1e-12))
