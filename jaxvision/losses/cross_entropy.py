"""Cross-entropy and focal loss for softmax and sigmoid outputs, with weights for imbalanced classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision.interfaces import Array, TargetStats
from jaxvision.losses import register
from jaxvision.specs import nearest

LossFunction = Callable[[Array, Array], Array]
Activation = Literal["softmax", "sigmoid"]
Weights = Literal["balanced", "effective"] | tuple[float, ...] | dict[str, float] | None
PositiveWeight = float | Literal["balanced"] | None


@register("cross_entropy")
def cross_entropy(
    *,
    activation: Activation,
    num_classes: int,
    targets: TargetStats | None = None,
    label_smoothing: float = 0.0,
    class_weights: Weights = None,
    beta: float = 0.999,
    positive_weight: PositiveWeight = None,
    logit_adjustment: float = 0.0,
) -> LossFunction:
    """Compute the cross-entropy of softmax outputs, or its mean over sigmoid outputs.

    Args:
        activation: "softmax" or "sigmoid"; set by the task.
        num_classes: number of outputs; set by the task.
        targets: statistics of the training targets; set by the run.
        label_smoothing: fraction of each target that is spread evenly over all classes (C. Szegedy et al., Rethinking
            the Inception Architecture, CVPR 2016, section 7).
        class_weights: for one class per example: "balanced" weights by inverse class frequency, "effective" by the
            effective number of examples (Y. Cui et al., CVPR 2019, equation 10), or one weight per class, in the order
            of the classes or by their names, {'cat': 2.0, 'dog': 1.0}. All are scaled so that their mean over the
            training examples is 1.
        beta: parameter of "effective".
        positive_weight: for sigmoid outputs: factor of the loss of positive targets, or "balanced" for the ratio of
            negative to positive examples.
        logit_adjustment: for softmax outputs: factor of the log prior of each class that is added to its logit, e.g.
            1.0 (A. Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, equation 10).

    Raises:
        ValueError: if an option is out of range or does not fit the activation or the targets.
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
    targets: TargetStats | None = None,
    gamma: float = 2.0,
    label_smoothing: float = 0.0,
    class_weights: Weights = None,
    beta: float = 0.999,
    positive_weight: PositiveWeight = None,
    logit_adjustment: float = 0.0,
) -> LossFunction:
    """Compute the focal loss, cross-entropy times (1 - p)^gamma: it down-weights easy examples.

    (T.-Y. Lin et al., Focal Loss, ICCV 2017, equation 4.) Of soft targets t, for sigmoid outputs it is the
    cross-entropy times (1 - p_t)^gamma with p_t = t p + (1 - t) (1 - p), as in torchvision and optax; for softmax
    outputs the sum of -t (1 - p)^gamma log p over the classes, as in Keras.

    Args:
        activation: as for `cross_entropy`.
        num_classes: as for `cross_entropy`.
        targets: as for `cross_entropy`.
        gamma: exponent, 0 or more; 0 is plain cross-entropy.
        label_smoothing: as for `cross_entropy`.
        class_weights: as for `cross_entropy`.
        beta: as for `cross_entropy`.
        positive_weight: as for `cross_entropy`.
        logit_adjustment: as for `cross_entropy`.

    Raises:
        ValueError: as for `cross_entropy`.
    """
    _check_at_least_0(gamma=gamma, logit_adjustment=logit_adjustment)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing}; expected a fraction of at least 0 and below 1")
    if activation == "softmax":
        _refuse("sigmoid outputs; use class_weights", positive_weight=positive_weight)
        weights = _class_weights(class_weights, targets, num_classes, beta=beta)
        shift = logit_adjustment * _log_priors(targets) if logit_adjustment and targets else None
        return _softmax_loss(gamma=gamma, smoothing=label_smoothing, weights=weights, shift=shift)
    _refuse("softmax outputs", logit_adjustment=logit_adjustment)
    if targets is not None and targets.kind == "multilabel":
        _refuse("one class per example; use positive_weight", class_weights=class_weights)
    if class_weights is not None and positive_weight is not None:
        raise ValueError(
            f"class_weights={class_weights!r} and positive_weight={positive_weight!r} exclude each other; give only one"
        )
    weights = _class_weights(class_weights, targets, num_classes, beta=beta)
    pair = (1.0, _positive_weight(positive_weight, targets)) if weights is None else tuple(weights.tolist())
    return _sigmoid_loss(gamma=gamma, smoothing=label_smoothing, weights=pair)


def _check_at_least_0(**values: float) -> None:
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{name}={value}; expected 0 (no effect) or more, e.g. 1.0")


def _refuse(scope: str, **options: Any) -> None:
    """Raise ValueError if an option is set that belongs to other outputs or targets."""
    for name, value in options.items():
        if value:
            raise ValueError(f"{name}={value!r} does not fit this task; it is only for {scope}")


def _softmax_loss(*, gamma: float, smoothing: float, weights: np.ndarray | None, shift: np.ndarray | None):
    """Build the loss of logits and soft targets [B, C], with `shift` added to the logits and a weight per class."""

    def loss(logits: Array, targets: Array) -> Array:
        targets = optax.smooth_labels(targets, smoothing) if smoothing else targets
        logits = logits if shift is None else logits + jnp.asarray(shift, logits.dtype)
        log_probabilities = jax.nn.log_softmax(logits)
        terms = -targets * log_probabilities
        if gamma:
            # clipped: for gamma < 1 the gradient is infinite at 1 - p = 0
            terms *= jnp.maximum(-jnp.expm1(log_probabilities), jnp.finfo(logits.dtype).eps) ** gamma
        if weights is not None:
            terms *= jnp.asarray(weights, logits.dtype)
        return terms.sum(axis=-1)

    return loss


def _sigmoid_loss(*, gamma: float, smoothing: float, weights: tuple[Any, Any]):
    """Build the loss of logits and positive probabilities [B, T]; weights are (negative, positive)."""

    def loss(logits: Array, targets: Array) -> Array:
        is_one = logits.shape[-1] == 1  # a single column needs no mean
        logits, targets = (logits[:, 0], targets[:, 0]) if is_one else (logits, targets)
        targets = targets * (1 - smoothing) + smoothing / 2 if smoothing else targets
        positive, negative = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        terms = [-(1 - targets) * negative, -targets * positive]
        of_negative, of_positive = (t * jnp.asarray(w, logits.dtype) for t, w in zip(terms, weights, strict=True))
        loss_per_column = of_negative + of_positive
        if gamma:  # log(1 - p_t), with p_t the probability of agreement with the target, as a sum of both cases
            wrong = jnp.logaddexp(jnp.log1p(-targets) + positive, jnp.log(targets) + negative)
            loss_per_column *= jnp.exp(gamma * wrong)
        return loss_per_column if is_one else loss_per_column.mean(axis=-1)

    return loss


def _class_weights(
    weighting: Weights, targets: TargetStats | None, num_classes: int, *, beta: float
) -> np.ndarray | None:
    """Return the weight of each class [C], scaled to a mean of 1 over the training examples; None for equal weights.

    "balanced" is the inverse of the class size; "effective" is (1 - beta) / (1 - beta^n) for n examples (Y. Cui et al.,
    Class-Balanced Loss, CVPR 2019, equation 10). Raises ValueError if the weights are not one positive number per
    class.
    """
    if weighting is None or targets is None:  # evaluation has no training statistics and needs no weights
        return None
    counts = np.array(targets.counts, np.float64)
    if weighting == "balanced":
        weights = 1 / np.maximum(counts, 1)
    elif weighting == "effective":
        if not 0 <= beta < 1:
            raise ValueError(f"beta={beta}; expected at least 0 and below 1, e.g. 0.999")
        weights = (1 - beta) / (1 - beta ** np.maximum(counts, 1))
    else:
        listed = _in_order(weighting, targets.classes) if isinstance(weighting, dict) else weighting
        weights = np.array(listed, np.float64)
    if len(weights) != num_classes or not (weights > 0).all() or not np.isfinite(weights).all():
        raise ValueError(
            f"class_weights={weighting}; expected {num_classes} numbers above 0, 'balanced' or 'effective'"
        )
    return weights * counts.sum() / (weights * counts).sum()


def _in_order(weights: dict[str, float], classes: tuple[str, ...]) -> list[float]:
    """Return weights by name in the order of the classes. Raises ValueError unless each class has one."""
    unknown = next((name for name in weights if name not in classes), None)
    missing = next((name for name in classes if name not in weights), None)
    if unknown is not None:
        raise ValueError(f"class_weights has {unknown!r}, which is no class{nearest(unknown, classes)}")
    if missing is not None:
        raise ValueError(f"class_weights has no weight of the class {missing!r}; give one for each class")
    return [weights[name] for name in classes]


def _positive_weight(weight: PositiveWeight, targets: TargetStats | None) -> np.ndarray | float:
    """Return the weight of positive targets relative to negative ones, a number or one per column [T]."""
    if isinstance(weight, int | float):
        if weight <= 0:
            raise ValueError(f"positive_weight={weight}; expected a number above 0, or 'balanced'")
        return weight
    if weight is None or targets is None:
        return 1.0
    of_positive = targets.counts if targets.kind == "multilabel" else targets.counts[1:]
    counts = np.maximum(np.array(of_positive, np.float64), 1)
    return np.maximum(targets.num_examples - counts, 1) / counts


def _log_priors(targets: TargetStats) -> np.ndarray:
    """Return the logarithm of each class's fraction of the training examples [C]."""
    counts = np.maximum(np.array(targets.counts, np.float64), 1)
    return np.log(counts / counts.sum())
