"""Whether probabilities are what they claim: calibration errors, proper scores, risk by coverage, and temperature.

Probabilities are [N, C] with the rows of a softmax. Those of a binary task are its two columns, and those of a label of
a multilabel task are the columns (1 - p, p), as `columns` returns them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEAST_TEMPERATURE, LARGEST_TEMPERATURE = 0.05, 20.0
TOLERANCE = 1e-3  # of sums in float32 or bfloat16 that should be 1
NUM_ROWS = 8192  # at once, so that a large split needs little memory in float64
NUM_FOLDS = 5  # parts of validation on which the temperature of the others must help


class Bin(NamedTuple):
    """The examples whose confidence is in one of the bins: mean confidence, accuracy, and their number."""

    confidence: float
    accuracy: float
    count: int


class Calibration(NamedTuple):
    """Expected calibration errors with bins of equal width and of equal mass, Brier score, negative log likelihood.

    `bins` are those of equal width that have examples: the points of a reliability diagram.
    """

    ece: float
    ece_equal_mass: float
    brier: float
    nll: float
    bins: list[Bin]


class RiskCoverage(NamedTuple):
    """The error rate among the most confident examples, `risk` [N], for each fraction of them, `coverage` [N].

    `area` is the mean of the risks: the area under the curve.
    """

    coverage: np.ndarray
    risk: np.ndarray
    area: float


def calibration(probabilities: np.ndarray, targets: np.ndarray, *, num_bins: int = 15) -> Calibration:
    """Measure how well probabilities [N, C] are calibrated, given targets [N] (class indices).

    The confidence of an example is its largest probability. The errors are those of C. Guo et al., On Calibration of
    Modern Neural Networks, ICML 2017, equation 3, with bins ((m - 1) / M, m / M]; and with bins that hold equally many
    examples (K. Nguyen and B. O'Connor, Posterior Calibration and Exploratory Analysis for Natural Language Processing
    Models, EMNLP 2015, section 3.2), where equal confidences stay in one bin. The Brier score is the sum over the
    classes, from 0 to 2 (G. W. Brier, 1950); the negative log likelihood is in nats.

    Args:
        probabilities: Rows that sum to 1, [N, C].
        targets: Class indices, [N].
        num_bins: Number of bins.

    Raises:
        ValueError: The shapes do not fit, there are no examples, or a number is no probability.

    >>> calibration(np.array([[0.2, 0.8], [0.8, 0.2]]), np.array([1, 1])).ece
    0.3
    """
    probabilities, targets = checked(probabilities, targets)
    confidences, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    inner = np.linspace(0, 1, num_bins + 1)[1:-1]
    widths = np.searchsorted(inner.astype(confidences.dtype), confidences, side="left")
    masses = np.searchsorted(np.quantile(confidences, inner), confidences, side="left")
    bins = _bins(widths, confidences, correct, num_bins)
    true = probabilities[np.arange(len(targets)), targets]
    brier = np.einsum("nc,nc->n", probabilities, probabilities, dtype=np.float64) - 2 * true.astype(np.float64) + 1
    return Calibration(
        _error(bins),
        _error(_bins(masses, confidences, correct, num_bins)),
        float(brier.mean()),
        float(-_logs(true).mean()),
        bins,
    )


def checked(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities [N, C] and class indices [N] as arrays. Raises ValueError if they are not."""
    probabilities, targets = np.asarray(probabilities), np.asarray(targets)
    if probabilities.ndim != 2 or targets.shape != probabilities.shape[:1] or not len(targets):
        raise ValueError(
            f"probabilities of shape {probabilities.shape} and targets of shape {targets.shape}; expected [N, C] and "
            "[N], with at least one example"
        )
    if not are_probabilities(probabilities):
        raise ValueError("the rows of the probabilities do not sum to 1; for logits, pass their softmax")
    if not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0 or targets.max() >= probabilities.shape[1]:
        raise ValueError(f"the targets are no class indices from 0 to {probabilities.shape[1] - 1}")
    return probabilities, targets


def are_probabilities(predictions: np.ndarray, *, per_label: bool = False) -> bool:
    """Return whether predictions [N, C] are in 0..1 and, unless they are those of labels, rows sum to 1."""
    if predictions.ndim != 2 or not np.issubdtype(predictions.dtype, np.floating):
        return False
    is_within = bool(((predictions >= 0) & (predictions <= 1 + TOLERANCE)).all())
    return is_within and (per_label or bool((np.abs(predictions.sum(axis=1) - 1) <= TOLERANCE).all()))


def _bins(places: np.ndarray, confidences: np.ndarray, correct: np.ndarray, num_bins: int) -> list[Bin]:
    counts = np.bincount(places, minlength=num_bins)
    sums = [
        np.bincount(places, weights=values.astype(np.float64), minlength=num_bins) for values in (confidences, correct)
    ]
    means = np.stack(sums) / np.maximum(counts, 1)
    return [Bin(float(c), float(a), int(n)) for c, a, n in zip(*means, counts, strict=True) if n]


def _error(bins: list[Bin]) -> float:
    gaps = sum(each.count * abs(each.accuracy - each.confidence) for each in bins)
    return float(round(gaps / sum(each.count for each in bins), 10))


def _logs(probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithms of probabilities in float64; one that is 0 counts as the smallest number of its type."""
    return np.log(np.maximum(probabilities, np.finfo(probabilities.dtype).tiny), dtype=np.float64)


def risk_coverage(confidences: np.ndarray, correct: np.ndarray) -> RiskCoverage:
    """Return the error rate among the most confident examples, for each number of them.

    The area is that of Y. Geifman et al., Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, ICLR 2019,
    section 3. Examples with equal confidence count by their mean error, so that their order does not matter.

    Args:
        confidences: Larger where an answer is more certain, [N].
        correct: Whether the answer is right, [N].

    Raises:
        ValueError: The two have different lengths, or there are no examples.

    >>> risk_coverage(np.array([0.9, 0.5, 0.7]), np.array([True, False, True])).risk.round(3).tolist()
    [0.0, 0.0, 0.333]
    """
    confidences, correct = np.asarray(confidences), np.asarray(correct)
    if confidences.shape != correct.shape or confidences.ndim != 1 or not len(correct):
        raise ValueError(
            f"confidences of shape {confidences.shape} and correct of shape {correct.shape}; expected [N] with N >= 1"
        )
    _, group = np.unique(-confidences, return_inverse=True)
    means = np.bincount(group, weights=1.0 - correct) / np.bincount(group)
    count = np.arange(1, len(group) + 1)
    risk = np.cumsum(means[np.sort(group)]) / count
    return RiskCoverage(count / len(count), risk, float(risk.mean()))


def fit_temperature(logits: np.ndarray, targets: np.ndarray, *, tolerance: float = 1e-6) -> float:
    """Return the temperature T for which softmax(logits / T) has the smallest negative log likelihood.

    (C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.) It is searched from 0.05 to 20.
    If no example is wrong, smaller is always better, and it is 0.05: see `useful_temperature`.

    Args:
        logits: Outputs before the softmax, or logarithms of its probabilities, [N, C].
        targets: Class indices, [N].
        tolerance: Of the result, relative.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return float(_losses(logits, targets, float(np.exp(log_temperature))).mean())

    bounds = (np.log(LEAST_TEMPERATURE), np.log(LARGEST_TEMPERATURE))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": tolerance})
    return float(np.exp(found.x))  # pyright: ignore[reportAttributeAccessIssue]


def _losses(logits: np.ndarray, targets: np.ndarray, temperature: float) -> np.ndarray:
    """Return the negative log likelihood of each example with logits divided by a temperature."""
    from scipy.special import log_softmax

    losses = np.empty(len(targets))
    for start in range(0, len(targets), NUM_ROWS):
        part = slice(start, start + NUM_ROWS)
        logs = log_softmax(np.asarray(logits[part], np.float64) / temperature, axis=1)
        losses[part] = -logs[np.arange(len(logs)), targets[part]]
    return losses


def useful_temperature(logits: np.ndarray, targets: np.ndarray) -> float | None:
    """Return the temperature of `fit_temperature`, or None if it would not help on examples that it was not fitted to.

    It helps if the negative log likelihood of each fifth of the examples, with the temperature of the others, is
    smaller in the mean; for one below 1, which makes more certain, by more than its standard error. Without a wrong
    answer nothing bounds the confidence, and the result is None.
    """
    if (logits.argmax(axis=1) == targets).all() or len(targets) < NUM_FOLDS:
        return None
    folds, losses = np.arange(len(targets)) % NUM_FOLDS, np.empty(len(targets))
    for number in range(NUM_FOLDS):
        held = folds == number
        temperature = fit_temperature(logits[~held], targets[~held], tolerance=1e-3)
        losses[held] = _losses(logits[held], targets[held], temperature)
    gains = _losses(logits, targets, 1.0) - losses
    temperature = fit_temperature(logits, targets)
    error = len(gains) ** 0.5 * gains.std() if temperature < 1 else 0.0
    return temperature if gains.sum() > error else None


def logits_of(probabilities: np.ndarray) -> np.ndarray:
    """Return logits [N, C] in float64 whose softmax are probabilities [N, C]: their logarithms."""
    return _logs(probabilities)


def columns(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of a multilabel task as binary answers: the columns (1 - p, p) [N * T, 2], and targets [N * T].

    A probability that has rounded to 1 counts as the largest number below 1.
    """
    positive = _below_one(probabilities).reshape(-1)
    return np.stack([1 - positive, positive], axis=1), (np.asarray(targets).reshape(-1) >= 0.5).astype(np.int64)


def _below_one(probabilities: np.ndarray) -> np.ndarray:
    one = probabilities.dtype.type(1)
    return np.minimum(probabilities, np.nextafter(one, one * 0))


def scaled(probabilities: np.ndarray, temperature: float | None, *, per_label: bool = False) -> np.ndarray:
    """Return probabilities with their logits divided by a temperature, of the same type; None leaves them as they are.

    Args:
        probabilities: Of a softmax, [N, C]; with `per_label`, of a sigmoid for each label, of any shape.
        temperature: A positive number; more than 1 makes less certain.
        per_label: Whether each number is the probability of a label.

    >>> scaled(np.array([[0.1, 0.9]]), 2.0).round(3).tolist(), scaled(np.array([0.9]), 2.0, per_label=True).round(3)
    ([[0.25, 0.75]], array([0.75]))
    """
    if temperature is None:
        return probabilities
    from scipy.special import expit, softmax

    if per_label:
        below = _below_one(probabilities)
        odds = _logs(below) - np.log1p(-below.astype(np.float64))
        return expit(odds / temperature).astype(probabilities.dtype)
    results = np.empty_like(probabilities)
    for start in range(0, len(results), NUM_ROWS):
        part = slice(start, start + NUM_ROWS)
        results[part] = softmax(_logs(probabilities[part]) / temperature, axis=-1)
    return results
