"""Metrics of (targets, predictions) that are not means over examples; computed by scikit-learn if it has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def classification(
    targets: np.ndarray, predicted_labels: np.ndarray, probabilities: np.ndarray, *, classes: Sequence[str]
) -> dict[str, Any]:
    """Compute classification metrics of predicted classes [N] and probabilities [N, C] against targets [N].

    Returns precision, recall and F1 per class and averaged, the confusion matrix (rows are true classes), the most
    confused pairs and the expected calibration error. A class that is never predicted or does not occur counts as 0, as
    in scikit-learn with zero_division=0.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    indices = np.arange(len(classes))
    matrix = confusion_matrix(targets, predicted_labels, labels=indices)

    def scores(average: str | None) -> tuple[Any, Any, Any]:
        options: dict[str, Any] = {"labels": indices, "average": average, "zero_division": 0}
        return precision_recall_fscore_support(targets, predicted_labels, **options)[:3]  # pyright: ignore[reportReturnType]

    def named(values: Sequence[Any]) -> dict[str, float]:
        return dict(zip(("precision", "recall", "f1"), map(float, values), strict=True))

    values: dict[str, Any] = {average: named(scores(average)) for average in ("macro", "weighted")}
    by_class = zip(classes, zip(*scores(None), strict=True), matrix.sum(axis=1), strict=True)
    values["per_class"] = {name: {**named(row), "num_examples": int(count)} for name, row, count in by_class}
    values["confusion_matrix"] = matrix.tolist()
    values["most_confused"] = most_confused(matrix, classes)
    values["expected_calibration_error"] = calibration_error(
        targets == predicted_labels, probabilities[np.arange(len(predicted_labels)), predicted_labels]
    )
    return values


def most_confused(matrix: np.ndarray, classes: Sequence[str], *, num_pairs: int = 10) -> list[dict[str, Any]]:
    """List the most frequent confusions, pairs of true and predicted class, of a confusion matrix [C, C]."""
    mistakes = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:num_pairs]
    pairs = [(int(i // len(matrix)), int(i % len(matrix))) for i in order]
    return [
        {"true": classes[i], "predicted": classes[j], "count": int(mistakes[i, j])} for i, j in pairs if mistakes[i, j]
    ]


def calibration_error(correct: np.ndarray, confidence: np.ndarray, *, num_bins: int = 15) -> float:
    """Compute the expected calibration error over equal-width bins.

    (C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.)

    >>> calibration_error(np.array([True, False]), np.array([0.8, 0.8]))
    0.3
    """
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, weights=correct - confidence.astype(np.float64), minlength=num_bins)
    return float(round(np.abs(gaps).sum() / len(correct), 10))


def binary(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Compute AUROC and average precision from probabilities [N, 2]; an empty dict if one class does not occur.

    Examples are ranked by the log-odds, which still differ after probabilities have rounded to 1.
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


def recalls(targets: np.ndarray, predicted_labels: np.ndarray) -> dict[str, float]:
    """Compute the accuracy and the mean recall of the classes that occur, from targets and predicted classes [N].

    >>> recalls(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    {'accuracy': 0.75, 'macro_recall': 0.5}
    """
    correct = targets == predicted_labels
    counts, hits = np.bincount(targets), np.bincount(targets, weights=correct)
    return {"accuracy": float(correct.mean()), "macro_recall": float((hits[counts > 0] / counts[counts > 0]).mean())}


def best_threshold(targets: np.ndarray, scores: np.ndarray, *, what: str, target: float = 0.0) -> float:
    """Compute the threshold at or above which scores [N] are positive, given targets [N] of 0 and 1.

    Args:
        targets: 0 or 1, [N].
        scores: scores or probabilities, [N].
        what: "f1" maximizes F1; "recall" maximizes precision among the thresholds whose recall is at least `target`;
            "precision" maximizes recall among those whose precision is at least `target`, or precision itself if
            none reaches it. Ties are resolved by the other metric.
        target: the recall or precision to reach.

    Returns:
        The midpoint between two adjacent scores; 0.5 if no target is positive.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order].astype(np.float64), np.cumsum(targets[order] > 0.5)
    if not len(hits) or not hits[-1]:
        return 0.5
    last = np.flatnonzero(np.diff(ranked, append=-np.inf))  # last index of each distinct score
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    merit = {
        "f1": 2 * precision * recall / np.maximum(precision + recall, 1e-12),
        "precision": recall,
        "recall": precision,
    }
    reached = {"f1": recall > 0, "precision": precision >= target, "recall": recall >= target}[what]
    worth = np.where(reached, merit[what], -1.0) if reached.any() else precision
    other = recall if what == "recall" or not reached.any() else precision
    best = int(np.lexsort((other, worth))[-1])
    below = ranked[last[best + 1]] if best + 1 < len(last) else 0.0
    return float((ranked[last[best]] + below) / 2)


def average_precisions(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the average precision of each label [T] from targets and scores [N, T].

    It is NaN for labels that do not occur.
    """
    from sklearn.metrics import average_precision_score

    columns = zip(targets.T, scores.T, strict=True)
    return np.array([average_precision_score(t, s) if t.any() else np.nan for t, s in columns])


def mean_average_precision(targets: np.ndarray, scores: np.ndarray) -> float:
    """Compute the mean average precision over the labels that occur; 0 if there are none."""
    precisions = average_precisions(targets, scores)
    return float(np.nanmean(precisions)) if np.isfinite(precisions).any() else 0.0


def multilabel(
    targets: np.ndarray, predicted_labels: np.ndarray, probabilities: np.ndarray, *, classes: Sequence[str]
) -> dict[str, Any]:
    """Compute multilabel metrics of predicted labels and probabilities [N, T] against targets [N, T] of 0 and 1.

    Returns precision, recall, F1, average precision and AUROC per label, their mean over the labels that occur (macro)
    and pooled over all labels (micro). A label that is never predicted counts as 0. A label that does not occur has no
    metrics of its own; its false positives count in micro.
    """
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    labels = [1] if targets.shape[1] == 1 else None  # one column means two classes to scikit-learn: keep the positive

    def scores(average: str | None) -> Any:
        options: dict[str, Any] = {"average": average, "labels": labels, "zero_division": 0}
        return precision_recall_fscore_support(targets, predicted_labels, **options)[:3]  # pyright: ignore[reportReturnType]

    names = ("precision", "recall", "f1")
    precisions, counts = average_precisions(targets, probabilities), targets.sum(axis=0)
    by_label, occurs = np.stack(scores(None)), counts > 0
    means = {"macro": by_label[:, occurs].mean(axis=1) if occurs.any() else np.zeros(3), "micro": scores("micro")}
    values: dict[str, Any] = {name: dict(zip(names, map(float, row), strict=True)) for name, row in means.items()}
    values["per_class"] = {}
    for index, label in enumerate(classes):
        label_metrics: dict[str, float] = {}
        if occurs[index]:
            label_metrics |= dict(zip(names, map(float, by_label[:, index]), strict=True))
            label_metrics["average_precision"] = float(precisions[index])
        if 0 < counts[index] < len(targets):
            label_metrics["auroc"] = float(roc_auc_score(targets[:, index], probabilities[:, index]))
        values["per_class"][label] = {**label_metrics, "num_examples": int(counts[index])}
    values["subset_accuracy"] = float((targets == predicted_labels).all(axis=1).mean())
    return values


def regression(targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Compute RMSE, MAE, R², and the correlations of Pearson and Spearman.

    Undefined metrics are omitted: R² if all targets are equal, correlations if all targets or all predictions are.
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
