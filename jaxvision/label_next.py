"""Which images to label next: those of which a classifier is least sure, and which differ from each other."""

from __future__ import annotations

import numpy as np

CANDIDATES = 5  # times the number of images that are wanted, by uncertainty, of which different ones are taken


def margins(probabilities: np.ndarray) -> np.ndarray:
    """Return by how much the most probable class of each row [N, C] exceeds the second: small if it is unsure."""
    ordered = np.sort(probabilities, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def label_next(features: np.ndarray, probabilities: np.ndarray, count: int) -> np.ndarray:
    """Return the positions of `count` images, the most informative first.

    Of the images with the smallest margins, the farthest from those taken so far is taken next, by the cosine of their
    features (the greedy k-center rule of O. Sener and S. Savarese, Active Learning for CNNs, ICLR 2018, section 4.1).

    Args:
        features: [N, D].
        probabilities: of the classes, [N, C].
        count: how many; all if there are fewer.
    """
    unsure = np.argsort(margins(probabilities), kind="stable")[: CANDIDATES * count]
    directions = features[unsure] / np.maximum(np.linalg.norm(features[unsure], axis=1, keepdims=True), 1e-12)
    taken = [0]
    closest = directions @ directions[0]
    while len(taken) < min(count, len(unsure)):
        closest[taken] = np.inf
        taken.append(int(np.argmin(closest)))
        closest = np.maximum(closest, directions @ directions[taken[-1]])
    return unsure[taken]
