"""Linear heads that are fitted to features by their optimum: multinomial logistic regression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.splits import FEW
from jaxvision.thread_pools import one_thread

STRENGTHS = tuple(10.0**power for power in range(-5, 2))  # C of scikit-learn: smaller is more regularized
USUAL_STRENGTH = 1e-3  # where no example can be left out
NUM_FOLDS = 5
LEAST_PROBABILITY = 1e-6  # in the log loss that chooses, so that one example does not decide
LOOSE, TIGHT = 1e-4, 1e-8  # tolerances of the gradient: of the fits to choose by, and of the one that is returned

Examples = tuple[np.ndarray, np.ndarray]  # features [N, D] and class indices [N]


class LinearHead(NamedTuple):
    """Weights of a head: outputs are `features @ kernel + bias`, with kernel [D, C] and bias [C], float64.

    The bias of a class without examples is -inf. `strength` is C, the inverse of the L2 penalty of the fit.
    """

    kernel: np.ndarray
    bias: np.ndarray
    strength: float


def fit(
    train: Examples,
    num_classes: int,
    *,
    strengths: Sequence[float] = STRENGTHS,
    validation: Examples | None = None,
) -> LinearHead:
    """Fit a logistic regression to centered features of mean square 1, and return it as the head of the features.

    All features are divided by one number: with few examples, dividing each by its own deviation is worse (figures in
    docs/results.md). The strength is the one with the smallest log loss, by stratified cross-validation of train in up
    to 5 folds, or on validation; of equally good ones the smallest. If no class has two examples, it is 0.001, or the
    only one in `strengths`.
    """
    features, targets = np.asarray(train[0], np.float64), train[1]
    mean = features.mean(axis=0)
    scale = float(np.sqrt(((features - mean) ** 2).mean())) or 1.0
    centered = (features - mean) / scale
    # The weights are combinations of the examples. So with more features than examples, the fit in the space that the
    # examples span has the same result, in a fraction of the time.
    basis = np.linalg.svd(centered, full_matrices=False)[2].T if len(centered) < centered.shape[1] else None

    def reduced(rows: np.ndarray) -> np.ndarray:
        rows = (rows - mean) / scale
        return rows if basis is None else rows @ basis

    inputs = reduced(features)
    if validation is not None:
        pairs = [(slice(None), (reduced(validation[0]), validation[1]))]
    else:
        pairs = [(kept, (inputs[held], targets[held])) for kept, held in _folds(targets)]

    def loss(strength: float) -> float:
        heads = [_optimum((inputs[kept], targets[kept]), num_classes, strength, LOOSE) for kept, _ in pairs]
        losses = [
            np.minimum(_losses(head, held), -np.log(LEAST_PROBABILITY))
            for head, (_, held) in zip(heads, pairs, strict=True)
        ]
        return float(np.concatenate(losses).mean())

    chosen = strengths[0] if len(strengths) == 1 else USUAL_STRENGTH
    if pairs and len(strengths) > 1:
        ordered = sorted(strengths)
        chosen = ordered[int(np.argmin([loss(each) for each in ordered]))]
    head = _optimum((inputs, targets), num_classes, chosen, TIGHT)
    kernel = (head.kernel if basis is None else basis @ head.kernel) / scale
    return LinearHead(kernel, head.bias - mean @ kernel, chosen)


def fit_and_choose(train: Examples, validation: Examples | None, num_classes: int) -> LinearHead:
    """Fit a head whose strength is chosen on validation, or by cross-validation if that has few examples.

    Raises ValueError if a class has no example.
    """
    absent = np.setdiff1d(np.arange(num_classes), train[1])
    if len(absent):
        raise ValueError(f"no example of class {absent[0]} among {len(train[1])}; each class needs one")
    is_enough = validation is not None and len(validation[1]) >= FEW
    with one_thread(train[0].size):
        return fit(train, num_classes, validation=validation if is_enough else None)


def _optimum(examples: Examples, num_classes: int, strength: float, tolerance: float) -> LinearHead:
    """Fit a head, to a tolerance of the gradient."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=10_000, tol=tolerance).fit(*examples)
    weights, bias = model.coef_, model.intercept_
    if len(weights) == 1:  # of two classes, it has the log odds of the second
        weights, bias = np.vstack([-weights, weights]) / 2, np.hstack([-bias, bias]) / 2
    head = LinearHead(np.zeros((weights.shape[1], num_classes)), np.full(num_classes, -np.inf), strength)
    head.kernel[:, model.classes_], head.bias[model.classes_] = weights.T, bias
    return head


def log_probabilities(head: LinearHead, features: np.ndarray) -> np.ndarray:
    """Return the log probabilities [N, C] of the classes."""
    from scipy.special import log_softmax

    return log_softmax(np.asarray(features, np.float64) @ head.kernel + head.bias, axis=1)


def _losses(head: LinearHead, examples: Examples) -> np.ndarray:
    return -np.take_along_axis(log_probabilities(head, examples[0]), examples[1][:, None], axis=1)[:, 0]


def log_loss(head: LinearHead, examples: Examples) -> float:
    """Return the mean negative log likelihood of the classes of examples."""
    return float(_losses(head, examples).mean())


def accuracy(head: LinearHead, examples: Examples) -> float:
    """Return the fraction of examples whose most probable class is theirs."""
    return float((log_probabilities(head, examples[0]).argmax(axis=1) == examples[1]).mean())


def _folds(targets: np.ndarray, num_folds: int = NUM_FOLDS) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (training, held-out) indices of stratified folds; the only example of a class is never held out."""
    counts = np.bincount(targets)
    order = np.argsort(targets, kind="stable")
    rank = np.empty(len(targets), int)
    rank[order] = np.arange(len(targets)) - np.repeat(np.cumsum(counts) - counts, counts)
    fold = np.where(counts[targets] > 1, rank % min(num_folds, counts.max()), -1)
    for number in range(min(num_folds, counts.max())):
        if (fold == number).any():
            yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)
