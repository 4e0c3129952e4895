"""Tasks that compare a model's outputs with targets: multiclass and binary classification."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxvision import metrics
from jaxvision.interfaces import Task
from jaxvision.tasks import register


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing}; wanted a share from 0 to below 1")


@register("multiclass")
def multiclass(*, num_classes: int, label_smoothing: float = 0.0) -> Task:
    """One of several classes: softmax cross-entropy, of integer targets [B] or soft ones [B, C].

    label_smoothing gives that share of each target to all classes alike, in training alone (C. Szegedy et al.,
    Rethinking the Inception Architecture, CVPR 2016, section 7). Predictions are probabilities [B, C].
    """
    _check_smoothing(label_smoothing)

    def loss(model, params, state, batch, *, train, key):
        logits, state = model.apply(params, state, batch["inputs"], train=train, key=key)
        targets = batch["targets"]
        soft = jax.nn.one_hot(targets, num_classes, dtype=logits.dtype) if targets.ndim == 1 else targets
        wanted = optax.smooth_labels(soft, label_smoothing) if train and label_smoothing else soft
        correct = jnp.argmax(logits, axis=-1) == jnp.argmax(soft, axis=-1)
        values = {"loss": optax.softmax_cross_entropy(logits, wanted), "accuracy": correct.astype(jnp.float32)}
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

    def report(targets, predictions, classes):
        return metrics.classification(targets, decide(predictions), predictions, classes=classes)

    return Task(num_classes, loss, predict, decide, report, ("accuracy", "max"))


@register("binary")
def binary(*, num_classes: int, threshold: float = 0.5, label_smoothing: float = 0.0) -> Task:
    """One of two classes by one output: sigmoid cross-entropy of targets 0 and 1, the second class being the positive.

    An example is positive where its probability reaches the threshold. Predictions are probabilities [B, 2].
    """
    if num_classes != 2:
        raise ValueError(f"the task 'binary' needs two classes; these data have {num_classes}: use --task=multiclass")
    if not 0 < threshold < 1:
        raise ValueError(f"binary: threshold={threshold}; wanted a probability between 0 and 1")
    _check_smoothing(label_smoothing)
    threshold_logit = float(jnp.log(threshold) - jnp.log1p(-threshold))

    def loss(model, params, state, batch, *, train, key):
        outputs, state = model.apply(params, state, batch["inputs"], train=train, key=key)
        logits, targets = outputs[:, 0], batch["targets"]
        positive = targets if targets.ndim == 1 else targets[:, 1]
        positive = positive.astype(logits.dtype)
        wanted = positive * (1 - label_smoothing) + label_smoothing / 2 if train else positive
        correct = (logits >= threshold_logit) == (positive >= 0.5)
        values = {
            "loss": optax.sigmoid_binary_cross_entropy(logits, wanted),
            "accuracy": correct.astype(jnp.float32),
        }
        return values, state

    def predict(model, params, state, inputs):
        outputs, _ = model.apply(params, state, inputs, train=False, key=None)
        return jnp.stack([jax.nn.sigmoid(-outputs[:, 0]), jax.nn.sigmoid(outputs[:, 0])], axis=-1)

    def decide(predictions):
        return (predictions[:, 1] >= threshold).astype("int32")

    def report(targets, predictions, classes):
        values = metrics.classification(targets, decide(predictions), predictions, classes=classes)
        return {"threshold": threshold, **values, **metrics.binary(targets, predictions)}

    return Task(1, loss, predict, decide, report, ("accuracy", "max"))
