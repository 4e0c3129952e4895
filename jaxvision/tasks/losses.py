"""Losses for classes of unequal numbers: what several classification tasks share. Nothing here acts in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.interfaces import Array, Targets

Weights = Literal["balanced", "effective"] | tuple[float, ...] | None
PositiveWeight = float | Literal["balanced"] | None


def class_weights(wanted: Weights, targets: Targets | None, num_classes: int, *, beta: float) -> np.ndarray | None:
    """Gives the weight of each class [C], scaled so that training examples weigh 1 on average; None for equal ones.

    "balanced" is one part in the class's number of examples; "effective" (1 - beta) / (1 - beta^n), by the effective
    number of n examples (Y. Cui et al., Class-Balanced Loss, CVPR 2019, equation 10). Raises ValueError for weights
    that are not one above 0 for each class.
    """
    if wanted is None or targets is None:  # what is only evaluated has no training targets and needs no weights
        return None
    counts = np.array(targets.counts, np.float64)
    if wanted == "balanced":
        weights = 1 / np.maximum(counts, 1)
    elif wanted == "effective":
        if not 0 <= beta < 1:
            raise ValueError(f"beta={beta}; wanted at least 0 and below 1, as 0.999")
        weights = (1 - beta) / (1 - beta ** np.maximum(counts, 1))
    else:
        weights = np.array(wanted, np.float64)
    if len(weights) != num_classes or not (weights > 0).all():
        raise ValueError(f"class_weights={wanted}; wanted {num_classes} numbers above 0, 'balanced' or 'effective'")
    return weights * counts.sum() / (weights * counts).sum()


def log_priors(targets: Targets) -> np.ndarray:
    """The logarithm of each class's share of the training examples [C]."""
    counts = np.maximum(np.array(targets.counts, np.float64), 1)
    return np.log(counts / counts.sum())


def check_focal(gamma: float) -> None:
    """Raises ValueError for what is no exponent of the focal loss."""
    if gamma < 0:
        raise ValueError(f"focal={gamma}; wanted 0 (plain cross-entropy) or more, as 2.0")


def softmax_loss(logits: Array, targets: Array, *, focal: float, weights: np.ndarray | None) -> Array:
    """Cross-entropy [B] of logits and soft targets [B, C], each class times its weight.

    focal is the exponent gamma of (1 - p), by which what is right already counts less (T.-Y. Lin et al., Focal Loss,
    ICCV 2017, equation 4).
    """
    log_probabilities = jax.nn.log_softmax(logits)
    terms = -targets * log_probabilities
    if focal:
        # bounded below, as a root is infinitely steep at 0, which is what remains beside a probability of nearly 1
        terms *= jnp.maximum(-jnp.expm1(log_probabilities), jnp.finfo(logits.dtype).eps) ** focal
    if weights is not None:
        terms *= jnp.asarray(weights, logits.dtype)
    return terms.sum(axis=-1)


def sigmoid_loss(
    logits: Array, targets: Array, *, focal: float, weights: Sequence[Array | np.ndarray | float]
) -> Array:
    """Cross-entropy of logits and shares of the positive, of one shape; weights are (of negatives, of positives)."""
    positive, negative = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    terms = [-(1 - targets) * negative, -targets * positive]
    if focal:
        terms = [terms[0] * jnp.exp(positive * focal), terms[1] * jnp.exp(negative * focal)]
    return sum((term * weight for term, weight in zip(terms, weights, strict=True)), start=jnp.zeros_like(logits))
