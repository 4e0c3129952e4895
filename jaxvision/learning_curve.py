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
    """Points by the number of images, and the expected gain of twice as many, with its standard error, or None."""

    points: list[Point]
    gain: float | None
    error: float | None

    @property
    def answer(self) -> str:
        """Whether more images would help, in a sentence."""
        if self.gain is None or self.error is None:
            return "with one image of each class, nothing can be said about more images"
        gain = f"{100 * self.gain:+.1f} ± {100 * self.error:.1f} points of accuracy from twice as many images"
        if self.gain > max(LEAST_GAIN, self.error):
            return f"more images would help: expect about {gain}"
        if self.gain + 2 * self.error > LEAST_GAIN:
            return f"it is not clear whether more images would help: {gain}"
        return f"more images of this kind would hardly help: {gain}"


def learning_curve(
    train: Examples, validation: Examples, *, num_classes: int, strength: float, seed: int = 0
) -> LearningCurve:
    """Fit heads to fractions of train, drawn by class, and compute their accuracy on validation.

    The gain of twice as many images follows from the last two points, as the error falls with a power of the number (J.
    Hestness et al., Deep Learning Scaling is Predictable, 2017, section 2). Its standard error includes that of the
    validation split.
    """
    points, rng = [], np.random.default_rng(seed)
    for fraction in FRACTIONS:
        draws = [_draw(train[1], fraction, rng) for _ in range(NUM_DRAWS if fraction < 1 else 1)]
        scores = []
        for chosen in draws:
            head = linear_head.fit((train[0][chosen], train[1][chosen]), num_classes, strengths=[strength])
            scores.append(linear_head.accuracy(head, validation))
        if not points or len(draws[0]) > points[-1].num_images:
            points.append(Point(len(draws[0]), float(np.mean(scores)), float(np.std(scores))))
    return LearningCurve(points, *(_gain(points, len(validation[1])) or (None, None)))


def _draw(targets: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return the positions of a fraction of the examples of each class, at least one."""
    chosen = []
    for index in np.unique(targets):
        members = np.flatnonzero(targets == index)
        chosen.append(rng.permutation(members)[: max(round(fraction * len(members)), 1)])
    return np.sort(np.concatenate(chosen))


def _gain(points: Sequence[Point], num_validation: int) -> tuple[float, float] | None:
    """Return the expected gain and its standard error, None from a single point."""
    if len(points) < 2:
        return None
    before, last = points[-2:]
    error, error_before = max(1 - last.accuracy, 1e-9), max(1 - before.accuracy, 1e-9)
    power = math.log(error_before / error) / math.log(last.num_images / before.num_images)
    # Both heads see the same validation images, so the deviation of a difference is about that of one accuracy.
    share = min(max(last.accuracy, 1 / num_validation), 1 - 1 / num_validation)
    deviation = math.hypot(math.sqrt(share * (1 - share) / num_validation), before.deviation / math.sqrt(NUM_DRAWS))
    return error * (1 - 2.0**-power), deviation
