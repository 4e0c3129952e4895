"""Multilabel classification: any number of labels per image."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision.interfaces import Monitor, TargetStats, Task
from jaxvision.tasks import metrics, register
from jaxvision.tasks import thresholds as limits
from jaxvision.tasks.objective import LossSpec, training_loss


@register("multilabel", targets="multilabel")
def multilabel(
    *,
    num_classes: int,
    targets: TargetStats | None = None,
    thresholds: tuple[float, ...] | None = None,
    threshold: limits.Aim = "f1",
    loss: LossSpec = "cross_entropy",
) -> Task:
    """Predict any number of labels per image, with one sigmoid output per label.

    Targets are float [B, T] in 0..1; the loss is the mean over labels. A label is predicted if its probability is at or
    above its threshold. Predictions are probabilities [B, T].

    Args:
        num_classes: number of labels; set by the run.
        targets: statistics of the training targets; set by the run.
        thresholds: thresholds fitted on validation; set by the run.
        threshold: a number for all labels, or fitted per label on validation: 'f1' maximizes F1, ('recall', 0.99) or
            ('precision', 0.9) reaches that recall or precision.
        loss: training loss, e.g. "cross_entropy(positive_weight='balanced')" for rare labels, or 'focal(gamma=2)'.

    Raises:
        ValueError: if the threshold is invalid.
    """
    limits.check(threshold)
    train_loss = training_loss(loss, activation="sigmoid", num_classes=num_classes, targets=targets)
    known = limits.known(threshold, thresholds, num_classes)

    def predict_labels(predictions):
        return limits.is_reached(predictions, limits.require(known))

    def report(targets, predictions, classes, logits=None):
        decided = predict_labels(predictions)
        values = metrics.multilabel(targets, decided, predictions, classes=classes, logits=logits)
        for label, limit in zip(classes, limits.require(known).tolist(), strict=True):
            values["per_class"][label]["threshold"] = limit
        return values

    return Task(
        output_size=num_classes,
        loss=_loss(train_loss, np.full(num_classes, 0.5) if known is None else known),
        predict=_predict,
        predict_labels=predict_labels,
        describe=_describe,
        score=_score,
        report=report,
        logits=_logits,
        monitor=Monitor("mean_average_precision", "max"),
        headline="mean_average_precision",
        baseline=lambda targets: ("label frequencies", targets.mean(axis=0)),
        fit_thresholds=(lambda targets, predictions: limits.chosen(threshold, targets, predictions))
        if known is None
        else None,
    )


def _loss(train_loss, thresholds: np.ndarray):
    """Build the task's loss; accuracy uses the thresholds [T]."""

    def loss(model, params, state, batch, *, train, key):
        logits, state = model.apply(params, state, batch["inputs"], train=train, key=key)
        targets = batch["targets"].astype(logits.dtype)
        loss_value = (train_loss if train else _mean_cross_entropy)(logits, targets)
        is_correct = limits.is_reached(jax.nn.sigmoid(logits), thresholds) == (targets >= 0.5)
        return {"loss": loss_value, "accuracy": is_correct.mean(axis=-1, dtype=jnp.float32)}, state

    return loss


def _mean_cross_entropy(logits, targets):
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean(axis=-1)


def _logits(model, params, state, batch):
    logits, _ = model.apply(params, state, batch["inputs"], train=False, key=None)
    return logits


def _predict(model, params, state, batch):
    return jax.nn.sigmoid(_logits(model, params, state, batch))


def _describe(prediction, predicted, *, classes, top):
    """Return the predicted labels, and the most probable of the others."""
    order = np.argsort(-prediction, kind="stable")
    labels = [{"label": classes[i], "probability": float(prediction[i])} for i in order if predicted[i]]
    others = [{"label": classes[i], "probability": float(prediction[i])} for i in order if not predicted[i]]
    return {"labels": labels, "below_threshold": others[:top]}


def _score(targets, predictions, logits=None):
    ranks = predictions if logits is None else logits
    return {"mean_average_precision": metrics.mean_average_precision(targets, ranks)}
