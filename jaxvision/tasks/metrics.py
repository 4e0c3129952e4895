"""Metrics of (targets, predictions) that are not means over examples; computed by scikit-learn if it has them.

A macro average is the plain mean over the classes that occur in the targets, in every metric. A class without an
example has no recall, and its precision would depend on mistakes alone: it has no metrics of its own, and
`absent_classes` names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def classification(
    targets: np.ndarray, predicted_labels: np.ndarray, probabilities: np.ndarray, *, classes: Sequence[str]
) -> dict[str, Any]:
    """Compute classification metrics of predicted classes [N] and probabilities [N, C] against targets [N].

    Returns precision, recall and F1 per class, their means over the classes that occur (macro: plain; weighted: by the
    number of examples), the confusion matrix (rows are true classes), the most confused pairs and the expected
    calibration error. A class that is never predicted has a precision of 0, as in scikit-learn with zero_division=0.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    indices = np.arange(len(classes))
    matrix = confusion_matrix(targets, predicted_labels, labels=indices)

    options: dict[str, Any] = {"labels": indices, "average": None, "zero_division": 0}
    by_class = np.stack(precision_recall_fscore_support(targets, predicted_labels, **options)[:3])  # pyright: ignore
    counts = matrix.sum(axis=1)
    weighted = by_class @ (counts / max(counts.sum(), 1))
    values: dict[str, Any] = {"macro": _named(_mean_over_occurring(by_class, counts)), "weighted": _named(weighted)}
    values["per_class"] = {
        name: {**(_named(row) if count else {}), "num_examples": int(count)}
        for name, row, count in zip(classes, by_class.T, counts, strict=True)
    }
    values |= absent_classes(counts, classes)
    values["confusion_matrix"] = matrix.tolist()
    values["most_confused"] = most_confused(matrix, classes)
    values["expected_calibration_error"] = calibration_error(
        targets == predicted_labels, probabilities[np.arange(len(predicted_labels)), predicted_labels]
    )
    return values


def _named(row: Sequence[Any] | np.ndarray) -> dict[str, float]:
    return dict(zip(("precision", "recall", "f1"), map(float, row), strict=True))


def _mean_over_occurring(by_class: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the macro average of metrics [..., C]: the mean over the classes with examples, 0 if there are none."""
    return by_class[..., counts > 0].mean(axis=-1) if counts.any() else np.zeros(by_class.shape[:-1])


def absent_classes(counts: np.ndarray, classes: Sequence[str]) -> dict[str, list[str]]:
    """Name the classes without examples, which macro averages leave out; an empty dict if there are none."""
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    return {"absent_classes": absent} if absent else {}


def most_confused(matrix: np.ndarray, classes: Sequence[str], *, num_pairs: int = 10) -> list[dict[str, Any]]:
    """List the most frequent confusions, pairs of true and predicted class, of a confusion matrix [C, C]."""
    mistakes = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:num_pairs]
    pairs = [(int(i // len(matrix)), int(i % len(matrix))) for i in order]
    return [
        {"true": classes[i], "predicted": classes[j], "count": int(mistakes[i, j])} for i, j in pairs if mistakes[i, j]
    ]


def calibration_error(correct: np.ndarray, confidence: np.ndarray, *, num_bins: int = 15) -> float:
    """Compute the expected calibration error over equal-width bins ((m - 1) / M, m / M].

    (C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.)

    >>> calibration_error(np.array([True, False]), np.array([0.8, 0.8]))
    0.3
    """
    edges = np.linspace(0, 1, num_bins + 1).astype(confidence.dtype)
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, num_bins - 1)
    gaps = np.bincount(bins, weights=correct - confidence.astype(np.float64), minlength=num_bins)
    return float(round(np.abs(gaps).sum() / len(correct), 10))


def binary(targets: np.ndarray, probabilities: np.ndarray, *, logits: np.ndarray | None = None) -> dict[str, float]:
    """Compute AUROC and average precision from probabilities [N, 2]; an empty dict if one class does not occur.

    Examples are ranked by the log-odds, which still differ after probabilities have rounded to 1.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    if len(np.unique(targets)) < 2:
        return {}
    if logits is None:
        negative, positive = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float64).tiny)).T
        scores = positive - negative
    else:
        scores = _finite(logits)
    return {
        "auroc": float(roc_auc_score(targets, scores)),
        "average_precision": float(average_precision_score(targets, scores)),
    }


def _finite(scores: np.ndarray) -> np.ndarray:
    """Return scores as float64 of the same order, with infinite ones as the largest numbers."""
    return np.nan_to_num(scores.astype(np.float64), nan=np.nan)


def recalls(targets: np.ndarray, predicted_labels: np.ndarray) -> dict[str, float]:
    """Compute the accuracy and the mean recall of the classes that occur, from targets and predicted classes [N].

    >>> recalls(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    {'accuracy': 0.75, 'macro_recall': 0.5}
    """
    correct = targets == predicted_labels
    counts, hits = np.bincount(targets), np.bincount(targets, weights=correct)
    by_class = hits / np.maximum(counts, 1)
    return {"accuracy": float(correct.mean()), "macro_recall": float(_mean_over_occurring(by_class, counts))}


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
        The midpoint between two adjacent scores in float64, or the upper one if no number lies between them; 0.5 if no
        target is positive.
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
    above = ranked[last[best]]
    middle = below + (above - below) / 2
    return float(middle if middle > below else above)


def average_precisions(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the average precision of each label [T] from targets and scores [N, T].

    It is NaN for labels that do not occur.
    """
    from sklearn.metrics import average_precision_score

    columns = zip(targets.T, _finite(scores).T, strict=True)
    return np.array([average_precision_score(t, s) if t.any() else np.nan for t, s in columns])


def mean_average_precision(targets: np.ndarray, scores: np.ndarray) -> float:
    """Compute the mean average precision over the labels that occur; 0 if there are none."""
    precisions = average_precisions(targets, scores)
    return float(np.nanmean(precisions)) if np.isfinite(precisions).any() else 0.0


def multilabel(
    targets: np.ndarray,
    predicted_labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    classes: Sequence[str],
    logits: np.ndarray | None = None,
) -> dict[str, Any]:
    """Compute multilabel metrics of predicted labels and probabilities [N, T] against targets [N, T] of 0 and 1.

    Returns precision, recall, F1, average precision and AUROC per label, their mean over the labels that occur (macro)
    and pooled over all labels (micro). A label that is never predicted counts as 0. A label that does not occur has no
    metrics of its own; its false positives count in micro. AUROC and average precision rank by the logits, if given,
    because probabilities in float32 are equal for all logits above 17.
    """
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    labels = [1] if targets.shape[1] == 1 else None  # one column means two classes to scikit-learn: keep the positive

    def scores(average: str | None) -> Any:
        options: dict[str, Any] = {"average": average, "labels": labels, "zero_division": 0}
        return precision_recall_fscore_support(targets, predicted_labels, **options)[:3]  # pyright: ignore[reportReturnType]

    ranks = _finite(probabilities if logits is None else logits)
    precisions, counts = average_precisions(targets, ranks), targets.sum(axis=0)
    by_label = np.stack(scores(None))
    values: dict[str, Any] = {"macro": _named(_mean_over_occurring(by_label, counts)), "micro": _named(scores("micro"))}
    values |= absent_classes(counts, classes)
    values["per_class"] = {}
    for index, label in enumerate(classes):
        label_metrics: dict[str, float] = {}
        if counts[index] > 0:
            label_metrics |= _named(by_label[:, index])
            label_metrics["average_precision"] = float(precisions[index])
        if 0 < counts[index] < len(targets):
            label_metrics["auroc"] = float(roc_auc_score(targets[:, index], ranks[:, index]))
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
