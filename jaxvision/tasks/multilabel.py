"""Any number of tags for each image."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision.interfaces import Monitor, Targets, Task
from jaxvision.tasks import metrics, register
from jaxvision.tasks import thresholds as limits
from jaxvision.tasks.objective import LossSpec, training_loss


@register("multilabel", targets="tags")
def multilabel(
    *,
    num_classes: int,
    targets: Targets | None = None,
    thresholds: tuple[float, ...] | None = None,
    threshold: limits.Aim = "f1",
    loss: LossSpec = "cross_entropy",
) -> Task:
    """Any number of tags: a sigmoid each, of float targets [B, T] in 0..1; the loss is the mean over tags.

    A tag is given where its probability reaches its threshold: a number for all, or chosen for each on validation, for
    the best F1 ('f1') or a wanted precision or recall, as ('recall', 0.99). loss names what training minimises, as
    "cross_entropy(positive_weight='balanced')" for rare tags, or 'focal(gamma=2)'.
    Predictions are probabilities [B, T].
    """
    limits.check(threshold)
    minimised = training_loss(loss, activation="sigmoid", num_classes=num_classes, targets=targets)
    known = limits.known(threshold, thresholds, num_classes)

    def decide(predictions):
        return predictions >= limits.require(known).astype(predictions.dtype)

    def report(targets, predictions, classes):
        values = metrics.multilabel(targets, decide(predictions), predictions, tags=classes)
        for tag, limit in zip(classes, limits.require(known).tolist(), strict=True):
            values["per_class"][tag]["threshold"] = limit
        return values

    return Task(
        output_size=num_classes,
        loss=_loss(minimised, np.full(num_classes, 0.5) if known is None else known),
        predict=_predict,
        decide=decide,
        describe=_describe,
        score=_score,
        report=report,
        monitor=Monitor("mean_average_precision", "max"),
        headline="mean_average_precision",
        baseline=lambda targets: ("tag frequencies", targets.mean(axis=0)),
        choose=(lambda targets, predictions: limits.chosen(threshold, targets, predictions)) if known is None else None,
    )


def _loss(minimised, own: np.ndarray):
    """Build the task's loss: in training what is minimised; `own` are the thresholds [T] that accuracy goes by."""

    def loss(model, params, state, batch, *, train, key):
        logits, state = model.apply(params, state, batch["inputs"], train=train, key=key)
        wanted = batch["targets"].astype(logits.dtype)
        found = (minimised if train else _mean_cross_entropy)(logits, wanted)
        agreed = (jax.nn.sigmoid(logits) >= jnp.asarray(own, logits.dtype)) == (wanted >= 0.5)
        return {"loss": found, "accuracy": agreed.mean(axis=-1, dtype=jnp.float32)}, state

    return loss


def _mean_cross_entropy(logits, targets):
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean(axis=-1)


def _predict(model, params, state, batch):
    logits, _ = model.apply(params, state, batch["inputs"], train=False, key=None)
    return jax.nn.sigmoid(logits)


def _describe(prediction, decided, *, classes, top):
    """Return the tags that are given, and the likeliest of the others."""
    order = np.argsort(-prediction, kind="stable")
    tags = [{"tag": classes[i], "probability": float(prediction[i])} for i in order if decided[i]]
    others = [{"tag": classes[i], "probability": float(prediction[i])} for i in order if not decided[i]]
    return {"tags": tags, "below_threshold": others[:top]}


def _score(targets, predictions):
    return {"mean_average_precision": metrics.mean_average_precision(targets, predictions)}
