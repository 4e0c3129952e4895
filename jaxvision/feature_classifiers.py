"""Classifiers on features: fit(features, targets, num_classes) returns a function from features to scores [N, C].

All are pure functions of their arguments. What a classifier has to choose, it chooses by its training examples, or by
the validation examples if they are given; never by the examples that it predicts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import numpy as np

from jaxvision import linear_head
from jaxvision.linear_head import Examples
from jaxvision.thread_pools import one_thread

NEIGHBORS = (1, 3, 5, 10, 20)
RIDGE_STRENGTHS = tuple(2.0**power for power in range(-10, 20))  # those of big_vision's few-shot evaluation
USUAL_RIDGE = 2.0**10  # where nothing can be left out; big_vision's
CONSTANT = 100.0  # of the feature for the bias, so large that the bias is almost unregularized

Predict = Callable[[np.ndarray], np.ndarray]

Fitting = TypeVar("Fitting", bound="Callable[..., Fitted]")


class Fitted(NamedTuple):
    """A fitted classifier: `predict(features)` returns scores [N, C]; `chosen` are the values that it chose."""

    predict: Predict
    chosen: Mapping[str, float] = MappingProxyType({})


class Fit(Protocol):
    """A classifier: fit it to features [N, D] and class indices [N] of `num_classes` classes.

    `validation` are the examples by which it chooses, in place of the training examples.
    """

    def __call__(
        self, features: np.ndarray, targets: np.ndarray, num_classes: int, *, validation: Examples | None = ...
    ) -> Fitted: ...


def _on_one_thread(fit: Fitting) -> Fitting:
    """Return a classifier that is fitted to small matrices on one thread."""

    @functools.wraps(fit)
    def fitted(features: np.ndarray, targets: np.ndarray, num_classes: int, **options: Any) -> Fitted:
        with one_thread(features.size):
            return fit(features, targets, num_classes, **options)

    return cast(Fitting, fitted)


def nearest_mean(
    features: np.ndarray, targets: np.ndarray, num_classes: int, *, validation: Examples | None = None
) -> Fitted:
    """Fit the classifier that predicts the class whose mean is nearest. Scores are negative squared distances.

    A class without examples has the score -inf. There is nothing to choose.
    """
    present = np.unique(targets)
    means = np.stack([features[targets == target].mean(axis=0, dtype=np.float64) for target in present])

    def predict(queries: np.ndarray) -> np.ndarray:
        scores = np.full((len(queries), num_classes), -np.inf)
        products = queries.astype(np.float64) @ means.T
        squares = (queries.astype(np.float64) ** 2).sum(axis=1, keepdims=True)
        scores[:, present] = 2 * products - squares - (means**2).sum(axis=1)
        return scores

    return Fitted(predict)


def nearest_neighbors(
    features: np.ndarray,
    targets: np.ndarray,
    num_classes: int,
    *,
    neighbors: Sequence[int] = NEIGHBORS,
    validation: Examples | None = None,
) -> Fitted:
    """Fit k nearest neighbors by cosine similarity. Scores are the fractions of the neighbors of each class.

    k is the number of neighbors with the best accuracy, by leaving out one training example at a time, or on
    validation; of equally good ones the smallest. Of classes with the same score, the first is predicted.
    """
    known, votes = _normalized(features), np.eye(num_classes)[targets]

    def scores_for(similarities: np.ndarray, k: int) -> np.ndarray:
        nearest = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
        return votes[nearest].mean(axis=1)

    if validation is None:
        similarities, truth = known @ known.T, targets
        np.fill_diagonal(similarities, -np.inf)
    else:
        similarities, truth = _normalized(validation[0]) @ known.T, validation[1]
    most = len(features) - (validation is None)
    possible = [k for k in sorted(neighbors) if k <= most] or [1]
    if len(possible) > 1:
        accuracies = [(scores_for(similarities, k).argmax(axis=1) == truth).mean() for k in possible]
        possible = [possible[int(np.argmax(accuracies))]]
    return Fitted(lambda queries: scores_for(_normalized(queries) @ known.T, possible[0]), {"k": possible[0]})


def _normalized(features: np.ndarray) -> np.ndarray:
    """Return features in float64 with length 1; those of length 0 stay."""
    features = features.astype(np.float64)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths == 0, 1, lengths)


@_on_one_thread
def logistic_regression(
    features: np.ndarray,
    targets: np.ndarray,
    num_classes: int,
    *,
    strengths: Sequence[float] = linear_head.STRENGTHS,
    validation: Examples | None = None,
) -> Fitted:
    """Fit multinomial logistic regression, as `linear_head.fit` does. Scores are log probabilities.

    C, the inverse strength of the L2 regularization as in scikit-learn, is chosen by cross-validation or on validation.
    """
    head = linear_head.fit((features, targets), num_classes, strengths=strengths, validation=validation)
    return Fitted(lambda queries: linear_head.log_probabilities(head, queries), {"C": head.strength})


@_on_one_thread
def ridge(
    features: np.ndarray,
    targets: np.ndarray,
    num_classes: int,
    *,
    strengths: Sequence[float] = RIDGE_STRENGTHS,
    validation: Examples | None = None,
) -> Fitted:
    """Fit L2-regularized least squares as in big_vision's few-shot evaluation (`fewshot_lsr`). Scores are its outputs.

    Features are whitened with their mean and standard deviation + 1e-5 and extended by a constant feature of 100;
    targets are 1 for the class and -1 for others. One eigendecomposition serves all strengths. The l2 is the one with
    the smallest squared error of training examples that are left out one at a time (with the whitening of all), or of
    validation; of equally good ones the largest. If no class has two examples, it is 2**10, which is big_vision's.
    """
    mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64) + 1e-5

    def extended(rows: np.ndarray) -> np.ndarray:
        return np.pad((rows - mean) / std, ((0, 0), (0, 1)), constant_values=CONSTANT)

    inputs, signs = extended(features), 2 * np.eye(num_classes) - 1
    outputs = signs[targets]
    is_wide = len(inputs) < inputs.shape[1]
    values, vectors = np.linalg.eigh(inputs @ inputs.T if is_wide else inputs.T @ inputs)
    left = inputs.T @ vectors if is_wide else vectors
    right = vectors.T @ (outputs if is_wide else inputs.T @ outputs)
    projected = inputs @ left
    squares = projected * (vectors if is_wide else projected)

    def weights(strength: float) -> np.ndarray:
        return left / (values + strength) @ right

    def left_out_error(strength: float) -> float:
        leverage = (squares / (values + strength)).sum(axis=1)  # the diagonal of X (X'X + l2)^-1 X'
        residuals = (outputs - projected / (values + strength) @ right) / np.maximum(1 - leverage, 1e-12)[:, None]
        return float((residuals**2).mean())

    def error(strength: float) -> float:
        if validation is None:
            return left_out_error(strength)
        return float(((extended(validation[0]) @ weights(strength) - signs[validation[1]]) ** 2).mean())

    chosen = strengths[0] if len(strengths) == 1 else USUAL_RIDGE
    if len(strengths) > 1 and (validation is not None or np.bincount(targets).max() > 1):
        ordered = sorted(strengths, reverse=True)
        chosen = ordered[int(np.argmin([error(each) for each in ordered]))]
    solution = weights(chosen)
    return Fitted(lambda queries: extended(queries) @ solution, {"l2": chosen})


CLASSIFIERS: dict[str, Fit] = {
    "nearest_mean": nearest_mean,
    "knn": nearest_neighbors,
    "logistic": logistic_regression,
    "ridge": ridge,
}
