"""Multiclass classification whose predictions for an image and for views of it shall agree."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision.interfaces import Array, Batch, TargetStats, Task
from jaxvision.tasks import register
from jaxvision.tasks.classification import Best, multiclass
from jaxvision.tasks.objective import LossSpec

FLOOR = 1e-7  # of the mean distribution, as in the authors' code


def with_views(batch: Batch) -> Array:
    """Return the inputs and their views as one batch [(1 + V) B, ...]: first all inputs, then all first views, ...

    Raises ValueError if the batch has no "views" [B, V, ...].
    """
    if "views" not in batch:
        raise ValueError(
            "the task 'consistency' compares an image with views of it, and the augmentations make none: add "
            "--augmentations='augmix(num_views=2)' at their end"
        )
    inputs, views = batch["inputs"], batch["views"]
    return jnp.concatenate([inputs, *(views[:, number].astype(inputs.dtype) for number in range(views.shape[1]))])


def jensen_shannon(logits: Array) -> Array:
    """Compute the Jensen–Shannon divergence in nats [B] of the distributions of logits [V, B, C].

    It is the mean over V of the Kullback–Leibler divergence from their mean distribution, whose probabilities count as
    1e-7 or more (D. Hendrycks et al., AugMix, ICLR 2020, equation 2).

    >>> round(float(jensen_shannon(jnp.array([[[100.0, 0.0]], [[0.0, 100.0]]]))[0]), 4)  # log 2
    0.6931
    """
    log_probabilities = jax.nn.log_softmax(logits)
    probabilities = jnp.exp(log_probabilities)
    log_mean = jnp.log(jnp.clip(probabilities.mean(axis=0), FLOOR, 1))
    return (probabilities * (log_probabilities - log_mean)).sum(axis=-1).mean(axis=0)


@register("consistency", targets="multiclass")
def consistency(
    *,
    num_classes: int,
    targets: TargetStats | None = None,
    weight: float = 12.0,
    loss: LossSpec = "cross_entropy",
    best: Best = "accuracy",
) -> Task:
    """Classify as `multiclass`, and train the predictions for an image and its augmented views to agree.

    The training loss is that of the image plus `weight` times the Jensen–Shannon divergence of the predictions for the
    image and its views, which the augmentation `augmix(num_views=2)` makes. All of them pass through the network as one
    batch (D. Hendrycks et al., AugMix, ICLR 2020, section 3).

    Args:
        num_classes: number of classes; set by the run.
        targets: statistics of the training targets; set by the run.
        weight: weight of the divergence, 0 or more; 12 in the paper.
        loss: as for `multiclass`.
        best: as for `multiclass`.

    Raises:
        ValueError: The weight is negative, or in training the batch has no views.
    """
    if not weight >= 0:
        raise ValueError(f"consistency: weight={weight}; expected 0 or more")
    plain = multiclass(num_classes=num_classes, targets=targets, loss=loss, best=best)

    def loss_with_views(model, params, state, batch, *, train, key):
        if not train:
            return plain.loss(model, params, state, batch, train=train, key=key)
        logits, state = model.apply(params, state, with_views(batch), train=train, key=key)
        logits = logits.reshape(-1, len(batch["inputs"]), num_classes)
        of_images = model._replace(apply=lambda params, state, inputs, *, train, key: (logits[0], state))
        values, state = plain.loss(of_images, params, state, batch, train=train, key=key)
        divergence = jensen_shannon(logits)
        return {**values, "loss": values["loss"] + weight * divergence, "divergence": divergence}, state

    return plain._replace(loss=loss_with_views)
