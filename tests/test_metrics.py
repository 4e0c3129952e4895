"""Metrics by hand; for those from scikit-learn, only that the right ones are called."""

import numpy as np
import pytest

from jaxvision.tasks import metrics

TARGETS = np.array([0, 0, 0, 1, 1, 2])
DECIDED = np.array([0, 0, 1, 1, 0, 0])
PROBABILITIES = np.eye(3)[DECIDED] * 0.7 + 0.1


def test_classification_by_hand():
    report = metrics.classification(TARGETS, DECIDED, PROBABILITIES, classes=("a", "b", "c"))
    assert report["confusion_matrix"] == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert report["per_class"]["a"] == {
        "precision": pytest.approx(2 / 4),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(4 / 7),
        "num_examples": 3,
    }
    assert report["per_class"]["c"] == {"precision": 0, "recall": 0, "f1": 0, "num_examples": 1}
    assert report["macro"]["recall"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert report["weighted"]["recall"] == pytest.approx(3 / 6)  # the accuracy
    assert report["most_confused"][0] == {"true": "a", "predicted": "b", "count": 1}
    assert len(report["most_confused"]) == 3 and "top_5_accuracy" not in report
    assert report["expected_calibration_error"] == pytest.approx(0.8 - 0.5)


def test_calibration_error_by_hand():
    correct, confidence = np.array([1, 0, 1, 1]), np.array([0.95, 0.95, 0.55, 1.0])
    # bins (14/15, 1]: three of mean confidence 2.9 / 3 and accuracy 2 / 3; and one of 0.55 and 1
    assert metrics.calibration_error(correct, confidence) == pytest.approx(3 / 4 * (2.9 / 3 - 2 / 3) + 1 / 4 * 0.45)


def test_binary_figures_by_hand():
    figures = metrics.binary(np.array([0, 1, 0, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0.1, 0.9]]))
    assert figures["auroc"] == pytest.approx(3 / 4)
    assert figures["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.binary(np.array([1, 1]), np.full((2, 2), 0.5)) == {}
