"""How the accuracy of a linear head grows with the number of training images, and whether more would help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvision import linear_head
from jaxvision.linear_head import Examples

FRACTIONS = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of train
NUM_DRAWS = 5  # of each fraction but the whole
LEAST_GAIN = 0.005  # of a doubling that is worth the work


class Point(NamedTuple):
    """The accuracy on validation of heads that were fitted to so many images: mean and deviation over draws."""

    num_images: int
    accuracy: float
    deviation: float


class LearningCurve(NamedTuple):
    """Points by the number of images, and the expected gain of twice as many, with its standard error."""

    points: list[Point]
    gain: float
    error: float

    @property
    def answer(self) -> str:
        """Whether more images would help, in a sentence."""
        gain = f"{100 * self.gain:+.1f} ± {100 * self.error:.1f} points of accuracy from twice as many images"
        if self.gain > max(LEAST_GAIN, self.error):
            return f"more images would help: expect about {gain}"
        if self.gain + 2 * self.error > LEAST_GAIN:
            return f"whether more images would help is not clear: {gain}, by too few validation images to tell"
        return f"more images of this kind would hardly help: {gain}"


def learning_curve(
    train: Examples, validation: Examples, *, num_classes: int, strength: float, seed: int = 0
) -> LearningCurve:
    """Fit heads to fractions of train, drawn by class, and compute their accuracy on validation.

    The gain of twice as many images is the mean gain of the last two doublings; accuracy rises about evenly with the
    logarithm of their number. Its error includes that of the validation split.
    """
    points, rng = [], np.random.default_rng(seed)
    for fraction in FRACTIONS:
        draws = [_draw(train[1], fraction, rng) for _ in range(NUM_DRAWS if fraction < 1 else 1)]
        scores = []
        for chosen in draws:
            head = linear_head.fit((train[0][chosen], train[1][chosen]), num_classes=num_classes, strength=strength)
            scores.append(linear_head.accuracy(head, validation))
        if not points or len(draws[0]) > points[-1].num_images:
            points.append(Point(len(draws[0]), float(np.mean(scores)), float(np.std(scores))))
    return LearningCurve(points, *_gain(points, len(validation[1])))


def _draw(targets: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return the positions of a fraction of the examples of each class, at least one."""
    chosen = []
    for index in np.unique(targets):
        members = np.flatnonzero(targets == index)
        chosen.append(rng.permutation(members)[: max(round(fraction * len(members)), 1)])
    return np.sort(np.concatenate(chosen))


def _gain(points: Sequence[Point], num_validation: int) -> tuple[float, float]:
    last = points[-3:]
    if len(last) < 2:
        return 0.0, math.inf
    doublings = math.log2(last[-1].num_images / last[0].num_images)
    gain = (last[-1].accuracy - last[0].accuracy) / doublings
    share = min(max(last[-1].accuracy, 1 / num_validation), 1 - 1 / num_validation)
    # The images are the same for both heads, so the error of a difference is about that of one accuracy.
    error = math.hypot(math.sqrt(share * (1 - share) / num_validation), last[0].deviation / math.sqrt(NUM_DRAWS))
    return gain, error / doublings
