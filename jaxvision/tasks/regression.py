"""Regression: one number per input."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
import numpy as np

from jaxvision.interfaces import Monitor, TargetStats, Task
from jaxvision.tasks import metrics, register


@register("regression", targets="continuous")
def regression(
    *, targets: TargetStats | None = None, loss: Literal["squared", "absolute", "huber"] = "squared", delta: float = 1.0
) -> Task:
    """Predict one number per input, by a squared, absolute or Huber loss.

    Targets are float [B]; the model learns them standardized by the training mean and standard deviation. Predictions
    [B] are in the units of the targets. loss is "squared", "absolute", or "huber": squared up to delta training
    standard deviations and linear beyond (P. Huber, Robust Estimation of a Location Parameter, 1964). Raises ValueError
    if delta is not above 0.
    """
    if delta <= 0:
        raise ValueError(f"delta={delta}; expected a number of standard deviations above 0")
    mean, std = (targets.mean, targets.std) if targets is not None else (0.0, 1.0)
    kind = loss

    def error_loss(error):
        if kind == "squared":
            return error**2
        size = jnp.abs(error)
        if kind == "absolute":
            return size
        return jnp.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))

    def loss_of(model, params, state, batch, *, train, key):
        outputs, state = model.apply(params, state, batch["inputs"], train=train, key=key)
        error = outputs[:, 0] - (batch["targets"].astype(outputs.dtype) - mean) / std
        return {"loss": error_loss(error), "mae": jnp.abs(error) * std}, state

    def predict(model, params, state, batch):
        outputs, _ = model.apply(params, state, batch["inputs"], train=False, key=None)
        return outputs[:, 0] * std + mean

    return Task(
        output_size=1,
        loss=loss_of,
        predict=predict,
        predict_labels=lambda predictions: predictions,
        describe=_describe,
        score=metrics.regression,
        report=lambda targets, predictions, classes: {},
        monitor=Monitor("rmse", "min"),
        headline="rmse",
        baseline=lambda targets: ("mean of train", np.array(targets.mean(), np.float32)),
    )


def _describe(prediction, predicted, *, classes, top):
    return {"value": float(prediction)}
