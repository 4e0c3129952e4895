"""One class for each image: multiclass and binary classification."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision import metrics
from jaxvision.interfaces import Targets, Task
from jaxvision.tasks import losses, register
from jaxvision.tasks import thresholds as limits

Best = Literal["accuracy", "macro_recall", "loss"]  # the value on validation that chooses among checkpoints
DIRECTIONS: dict[Best, Literal["max", "min"]] = {"accuracy": "max", "macro_recall": "max", "loss": "min"}


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing}; wanted a share from 0 to below 1")


def _describe(prediction, decided, *, classes, top):
    """The class, its probability, and the runners-up."""
    others = [int(i) for i in np.argsort(-prediction, kind="stable") if i != decided][: top - 1]
    runners_up = [{"class": classes[i], "probability": float(prediction[i])} for i in others]
    return {"class": classes[decided], "probability": float(prediction[decided]), "runners_up": runners_up}


def _baseline(targets: np.ndarray, num_classes: int) -> tuple[str, np.ndarray]:
    return "most frequent class", np.eye(num_classes)[np.bincount(targets, minlength=num_classes).argmax()]


@register("multiclass", targets="classes")
def multiclass(
    *,
    num_classes: int,
    targets: Targets | None = None,
    label_smoothing: float = 0.0,
    class_weights: losses.Weights = None,
    beta: float = 0.999,
    focal: float = 0.0,
    logit_adjustment: float = 0.0,
    best: Best = "accuracy",
) -> Task:
    """One of several classes: softmax cross-entropy, of integer targets [B] or soft ones [B, C].

    label_smoothing gives that share of each target to all classes alike (C. Szegedy et al., Rethinking the Inception
    Architecture, CVPR 2016, section 7). For unequal classes: class_weights "balanced", "effective" (with beta; Y. Cui
    et al., CVPR 2019, equation 10) or one for each class; focal, an exponent as 2.0 (T.-Y. Lin et al., ICCV 2017,
    equation 4); logit_adjustment, a factor as 1.0 of the logarithm of each class's share, added to its logit (A. Menon
    et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, equation 10). All act in training alone.
    `best` names what chooses the checkpoint on validation: under unequal classes, "macro_recall" minds the rare ones.
    Predictions are probabilities [B, C].
    """
    _check_smoothing(label_smoothing)
    losses.check_focal(focal)
    weights = losses.class_weights(class_weights, targets, num_classes, beta=beta)
    if logit_adjustment < 0:
        raise ValueError(f"logit_adjustment={logit_adjustment}; wanted 0 or more, as 1.0")
    shift = logit_adjustment * losses.log_priors(targets) if logit_adjustment and targets else None

    def training_loss(logits, soft):
        adjusted = logits if shift is None else logits + jnp.asarray(shift, logits.dtype)
        wanted = optax.smooth_labels(soft, label_smoothing) if label_smoothing else soft
        return losses.softmax_loss(adjusted, wanted, focal=focal, weights=weights)

    def loss(model, params, state, batch, *, train, key):
        logits, state = model.apply(params, state, batch["inputs"], train=train, key=key)
        targets = batch["targets"]
        soft = jax.nn.one_hot(targets, num_classes, dtype=logits.dtype) if targets.ndim == 1 else targets
        correct = jnp.argmax(logits, axis=-1) == jnp.argmax(soft, axis=-1)
        found = training_loss(logits, soft) if train else optax.softmax_cross_entropy(logits, soft)
        values = {"loss": found, "accuracy": correct.astype(jnp.float32)}
        if num_classes > 5:
            # What is not at most the target's is above it: so is what is not a number.
            of_target = jnp.take_along_axis(logits, jnp.argmax(soft, axis=-1, keepdims=True), axis=-1)
            values["top_5_accuracy"] = ((~(logits <= of_target)).sum(axis=-1) < 5).astype(jnp.float32)
        return values, state

    def predict(model, params, state, inputs):
        logits, _ = model.apply(params, state, inputs, train=False, key=None)
        return jax.nn.softmax(logits)

    def decide(predictions):
        return predictions.argmax(axis=-1)

    def score(targets, predictions):
        return metrics.recalls(targets, decide(predictions))

    def report(targets, predictions, classes):
        return metrics.classification(targets, decide(predictions), predictions, classes=classes)

    def baseline(targets):
        return _baseline(targets, num_classes)

    return Task(num_classes, loss, predict, decide, _describe, score, report, (best, DIRECTIONS[best]), baseline)


@register("binary", targets="classes")
def binary(
    *,
    num_classes: int,
    targets: Targets | None = None,
    thresholds: tuple[float, ...] | None = None,
    threshold: limits.Aim = 0.5,
    label_smoothing: float = 0.0,
    class_weights: losses.Weights = None,
    beta: float = 0.999,
    focal: float = 0.0,
    best: Best = "accuracy",
) -> Task:
    """One of two classes by one output: sigmoid cross-entropy of targets 0 and 1, the second class being the positive.

    An example is positive where its probability reaches the threshold: a number, or chosen on validation for the best
    F1 ('f1') or the wanted precision or recall of the positive class, as ('recall', 0.99). Weights, focal loss and
    `best` are those of `multiclass`. Predictions are probabilities [B, 2].
    """
    if num_classes != 2:
        raise ValueError(f"the task 'binary' needs two classes; these data have {num_classes}: use --task=multiclass")
    limits.check(threshold)
    _check_smoothing(label_smoothing)
    losses.check_focal(focal)
    weights = losses.class_weights(class_weights, targets, num_classes, beta=beta)
    known = limits.known(threshold, thresholds, 1)
    limit = 0.5 if known is None else float(known[0])
    threshold_logit = float(np.log(limit) - np.log1p(-limit))

    def loss(model, params, state, batch, *, train, key):
        outputs, state = model.apply(params, state, batch["inputs"], train=train, key=key)
        logits, targets = outputs[:, 0], batch["targets"]
        positive = targets if targets.ndim == 1 else targets[:, 1]
        positive = positive.astype(logits.dtype)
        wanted = positive * (1 - label_smoothing) + label_smoothing / 2
        correct = (logits >= threshold_logit) == (positive >= 0.5)
        found = optax.sigmoid_binary_cross_entropy(logits, positive)
        if train:
            found = losses.sigmoid_loss(
                logits, wanted, focal=focal, weights=(1.0, 1.0) if weights is None else weights.tolist()
            )
        return {"loss": found, "accuracy": correct.astype(jnp.float32)}, state

    def predict(model, params, state, inputs):
        outputs, _ = model.apply(params, state, inputs, train=False, key=None)
        return jnp.stack([jax.nn.sigmoid(-outputs[:, 0]), jax.nn.sigmoid(outputs[:, 0])], axis=-1)

    def decide(predictions):
        return (predictions[:, 1] >= limits.require(known)[0]).astype("int32")

    def score(targets, predictions):
        return metrics.recalls(targets, (predictions[:, 1] >= limit).astype(int))

    def report(targets, predictions, classes):
        values = metrics.classification(targets, decide(predictions), predictions, classes=classes)
        return {"threshold": float(limits.require(known)[0]), **values, **metrics.binary(targets, predictions)}

    def baseline(targets):
        return _baseline(targets, num_classes)

    def choose(targets, predictions):
        return limits.chosen(threshold, targets[:, None], predictions[:, 1:])

    chooses = choose if known is None else None
    return Task(1, loss, predict, decide, _describe, score, report, (best, DIRECTIONS[best]), baseline, chooses)
