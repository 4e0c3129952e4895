"""Figures of (targets, predictions) that are not means over examples; scikit-learn computes what it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def classification(
    targets: np.ndarray, decided: np.ndarray, probabilities: np.ndarray, *, classes: Sequence[str]
) -> dict[str, Any]:
    """Judges decided classes [N] and probabilities [N, C] against targets [N].

    Gives precision, recall and F1 by class and averaged, the confusion matrix (rows are true classes), the most
    confused pairs and the expected calibration error. A class that is never
    predicted, or does not occur, counts as 0, as in scikit-learn with zero_division=0.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    indices = np.arange(len(classes))
    matrix = confusion_matrix(targets, decided, labels=indices)

    def scores(average: str | None) -> tuple[Any, Any, Any]:
        options: dict[str, Any] = {"labels": indices, "average": average, "zero_division": 0}
        return precision_recall_fscore_support(targets, decided, **options)[:3]  # pyright: ignore[reportReturnType]

    def named(values: Sequence[Any]) -> dict[str, float]:
        return dict(zip(("precision", "recall", "f1"), map(float, values), strict=True))

    values: dict[str, Any] = {average: named(scores(average)) for average in ("macro", "weighted")}
    by_class = zip(classes, zip(*scores(None), strict=True), matrix.sum(axis=1), strict=True)
    values["per_class"] = {name: {**named(row), "num_examples": int(count)} for name, row, count in by_class}
    values["confusion_matrix"] = matrix.tolist()
    values["most_confused"] = most_confused(matrix, classes)
    values["expected_calibration_error"] = calibration_error(
        targets == decided, probabilities[np.arange(len(decided)), decided]
    )
    return values


def most_confused(matrix: np.ndarray, classes: Sequence[str], *, num_pairs: int = 10) -> list[dict[str, Any]]:
    """Lists the pairs of classes that are mistaken most often, from a confusion matrix [C, C]."""
    mistakes = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:num_pairs]
    pairs = [(int(i // len(matrix)), int(i % len(matrix))) for i in order]
    return [
        {"true": classes[i], "predicted": classes[j], "count": int(mistakes[i, j])} for i, j in pairs if mistakes[i, j]
    ]


def calibration_error(correct: np.ndarray, confidence: np.ndarray, *, num_bins: int = 15) -> float:
    """Gives the expected calibration error, of equal bins (C. Guo et al., On Calibration, ICML 2017, equation 3).

    >>> calibration_error(np.array([True, False]), np.array([0.8, 0.8]))
    0.3
    """
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, weights=correct - confidence.astype(np.float64), minlength=num_bins)
    return float(round(np.abs(gaps).sum() / len(correct), 10))


def binary(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Gives AUROC and average precision by probabilities [N, 2]; nothing where one class is missing.

    Examples are ranked by the logarithm of the odds, which still differs where probabilities have rounded to 1.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    if len(np.unique(targets)) < 2:
        return {}
    negative, positive = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float64).tiny)).T
    probability = positive - negative
    return {
        "auroc": float(roc_auc_score(targets, probability)),
        "average_precision": float(average_precision_score(targets, probability)),
    }
