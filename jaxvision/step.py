"""One initial state, one training step and one evaluation step, for every task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxvision.interfaces import Array, Augment, Batch, Model, Preprocessing, Task, TrainState, Tree

Values = dict[str, Array]
LossFunction = Callable[[Tree], tuple[Array, tuple[Values, Tree]]]
Gradient = Callable[[LossFunction, Tree], tuple[Tree, tuple[Values, Tree]]]


def as_float(inputs: Array) -> Array:
    """Gives pixels as float32 in 0..1, from uint8 or from floats that are so already."""
    return inputs.astype(jnp.float32) / 255 if inputs.dtype == jnp.uint8 else inputs


def normalised(model: Model, preprocessing: Preprocessing) -> Model:
    """Gives the model that takes pixels, uint8 or floats in 0..1, and normalises them before anything else."""
    mean, std = (jnp.asarray(values, jnp.float32) for values in (preprocessing.mean, preprocessing.std))

    def normalise(inputs):
        return (as_float(inputs) - mean) / std

    def init(key, inputs):
        return model.init(key, normalise(inputs))

    def apply(params, state, inputs, *, train, key):
        return model.apply(params, state, normalise(inputs), train=train, key=key)

    def features(params, state, inputs, *, add=None):
        return model.features(params, state, normalise(inputs), add=add or {})  # pyright: ignore[reportOptionalCall]

    return model._replace(init=init, apply=apply, features=features if model.features else None)


def init_state(model: Model, optimizer: optax.GradientTransformation, inputs: Array, *, seed: int) -> TrainState:
    """Makes the state before the first step; `inputs` [1, …] give shapes only."""
    params_key, key = jax.random.split(jax.random.key(seed))
    params, model_state = model.init(params_key, inputs)
    return TrainState(jnp.zeros((), jnp.int32), params, model_state, optimizer.init(params), None, key)


def _masked_mean(values: Array, mask: Array) -> Array:
    return (values * mask).sum() / mask.sum()


def mean_gradient(loss: LossFunction, params: Tree) -> tuple[Tree, tuple[Values, Tree]]:
    """The ordinary gradient: that of the masked mean."""
    return jax.grad(loss, has_aux=True)(params)


def make_train_step(
    model: Model,
    task: Task,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    *,
    gradient: Gradient = mean_gradient,
    skip_nonfinite: bool = False,
) -> Callable[[TrainState, Batch], tuple[TrainState, Values]]:
    """Makes (state, batch) -> (state, mean of each value and "gradient_norm"). The state given is used up.

    With skip_nonfinite, a step whose loss or gradient is not finite changes nothing but the step's number.
    All randomness is a function of (state.key, state.step), so a step does not depend on how it was reached.
    """

    def train_step(state, batch):
        augment_key, model_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        batch = augment(augment_key, {**batch, "inputs": as_float(batch["inputs"])})

        def loss(params):
            values, model_state = task.loss(model, params, state.model_state, batch, train=True, key=model_key)
            means = {name: _masked_mean(value, batch["mask"]) for name, value in values.items()}
            return means["loss"], (means, model_state)

        gradients, (means, model_state) = gradient(loss, state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        means["gradient_norm"] = optax.tree.norm(gradients)
        new = state._replace(step=state.step + 1, params=params, model_state=model_state, opt_state=opt_state)
        if skip_nonfinite:
            finite = jnp.isfinite(means["loss"]) & jnp.isfinite(means["gradient_norm"])
            old = state._replace(step=new.step)
            new = jax.tree.map(lambda a, b: a if a is b else jnp.where(finite, a, b), new, old)
        return new, means

    return jax.jit(train_step, donate_argnums=0)


def make_eval_step(model: Model, task: Task) -> Callable[[Tree, Tree, Batch], tuple[Values, Any]]:
    """Makes (params, model_state, batch) -> (masked sum of each value and "count", predictions)."""

    def eval_step(params, model_state, batch):
        values, _ = task.loss(model, params, model_state, batch, train=False, key=None)
        sums = {name: (value * batch["mask"]).sum() for name, value in values.items()}
        predictions = task.predict(model, params, model_state, batch["inputs"])  # the same forward pass to the compiler
        return {**sums, "count": batch["mask"].sum()}, predictions

    return jax.jit(eval_step)
