"""Cross-entropy of a softmax or of sigmoids, and the focal loss, with weights for unequal classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision.interfaces import Array, Targets
from jaxvision.losses import register

LossFunction = Callable[[Array, Array], Array]
Activation = Literal["softmax", "sigmoid"]
Weights = Literal["balanced", "effective"] | tuple[float, ...] | None
PositiveWeight = float | Literal["balanced"] | None


@register("cross_entropy")
def cross_entropy(
    *,
    activation: Activation,
    num_classes: int,
    targets: Targets | None = None,
    label_smoothing: float = 0.0,
    class_weights: Weights = None,
    beta: float = 0.999,
    positive_weight: PositiveWeight = None,
    logit_adjustment: float = 0.0,
) -> LossFunction:
    """Cross-entropy of a softmax, or of a sigmoid for each column, whose mean it then is.

    label_smoothing gives that share of each target to all classes alike (C. Szegedy et al., Rethinking the Inception
    Architecture, CVPR 2016, section 7). class_weights, of one class for each example: "balanced", "effective" (with
    beta; Y. Cui et al., CVPR 2019, equation 10) or one for each class. positive_weight, of a sigmoid: a number by which
    the loss of what is present is multiplied, or "balanced", absent over present examples. logit_adjustment, of a
    softmax: a factor as 1.0 of the logarithm of each class's share, added to its logit (A. Menon et al., Long-Tail
    Learning via Logit Adjustment, ICLR 2021, equation 10).
    """
    return focal(
        activation=activation,
        num_classes=num_classes,
        targets=targets,
        gamma=0.0,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        beta=beta,
        positive_weight=positive_weight,
        logit_adjustment=logit_adjustment,
    )


@register("focal")
def focal(
    *,
    activation: Activation,
    num_classes: int,
    targets: Targets | None = None,
    gamma: float = 2.0,
    label_smoothing: float = 0.0,
    class_weights: Weights = None,
    beta: float = 0.999,
    positive_weight: PositiveWeight = None,
    logit_adjustment: float = 0.0,
) -> LossFunction:
    """Cross-entropy times (1 - p)^gamma, by which what is right already counts less.

    (T.-Y. Lin et al., Focal Loss, ICCV 2017, equation 4.) The other options are those of `cross_entropy`.
    """
    _check_at_least_0(gamma=gamma, logit_adjustment=logit_adjustment)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing}; wanted a share from 0 to below 1")
    if activation == "softmax":
        _refuse("outputs of a sigmoid: use class_weights", positive_weight=positive_weight)
        weights = _class_weights(class_weights, targets, num_classes, beta=beta)
        shift = logit_adjustment * _log_priors(targets) if logit_adjustment and targets else None
        return _softmax_loss(gamma=gamma, smoothing=label_smoothing, weights=weights, shift=shift)
    _refuse("outputs of a softmax", logit_adjustment=logit_adjustment)
    if targets is not None and targets.kind == "tags":
        _refuse("one class for each example: use positive_weight", class_weights=class_weights)
    if class_weights is not None and positive_weight is not None:
        raise ValueError(f"class_weights={class_weights!r} and positive_weight={positive_weight!r}: give one of them")
    weights = _class_weights(class_weights, targets, num_classes, beta=beta)
    pair = (1.0, _positive_weight(positive_weight, targets)) if weights is None else tuple(weights.tolist())
    return _sigmoid_loss(gamma=gamma, smoothing=label_smoothing, weights=pair)


def _check_at_least_0(**values: float) -> None:
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{name}={value}; wanted 0 (which does nothing) or more, as 1.0")


def _refuse(whose: str, **options: Any) -> None:
    """Raise ValueError for an option that is given and belongs to another kind of outputs or targets."""
    for name, value in options.items():
        if value:
            raise ValueError(f"{name}={value!r} does not fit this task, as it is for {whose}")


def _softmax_loss(*, gamma: float, smoothing: float, weights: np.ndarray | None, shift: np.ndarray | None):
    """Build the loss of logits and soft targets [B, C], each class times its weight, logits shifted before."""

    def loss(logits: Array, targets: Array) -> Array:
        targets = optax.smooth_labels(targets, smoothing) if smoothing else targets
        logits = logits if shift is None else logits + jnp.asarray(shift, logits.dtype)
        log_probabilities = jax.nn.log_softmax(logits)
        terms = -targets * log_probabilities
        if gamma:
            # bounded below, as a root is infinitely steep at 0, which is what remains beside a probability of nearly 1
            terms *= jnp.maximum(-jnp.expm1(log_probabilities), jnp.finfo(logits.dtype).eps) ** gamma
        if weights is not None:
            terms *= jnp.asarray(weights, logits.dtype)
        return terms.sum(axis=-1)

    return loss


def _sigmoid_loss(*, gamma: float, smoothing: float, weights: tuple[Any, Any]):
    """Build the loss of logits and shares of the positive [B, T]; weights are (of negatives, of positives)."""

    def loss(logits: Array, targets: Array) -> Array:
        is_one = logits.shape[-1] == 1  # column, which needs no mean
        logits, targets = (logits[:, 0], targets[:, 0]) if is_one else (logits, targets)
        targets = targets * (1 - smoothing) + smoothing / 2 if smoothing else targets
        positive, negative = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        terms = [-(1 - targets) * negative, -targets * positive]
        if gamma:
            terms = [terms[0] * jnp.exp(positive * gamma), terms[1] * jnp.exp(negative * gamma)]
        of_negative, of_positive = (t * jnp.asarray(w, logits.dtype) for t, w in zip(terms, weights, strict=True))
        found = of_negative + of_positive
        return found if is_one else found.mean(axis=-1)

    return loss


def _class_weights(wanted: Weights, targets: Targets | None, num_classes: int, *, beta: float) -> np.ndarray | None:
    """Return the weight of each class [C], scaled so that training examples weigh 1 on average; None for equal ones.

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


def _positive_weight(wanted: PositiveWeight, targets: Targets | None) -> np.ndarray | float:
    """Return the weight of what is present, a number or one for each column [T], against 1 of what is absent."""
    if isinstance(wanted, int | float):
        if wanted <= 0:
            raise ValueError(f"positive_weight={wanted}; wanted a number above 0, or 'balanced'")
        return wanted
    if wanted is None or targets is None:
        return 1.0
    of_positive = targets.counts if targets.kind == "tags" else targets.counts[1:]
    counts = np.maximum(np.array(of_positive, np.float64), 1)
    return np.maximum(targets.num_examples - counts, 1) / counts


def _log_priors(targets: Targets) -> np.ndarray:
    """Return the logarithm of each class's share of the training examples [C]."""
    counts = np.maximum(np.array(targets.counts, np.float64), 1)
    return np.log(counts / counts.sum())
