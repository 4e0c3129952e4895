"""The learning curve of a linear head, and which images to label next."""

import numpy as np
import pytest

from jaxvision import label_next as next_images
from jaxvision import linear_head
from jaxvision.learning_curve import LearningCurve, Point, _gain, learning_curve


def examples(count, *, distance, seed=0, num_classes=4, size=30):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(num_classes, size))
    targets = np.arange(count) % num_classes
    return centers[targets] * distance + rng.normal(size=(count, size)), targets


def test_accuracy_grows_with_the_number_of_images_and_more_would_help():
    train, validation = examples(96, distance=0.35), examples(800, distance=0.35, seed=1)
    curve = learning_curve(train, validation, num_classes=4, strength=0.01)
    assert [point.num_images for point in curve.points] == [12, 24, 48, 96]
    whole = linear_head.accuracy(linear_head.fit(train, 4, strengths=[0.01]), validation)
    assert curve.points[-1] == Point(96, whole, 0.0)
    assert curve.points[0].accuracy + 0.1 < whole and curve.points[0].deviation > 0
    assert curve.answer.startswith("more images would help: expect about +")
    curves = [
        [
            learning_curve(examples(n, distance=0.35, seed=s), validation, num_classes=4, strength=0.01)
            for n in (96, 192)
        ]
        for s in range(10, 14)
    ]
    expected = np.mean([few.gain for few, _ in curves])
    found = np.mean([more.points[-1].accuracy - few.points[-1].accuracy for few, more in curves])
    assert expected == pytest.approx(found, abs=0.02) and found > 0.02


def test_more_of_what_is_solved_does_not_help_and_few_validation_images_cannot_tell():
    train = examples(160, distance=3.0)
    solved = learning_curve(train, examples(800, distance=3.0, seed=1), num_classes=4, strength=1.0)
    assert solved.answer.startswith("more images of this kind would hardly help")
    unsure = LearningCurve(*[[Point(10, 0.7, 0.05), Point(20, 0.72, 0.05), Point(40, 0.71, 0.0)]], 0.005, 0.09)
    assert unsure.answer.startswith("it is not clear")


def test_the_gain_is_that_of_a_doubling():
    points = [Point(10, 0.2, 0.1), Point(25, 0.5, 0.04), Point(50, 0.6, 0.02), Point(100, 0.7, 0.0)]
    gain, error = _gain(points, 400)
    assert gain == pytest.approx(0.3 - 0.3**2 / 0.4)  # the errors are 0.4 and 0.3, and the next is 0.225
    assert error == pytest.approx(np.hypot(np.sqrt(0.7 * 0.3 / 400), 0.02 / np.sqrt(5)))


def test_one_image_of_each_class_says_nothing():
    curve = learning_curve(examples(4, distance=3.0), examples(80, distance=3.0, seed=1), num_classes=4, strength=1.0)
    assert (len(curve.points), curve.gain, curve.error) == (1, None, None)
    assert curve.answer == "with one image of each class, nothing can be said about more images"


def test_the_next_images_are_unsure_and_differ():
    directions = np.array([[1.0, 0], [0.99, 0.01], [0, 1.0], [-1.0, 0], [0.5, 0.5], [0, -1.0]])
    sure, unsure = [0.9, 0.06, 0.04], [0.4, 0.38, 0.22]
    probabilities = np.array([unsure, unsure, unsure, unsure, sure, sure])
    assert next_images.margins(probabilities)[[0, 4]] == pytest.approx([0.02, 0.84])
    chosen = next_images.choose(directions, probabilities, 1)
    assert chosen.tolist() == [0]
    three = next_images.choose(np.repeat(directions[:4], 2, axis=0), np.repeat(probabilities[:4], 2, axis=0), 3)
    assert three[0] == 0 and set(three[1:] // 2) == {3, 2}  # the opposite first, then the one between
    assert sorted(next_images.choose(directions, probabilities, 100)) == [0, 1, 2, 3, 4, 5]
