"""One class for each image: multiclass and binary classification."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision.interfaces import Array, Monitor, Targets, Task
from jaxvision.tasks import metrics, register
from jaxvision.tasks import thresholds as limits
from jaxvision.tasks.objective import LossSpec, training_loss

Best = Literal["accuracy", "macro_recall", "loss"]  # the value on validation that chooses among checkpoints
MONITORS: dict[Best, Monitor] = {
    "accuracy": Monitor("accuracy", "max"),
    "macro_recall": Monitor("macro_recall", "max"),
    "loss": Monitor("loss", "min"),
}


def _describe(prediction, decided, *, classes, top):
    """Return the class, its probability, and the runners-up."""
    others = [int(i) for i in np.argsort(-prediction, kind="stable") if i != decided][: top - 1]
    runners_up = [{"class": classes[i], "probability": float(prediction[i])} for i in others]
    return {"class": classes[decided], "probability": float(prediction[decided]), "runners_up": runners_up}


def _baseline(targets: np.ndarray, num_classes: int) -> tuple[str, np.ndarray]:
    return "most frequent class", np.eye(num_classes)[np.bincount(targets, minlength=num_classes).argmax()]


def _is_among_top_5(logits: Array, soft: Array) -> Array:
    # What is not at most the target's is above it: so is what is not a number.
    of_target = jnp.take_along_axis(logits, jnp.argmax(soft, axis=-1, keepdims=True), axis=-1)
    return (~(logits <= of_target)).sum(axis=-1) < 5


@register("multiclass", targets="classes")
def multiclass(
    *, num_classes: int, targets: Targets | None = None, loss: LossSpec = "cross_entropy", best: Best = "accuracy"
) -> Task:
    """One of several classes: a softmax over them, of integer targets [B] or soft ones [B, C].

    loss names what training minimises: 'cross_entropy', 'focal(gamma=2)' or another of `jaxvision list losses`, where
    weights for unequal classes are. `best` names what chooses the checkpoint on validation: under unequal classes,
    "macro_recall" minds the rare ones. Predictions are probabilities [B, C].
    """
    minimised = training_loss(loss, activation="softmax", num_classes=num_classes, targets=targets)

    def loss_of(model, params, state, batch, *, train, key):
        logits, state = model.apply(params, state, batch["inputs"], train=train, key=key)
        targets = batch["targets"]
        soft = jax.nn.one_hot(targets, num_classes, dtype=logits.dtype) if targets.ndim == 1 else targets
        correct = jnp.argmax(logits, axis=-1) == jnp.argmax(soft, axis=-1)
        found = (minimised if train else optax.softmax_cross_entropy)(logits, soft)
        values = {"loss": found, "accuracy": correct.astype(jnp.float32)}
        if num_classes > 5:
            values["top_5_accuracy"] = _is_among_top_5(logits, soft).astype(jnp.float32)
        return values, state

    def predict(model, params, state, batch):
        logits, _ = model.apply(params, state, batch["inputs"], train=False, key=None)
        return jax.nn.softmax(logits)

    def decide(predictions):
        return predictions.argmax(axis=-1)

    return Task(
        output_size=num_classes,
        loss=loss_of,
        predict=predict,
        decide=decide,
        describe=_describe,
        score=lambda targets, predictions: metrics.recalls(targets, decide(predictions)),
        report=lambda targets, predictions, classes: metrics.classification(
            targets, decide(predictions), predictions, classes=classes
        ),
        monitor=MONITORS[best],
        headline="accuracy",
        baseline=lambda targets: _baseline(targets, num_classes),
    )


@register("binary", targets="classes")
def binary(
    *,
    num_classes: int,
    targets: Targets | None = None,
    thresholds: tuple[float, ...] | None = None,
    threshold: limits.Aim = 0.5,
    loss: LossSpec = "cross_entropy",
    best: Best = "accuracy",
) -> Task:
    """One of two classes by one output, a sigmoid; the second class is the positive.

    An example is positive where its probability reaches the threshold: a number, or chosen on validation for the best
    F1 ('f1') or the wanted precision or recall of the positive class, as ('recall', 0.99). `loss` and `best` are those
    of `multiclass`. Predictions are probabilities [B, 2].
    """
    if num_classes != 2:
        raise ValueError(f"the task 'binary' needs two classes; these data have {num_classes}: use --task=multiclass")
    limits.check(threshold)
    minimised = training_loss(loss, activation="sigmoid", num_classes=num_classes, targets=targets)
    known = limits.known(threshold, thresholds, 1)
    limit = 0.5 if known is None else float(known[0])

    def decide(predictions):
        return (predictions[:, 1] >= limits.require(known)[0]).astype("int32")

    def report(targets, predictions, classes):
        values = metrics.classification(targets, decide(predictions), predictions, classes=classes)
        return {"threshold": float(limits.require(known)[0]), **values, **metrics.binary(targets, predictions)}

    def choose(targets, predictions):
        return limits.chosen(threshold, targets[:, None], predictions[:, 1:])

    return Task(
        output_size=1,
        loss=_binary_loss(minimised, float(np.log(limit) - np.log1p(-limit))),
        predict=_predict_binary,
        decide=decide,
        describe=_describe,
        score=lambda targets, predictions: metrics.recalls(targets, (predictions[:, 1] >= limit).astype(int)),
        report=report,
        monitor=MONITORS[best],
        headline="accuracy",
        baseline=lambda targets: _baseline(targets, num_classes),
        choose=choose if known is None else None,
    )


def _binary_loss(minimised, threshold_logit: float):
    """Build the task's loss: in training what is minimised, of outputs and targets [B, 1]."""

    def loss(model, params, state, batch, *, train, key):
        outputs, state = model.apply(params, state, batch["inputs"], train=train, key=key)
        logits, targets = outputs[:, 0], batch["targets"]
        positive = targets if targets.ndim == 1 else targets[:, 1]
        positive = positive.astype(logits.dtype)
        correct = (logits >= threshold_logit) == (positive >= 0.5)
        plain = optax.sigmoid_binary_cross_entropy
        found = minimised(outputs, positive[:, None]) if train else plain(logits, positive)
        return {"loss": found, "accuracy": correct.astype(jnp.float32)}, state

    return loss


def _predict_binary(model, params, state, batch):
    outputs, _ = model.apply(params, state, batch["inputs"], train=False, key=None)
    return jnp.stack([jax.nn.sigmoid(-outputs[:, 0]), jax.nn.sigmoid(outputs[:, 0])], axis=-1)
