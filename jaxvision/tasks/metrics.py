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


def recalls(targets: np.ndarray, decided: np.ndarray) -> dict[str, float]:
    """Gives accuracy and the mean recall of the classes that occur, of targets and decided classes [N].

    >>> recalls(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    {'accuracy': 0.75, 'macro_recall': 0.5}
    """
    correct = targets == decided
    counts, found = np.bincount(targets), np.bincount(targets, weights=correct)
    return {"accuracy": float(correct.mean()), "macro_recall": float((found[counts > 0] / counts[counts > 0]).mean())}


def best_threshold(targets: np.ndarray, scores: np.ndarray, *, what: str, share: float = 0.0) -> float:
    """Chooses the threshold from which on scores [N] count as positive, by targets [N] of 0 and 1.

    "f1" gives the best F1; "recall" the best precision of those that reach the share as recall, "precision" the best
    recall of those that reach it as precision, or the best precision where none does; of equals, the one that is better
    by the other measure. It lies midway between two scores; it is 0.5 where no target is positive.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order].astype(np.float64), np.cumsum(targets[order] > 0.5)
    if not len(hits) or not hits[-1]:
        return 0.5
    last = np.flatnonzero(np.diff(ranked, append=-np.inf))  # of each distinct score: all above it are positive too
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    merit = {
        "f1": 2 * precision * recall / np.maximum(precision + recall, 1e-12),
        "precision": recall,
        "recall": precision,
    }
    reached = {"f1": recall > 0, "precision": precision >= share, "recall": recall >= share}[what]
    worth = np.where(reached, merit[what], -1.0) if reached.any() else precision
    other = recall if what == "recall" or not reached.any() else precision
    best = int(np.lexsort((other, worth))[-1])
    below = ranked[last[best + 1]] if best + 1 < len(last) else 0.0
    return float((ranked[last[best]] + below) / 2)


def average_precisions(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Gives the average precision of each tag [T] from targets and scores [N, T]; NaN for tags that do not occur."""
    from sklearn.metrics import average_precision_score

    columns = zip(targets.T, scores.T, strict=True)
    return np.array([average_precision_score(t, s) if t.any() else np.nan for t, s in columns])


def mean_average_precision(targets: np.ndarray, scores: np.ndarray) -> float:
    """Gives the mean over the tags that occur of their average precision; 0 where none does."""
    found = average_precisions(targets, scores)
    return float(np.nanmean(found)) if np.isfinite(found).any() else 0.0


def multilabel(
    targets: np.ndarray, decided: np.ndarray, probabilities: np.ndarray, *, tags: Sequence[str]
) -> dict[str, Any]:
    """Judges decided tags [N, T] and probabilities [N, T] against targets [N, T] of 0 and 1.

    Gives precision, recall, F1, average precision and AUROC by tag, their mean over the tags that occur (macro) and
    pooled (micro). A tag that is never predicted counts as 0; one that does not occur has no figures of its own, and
    where it is predicted, that counts in micro.
    """
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    labels = [1] if targets.shape[1] == 1 else None  # one column is two classes there, of which we want the second

    def scores(average: str | None) -> Any:
        options: dict[str, Any] = {"average": average, "labels": labels, "zero_division": 0}
        return precision_recall_fscore_support(targets, decided, **options)[:3]  # pyright: ignore[reportReturnType]

    names = ("precision", "recall", "f1")
    precisions, counts = average_precisions(targets, probabilities), targets.sum(axis=0)
    by_tag, occurs = np.stack(scores(None)), counts > 0
    means = {"macro": by_tag[:, occurs].mean(axis=1) if occurs.any() else np.zeros(3), "micro": scores("micro")}
    values: dict[str, Any] = {name: dict(zip(names, map(float, row), strict=True)) for name, row in means.items()}
    values["per_class"] = {}
    for index, tag in enumerate(tags):
        figures: dict[str, float] = {}
        if occurs[index]:
            figures |= dict(zip(names, map(float, by_tag[:, index]), strict=True))
            figures["average_precision"] = float(precisions[index])
        if 0 < counts[index] < len(targets):
            figures["auroc"] = float(roc_auc_score(targets[:, index], probabilities[:, index]))
        values["per_class"][tag] = {**figures, "num_examples": int(counts[index])}
    values["all_tags_right"] = float((targets == decided).all(axis=1).mean())
    return values


def regression(targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Gives the root mean squared and the mean absolute error, R², and the correlations by Pearson and Spearman.

    What is not defined is left out: R² where all targets are alike, correlations where targets or predictions are.
    """
    from scipy.stats import pearsonr, spearmanr

    targets, predictions = targets.astype(np.float64), predictions.astype(np.float64)
    errors = predictions - targets
    values = {"rmse": float(np.sqrt((errors**2).mean())), "mae": float(np.abs(errors).mean())}
    if np.ptp(targets) > 0:
        values["r2"] = float(1 - (errors**2).sum() / ((targets - targets.mean()) ** 2).sum())
        if np.ptp(predictions) > 0:
            values["pearson"] = float(pearsonr(targets, predictions)[0])  # pyright: ignore[reportArgumentType]
            values["spearman"] = float(spearmanr(targets, predictions)[0])  # pyright: ignore[reportArgumentType]
    return values
