"""The outputs of an ensemble: the mean prediction of its members, its logits and its loss."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxvision.interfaces import Model, Outputs, Split, Task


def combine(members: Sequence[Outputs], task: Task, split: Split) -> Outputs:
    """Return the mean prediction, the log odds of mean probabilities, and the loss of the mean prediction.

    The log odds are computed from those of the members, so that confident members do not tie. The loss is the cross
    entropy for classes and labels, and that of the task for numbers; where it is neither, the mean of the members'.
    """
    predictions = np.mean([each.predictions for each in members], axis=0)
    logits = None if members[0].logits is None else _mean_log_odds(np.stack([each.logits for each in members]))
    losses = np.stack([np.asarray(each.loss, np.float64) for each in members])
    if split.kind == "multiclass":
        loss = -_log_mean(-losses)
    elif split.kind == "multilabel" and logits is not None:
        present, targets = np.logaddexp(0, -logits), split.targets
        loss = (targets * present + (1 - targets) * np.logaddexp(0, logits)).mean(axis=1)
    else:
        loss = _loss_of_numbers(predictions, task, split)
        loss = losses.mean(axis=0) if loss is None else loss
    return Outputs(predictions, np.asarray(loss, members[0].loss.dtype), logits)


def _log_mean(logs: np.ndarray) -> np.ndarray:
    """Return the logarithm of the mean over the first axis, from logarithms."""
    return np.logaddexp.reduce(logs, axis=0) - np.log(len(logs))


def _mean_log_odds(logits: np.ndarray) -> np.ndarray:
    """Return the log odds of the mean probability over the first axis, from log odds."""
    logits = logits.astype(np.float64)
    return _log_mean(-np.logaddexp(0, -logits)) - _log_mean(-np.logaddexp(0, logits))


def _loss_of_numbers(predictions: np.ndarray, task: Task, split: Split) -> np.ndarray | None:
    """Return the task's loss of predicted numbers [N], if the task predicts a linear function of its outputs."""
    if predictions.ndim != 1 or task.output_size != 1:
        return None

    def apply(params, state, inputs, *, train, key):
        return inputs, state

    model, outputs = Model(init=lambda key, inputs: ({}, {}), apply=apply), jnp.array([[0.0], [1.0]])
    zero, one = np.asarray(task.predict(model, {}, {}, {"inputs": outputs}), np.float64)
    if zero == one:
        return None
    outputs = jnp.asarray((predictions - zero) / (one - zero), predictions.dtype)[:, None]
    batch = {"inputs": outputs, "targets": jnp.asarray(split.targets), "mask": jnp.ones(len(outputs))}
    if not np.allclose(task.predict(model, {}, {}, batch), predictions, rtol=1e-4, atol=1e-6):
        return None
    values, _ = task.loss(model, {}, {}, batch, train=False, key=None)
    return np.asarray(values["loss"])
