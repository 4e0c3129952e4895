"""Confidence intervals of measured fractions."""

from __future__ import annotations


def wilson(successes: int, count: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of a fraction of independent examples (E. B. Wilson, 1927), 0.95 for 95 %.

    >>> [round(end, 4) for end in wilson(15, 148)]
    [0.0624, 0.1605]
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, count).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)
