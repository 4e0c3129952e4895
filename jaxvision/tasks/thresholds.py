"""Probability thresholds: given, or fitted on validation for the best F1 or a target precision or recall."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from jaxvision.tasks import metrics

Aim = float | Literal["f1"] | tuple[Literal["precision", "recall"], float]


def check(aim: Aim) -> None:
    """Raise ValueError if `aim` is neither a threshold nor a valid criterion."""
    value = aim if isinstance(aim, int | float) else aim[1] if isinstance(aim, tuple) else 0.5
    if not 0 < value < 1:
        raise ValueError(
            f"threshold={aim!r}; expected a probability between 0 and 1, 'f1', ('precision', 0.9) or ('recall', 0.99)"
        )


def chosen(aim: Aim, targets: np.ndarray, probabilities: np.ndarray) -> tuple[float, ...]:
    """Fit the threshold of each column of probabilities [N, T] to targets [N, T] of 0 and 1."""
    assert not isinstance(aim, int | float)
    what, target = (aim, 0.0) if isinstance(aim, str) else aim
    columns = zip(targets.T, probabilities.T, strict=True)
    return tuple(metrics.best_threshold(column, scores, what=what, target=target) for column, scores in columns)


def known(aim: Aim, thresholds: tuple[float, ...] | None, num_columns: int) -> np.ndarray | None:
    """Return the thresholds [T] that are given or already fitted; None if they are not fitted yet."""
    if isinstance(aim, int | float):
        return np.full(num_columns, aim, np.float64)
    return None if thresholds is None else np.array(thresholds, np.float64)


def require(thresholds: np.ndarray | None) -> np.ndarray:
    """Return the thresholds. Raises ValueError if they are not fitted yet."""
    if thresholds is None:
        raise ValueError("this run's thresholds are not fitted yet; finish training, or run `jaxvision evaluate`")
    return thresholds


def is_reached(probabilities: Any, thresholds: np.ndarray) -> Any:
    """Return whether probabilities [..., T] are at or above thresholds [T] of float64, for NumPy and JAX arrays.

    A threshold may lie between two neighboring numbers of the probabilities' type, so it is rounded up to that type:
    rounding it to the nearest could move it across a probability.

    >>> scores = np.array([[0.99999994], [0.9999999]], np.float32)
    >>> is_reached(scores, scores.astype(np.float64).mean(axis=0)).tolist()
    [[True], [False]]
    """
    nearest = thresholds.astype(probabilities.dtype)
    above = np.nextafter(nearest, nearest.dtype.type(np.inf))
    bounds = np.where(nearest.astype(np.float64) < thresholds, above, nearest)
    return probabilities >= bounds.reshape((1,) * (probabilities.ndim - 1) + (-1,))
