"""Multiclass and binary classification: one class per image."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision.interfaces import Array, Monitor, TargetStats, Task
from jaxvision.tasks import metrics, register
from jaxvision.tasks import thresholds as limits
from jaxvision.tasks.objective import LossSpec, training_loss

Best = Literal["accuracy", "macro_recall", "loss"]  # validation metric that selects the best checkpoint
MONITORS: dict[Best, Monitor] = {
    "accuracy": Monitor("accuracy", "max"),
    "macro_recall": Monitor("macro_recall", "max"),
    "loss": Monitor("loss", "min"),
}


def _describe(prediction, predicted, *, classes, top):
    """Return the predicted class with its probability, and the runners-up."""
    others = [int(i) for i in np.argsort(-prediction, kind="stable") if i != predicted][: top - 1]
    runners_up = [{"class": classes[i], "probability": float(prediction[i])} for i in others]
    return {"class": classes[predicted], "probability": float(prediction[predicted]), "runners_up": runners_up}


def _baseline(targets: np.ndarray, num_classes: int) -> tuple[str, np.ndarray]:
    return "most frequent class", np.eye(num_classes)[np.bincount(targets, minlength=num_classes).argmax()]


def _is_among_top_5(logits: Array, soft: Array) -> Array:
    """Return whether fewer than five classes rank above the target; of equal logits, the later class ranks higher.

    This is the order of scikit-learn's top_k_accuracy_score.
    """
    target = jnp.argmax(soft, axis=-1, keepdims=True)
    of_target = jnp.take_along_axis(logits, target, axis=-1)
    is_later = jnp.arange(logits.shape[-1]) > target
    # Negated, so that NaN logits count as above the target's.
    return (~(logits <= of_target) | ((logits == of_target) & is_later)).sum(axis=-1) < 5


@register("multiclass", targets="multiclass")
def multiclass(
    *, num_classes: int, targets: TargetStats | None = None, loss: LossSpec = "cross_entropy", best: Best = "accuracy"
) -> Task:
    """Classify each image into one of several classes with a softmax.

    Targets are class indices [B] or soft targets [B, C]; predictions are probabilities [B, C].

    Args:
        num_classes: number of classes; set by the run.
        targets: statistics of the training targets; set by the run.
        loss: training loss: 'cross_entropy', 'focal(gamma=2)' or another of `jaxvision list losses`; options of the
            loss weight imbalanced classes.
        best: validation metric that selects the best checkpoint; "macro_recall" gives rare classes equal weight.
    """
    train_loss = training_loss(loss, activation="softmax", num_classes=num_classes, targets=targets)

    def loss_of(model, params, state, batch, *, train, key):
        logits, state = model.apply(params, state, batch["inputs"], train=train, key=key)
        targets = batch["targets"]
        soft = jax.nn.one_hot(targets, num_classes, dtype=logits.dtype) if targets.ndim == 1 else targets
        correct = jnp.argmax(logits, axis=-1) == jnp.argmax(soft, axis=-1)
        loss_value = (train_loss if train else optax.softmax_cross_entropy)(logits, soft)
        values = {"loss": loss_value, "accuracy": correct.astype(jnp.float32)}
        if num_classes > 5:
            values["top_5_accuracy"] = _is_among_top_5(logits, soft).astype(jnp.float32)
        return values, state

    def predict(model, params, state, batch):
        logits, _ = model.apply(params, state, batch["inputs"], train=False, key=None)
        return jax.nn.softmax(logits)

    def predict_labels(predictions):
        return predictions.argmax(axis=-1)

    return Task(
        output_size=num_classes,
        loss=loss_of,
        predict=predict,
        predict_labels=predict_labels,
        describe=_describe,
        score=lambda targets, predictions: metrics.recalls(targets, predict_labels(predictions)),
        report=lambda targets, predictions, classes: metrics.classification(
            targets, predict_labels(predictions), predictions, classes=classes
        ),
        monitor=MONITORS[best],
        headline="accuracy",
        baseline=lambda targets: _baseline(targets, num_classes),
    )


@register("binary", targets="multiclass")
def binary(
    *,
    num_classes: int,
    targets: TargetStats | None = None,
    thresholds: tuple[float, ...] | None = None,
    threshold: limits.Aim = 0.5,
    loss: LossSpec = "cross_entropy",
    best: Best = "accuracy",
) -> Task:
    """Classify into two classes with one sigmoid output; the second class is positive.

    An example is positive if its probability is at or above the threshold. Predictions are probabilities [B, 2].

    Args:
        num_classes: must be 2; set by the run.
        targets: statistics of the training targets; set by the run.
        thresholds: threshold fitted on validation; set by the run.
        threshold: a number, or fitted on validation: 'f1' maximizes F1, ('recall', 0.99) or ('precision', 0.9) reaches
            that recall or precision of the positive class.
        loss: as for `multiclass`.
        best: as for `multiclass`.

    Raises:
        ValueError: if there are not two classes, or the threshold is invalid.
    """
    if num_classes != 2:
        raise ValueError(f"the task 'binary' needs two classes; this dataset has {num_classes}: use --task=multiclass")
    limits.check(threshold)
    train_loss = training_loss(loss, activation="sigmoid", num_classes=num_classes, targets=targets)
    known = limits.known(threshold, thresholds, 1)
    limit = np.array([0.5]) if known is None else known  # before thresholds are fitted, for the metrics of training

    def decide(predictions, thresholds):
        return limits.is_reached(predictions[:, 1:], thresholds)[:, 0].astype("int32")

    def predict_labels(predictions):
        return decide(predictions, limits.require(known))

    def report(targets, predictions, classes, logits=None):
        values = metrics.classification(targets, predict_labels(predictions), predictions, classes=classes)
        ranking = metrics.binary(targets, predictions, logits=logits)
        return {"threshold": float(limits.require(known)[0]), **values, **ranking}

    def fit_thresholds(targets, predictions):
        return limits.chosen(threshold, targets[:, None], predictions[:, 1:])

    return Task(
        output_size=1,
        loss=_binary_loss(train_loss, limit),
        logits=_binary_logits,
        predict=_predict_binary,
        predict_labels=predict_labels,
        describe=_describe,
        score=lambda targets, predictions: metrics.recalls(targets, decide(predictions, limit)),
        report=report,
        monitor=MONITORS[best],
        headline="accuracy",
        baseline=lambda targets: _baseline(targets, num_classes),
        fit_thresholds=fit_thresholds if known is None else None,
    )


def _binary_loss(train_loss, threshold: np.ndarray):
    """Build the task's loss; `train_loss` takes outputs and targets [B, 1], accuracy uses the threshold [1]."""

    def loss(model, params, state, batch, *, train, key):
        outputs, state = model.apply(params, state, batch["inputs"], train=train, key=key)
        logits, targets = outputs[:, 0], batch["targets"]
        positive = targets if targets.ndim == 1 else targets[:, 1]
        positive = positive.astype(logits.dtype)
        correct = limits.is_reached(jax.nn.sigmoid(outputs), threshold)[:, 0] == (positive >= 0.5)
        plain = optax.sigmoid_binary_cross_entropy
        loss_value = train_loss(outputs, positive[:, None]) if train else plain(logits, positive)
        return {"loss": loss_value, "accuracy": correct.astype(jnp.float32)}, state

    return loss


def _binary_logits(model, params, state, batch):
    outputs, _ = model.apply(params, state, batch["inputs"], train=False, key=None)
    return outputs[:, 0]


def _predict_binary(model, params, state, batch):
    logits = _binary_logits(model, params, state, batch)
    return jnp.stack([jax.nn.sigmoid(-logits), jax.nn.sigmoid(logits)], axis=-1)
