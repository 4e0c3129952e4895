"""Any number of tags for each image."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision import metrics
from jaxvision.interfaces import Targets, Task
from jaxvision.tasks import losses, register
from jaxvision.tasks import thresholds as limits


def _positive_weights(wanted: losses.PositiveWeight, targets: Targets | None, num_classes: int) -> np.ndarray:
    """The weight of each tag where it is present [T], against 1 where it is absent."""
    if wanted == "balanced" and targets is not None:
        counts = np.maximum(np.array(targets.counts, np.float64), 1)
        return np.maximum(targets.num_examples - counts, 1) / counts
    return np.full(num_classes, wanted if isinstance(wanted, int | float) else 1.0)


@register("multilabel", targets="tags")
def multilabel(
    *,
    num_classes: int,
    targets: Targets | None = None,
    thresholds: tuple[float, ...] | None = None,
    threshold: limits.Aim = "f1",
    positive_weight: losses.PositiveWeight = None,
    focal: float = 0.0,
) -> Task:
    """Any number of tags: a sigmoid each, of float targets [B, T] in 0..1; the loss is the mean over tags.

    A tag is given where its probability reaches its threshold: a number for all, or chosen for each on validation, for
    the best F1 ('f1') or a wanted precision or recall, as ('recall', 0.99). positive_weight multiplies the loss of tags
    that are present, in training alone: a number, or "balanced", absent over present examples of each tag; focal is the
    exponent of the focal loss (T.-Y. Lin et al., ICCV 2017, equation 4). Predictions are probabilities [B, T].
    """
    limits.check(threshold)
    losses.check_focal(focal)
    if isinstance(positive_weight, int | float) and positive_weight <= 0:
        raise ValueError(f"positive_weight={positive_weight}; wanted a number above 0, or 'balanced'")
    weights = _positive_weights(positive_weight, targets, num_classes)
    known = limits.known(threshold, thresholds, num_classes)
    own = np.full(num_classes, 0.5) if known is None else known

    def loss(model, params, state, batch, *, train, key):
        logits, state = model.apply(params, state, batch["inputs"], train=train, key=key)
        wanted = batch["targets"].astype(logits.dtype)
        found = optax.sigmoid_binary_cross_entropy(logits, wanted)
        if train:
            found = losses.sigmoid_loss(logits, wanted, focal=focal, weights=(1.0, jnp.asarray(weights, logits.dtype)))
        agreed = (jax.nn.sigmoid(logits) >= jnp.asarray(own, logits.dtype)) == (wanted >= 0.5)
        return {"loss": found.mean(axis=-1), "accuracy": agreed.mean(axis=-1, dtype=jnp.float32)}, state

    def predict(model, params, state, inputs):
        logits, _ = model.apply(params, state, inputs, train=False, key=None)
        return jax.nn.sigmoid(logits)

    def decide(predictions):
        return predictions >= limits.require(known).astype(predictions.dtype)

    def describe(prediction, decided, *, classes, top):
        order = np.argsort(-prediction, kind="stable")
        tags = [{"tag": classes[i], "probability": float(prediction[i])} for i in order if decided[i]]
        others = [{"tag": classes[i], "probability": float(prediction[i])} for i in order if not decided[i]]
        return {"tags": tags, "below_threshold": others[:top]}

    def score(targets, predictions):
        return {"mean_average_precision": metrics.mean_average_precision(targets, predictions)}

    def report(targets, predictions, classes):
        values = metrics.multilabel(targets, decide(predictions), predictions, tags=classes)
        for tag, limit in zip(classes, limits.require(known).tolist(), strict=True):
            values["per_class"][tag]["threshold"] = limit
        return values

    def baseline(targets):
        return "tag frequencies", targets.mean(axis=0)

    def choose(targets, predictions):
        return limits.chosen(threshold, targets, predictions)

    best = ("mean_average_precision", "max")
    chooses = choose if known is None else None
    return Task(num_classes, loss, predict, decide, describe, score, report, best, baseline, chooses)
