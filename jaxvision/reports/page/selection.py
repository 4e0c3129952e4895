"""Which examples the page shows: the worst mistakes, and the answers that the model was least sure of."""

from __future__ import annotations

import numpy as np

from jaxvision.reports.page.page_data import PageData

NUM_MISTAKES = 16
NUM_UNSURE = 8


def worst_mistakes(data: PageData) -> list[int]:
    """Return the examples with the largest errors, the worst first: the most confident wrong classes."""
    wrongness = _wrongness(data)
    if wrongness is None:
        return []
    return [int(i) for i in np.argsort(-wrongness, kind="stable")[:NUM_MISTAKES] if wrongness[i] > 0]


def _wrongness(data: PageData) -> np.ndarray | None:
    targets = data.split.targets
    if data.form == "classes":
        return np.where(data.correct, 0.0, data.confidence)
    if data.form == "labels":
        wrong = data.predicted != (targets >= 0.5)
        return (wrong * (1 + np.abs(data.probabilities - targets))).sum(axis=1)
    return np.abs(data.probabilities - targets) if data.form == "numbers" and not data.split.ordered else None


def least_sure(data: PageData) -> list[int]:
    """Return the examples with the smallest difference between the two most probable classes."""
    if data.form != "classes" or len(data.classes) < 2:
        return []
    margin = margins(data)
    taken = set(worst_mistakes(data))
    return [i for i in np.argsort(margin, kind="stable").tolist() if i not in taken][:NUM_UNSURE]


def margins(data: PageData) -> np.ndarray:
    """Return the difference between the two largest probabilities, [N]."""
    top = np.partition(data.probabilities, -2, axis=1)[:, -2:]
    return top[:, 1] - top[:, 0]
