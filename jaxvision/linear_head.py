"""Linear heads that are fitted to features by their optimum: multinomial logistic regression."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

STRENGTHS = tuple(10.0**power for power in range(-5, 2))  # inverse of the L2 penalty, C of scikit-learn
MOST_ITERATIONS = 1_000  # of L-BFGS; it stops far earlier where the penalty is not weak

Examples = tuple[np.ndarray, np.ndarray]  # features [N, D] and class indices [N]


class LinearHead(NamedTuple):
    """Weights of a head: outputs are `features @ kernel + bias`, with kernel [D, C] and bias [C], float64.

    `strength` is the inverse of the L2 penalty with which they were fitted.
    """

    kernel: np.ndarray
    bias: np.ndarray
    strength: float


def fit(examples: Examples, *, num_classes: int, strength: float) -> LinearHead:
    """Fit a logistic regression to centered features of mean square 1, and return it as the head of the features.

    All features are divided by one number, because with few examples their own deviations are noise. Raises ValueError
    if a class has no example.
    """
    from sklearn.linear_model import LogisticRegression

    features, targets = np.asarray(examples[0], np.float64), examples[1]
    absent = np.setdiff1d(np.arange(num_classes), targets)
    if len(absent):
        raise ValueError(f"no example of class {absent[0]} among {len(targets)}; each class needs one")
    mean = features.mean(axis=0)
    scale = float(np.sqrt(((features - mean) ** 2).mean())) or 1.0
    model = LogisticRegression(C=strength, max_iter=MOST_ITERATIONS).fit((features - mean) / scale, targets)
    kernel, bias = model.coef_.T, model.intercept_
    if num_classes == 2:  # scikit-learn has one column, the log odds of the second class
        kernel, bias = np.hstack([-kernel, kernel]) / 2, np.hstack([-bias, bias]) / 2
    kernel = kernel / scale
    return LinearHead(kernel, bias - mean @ kernel, strength)


def log_probabilities(head: LinearHead, features: np.ndarray) -> np.ndarray:
    """Return the log probabilities [N, C] of the classes."""
    from scipy.special import log_softmax

    return log_softmax(np.asarray(features, np.float64) @ head.kernel + head.bias, axis=1)


def log_loss(head: LinearHead, examples: Examples) -> float:
    """Return the mean negative log likelihood of the classes of examples."""
    return float(-np.take_along_axis(log_probabilities(head, examples[0]), examples[1][:, None], axis=1).mean())


def accuracy(head: LinearHead, examples: Examples) -> float:
    """Return the fraction of examples whose most probable class is theirs."""
    return float((log_probabilities(head, examples[0]).argmax(axis=1) == examples[1]).mean())


def choose_strength(train: Examples, validation: Examples, *, num_classes: int) -> LinearHead:
    """Fit a head to train for each of `STRENGTHS`, and return the one of the lowest log loss on validation."""
    heads = (fit(train, num_classes=num_classes, strength=strength) for strength in STRENGTHS)
    return min(heads, key=lambda head: log_loss(head, validation))
