"""One initial state, one training step and one evaluation step, for every task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxvision.engine.precision import as_float
from jaxvision.interfaces import Array, Augment, Batch, Gradient, Model, Task, TrainState, Tree

Values = dict[str, Array]
Microbatch = Callable[[Tree, Batch, Array], tuple[Tree, Values, Tree]]  # gradients, sums of values, the model's state
FINISH = 0x66696E69  # folded into a step's key for what a gradient rule draws once a step


def init_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    inputs: Array,
    *,
    seed: int,
    ema: bool = False,
    start: tuple[Tree, Tree] | None = None,
) -> TrainState:
    """Makes the state before the first step; `inputs` [1, …] give shapes only.

    `start` is (params, model_state) to begin with, where they are not to be new.
    """
    params_key, key = jax.random.split(jax.random.key(seed))
    params, model_state = start or model.init(params_key, inputs)
    average = jax.tree.map(jnp.copy, (params, model_state)) if ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, model_state, optimizer.init(params), average, key)


def trained_gradient(gradient: Gradient, trained: Tree) -> Gradient:
    """Takes the gradient by the parameters that `trained` marks alone; the others have None, and none is computed."""

    def microbatch(loss, params, model_state, batch, key):
        learned = jax.tree.map(lambda p, is_trained: p if is_trained else None, params, trained)

        def of_learned(learned, *rest):
            return loss(_moved(params, learned, lambda _, new: new), *rest)

        return gradient.microbatch(of_learned, learned, model_state, batch, key)

    return gradient._replace(microbatch=microbatch)


def _moved(params: Tree, updates: Tree, move: Callable[[Array, Array], Array]) -> Tree:
    """Moves each parameter by its update; one whose update is None stays what it is, bit for bit."""
    return jax.tree.map(
        lambda update, p: p if update is None else move(p, update), updates, params, is_leaf=lambda x: x is None
    )


def _parts(batch: Batch, count: int) -> Batch:
    """A batch as `count` batches: every count-th example in each, so that no example moves to another device."""
    return {name: rows.reshape(-1, count, *rows.shape[1:]).swapaxes(0, 1) for name, rows in batch.items()}


def _summed(
    microbatch: Microbatch, model_state: Tree, batch: Batch, key: Array, count: int
) -> tuple[Tree, Values, Tree]:
    """Adds up what the parts of a batch contribute, one after the other; the model's state goes through all of them."""
    if count == 1:
        return microbatch(model_state, batch, key)
    parts, keys = _parts(batch, count), jax.random.split(key, count)
    shapes = jax.eval_shape(microbatch, model_state, jax.tree.map(lambda rows: rows[0], parts), keys[0])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[:2])

    def add(carry, part):
        *sums, model_state = carry
        *more, model_state = microbatch(model_state, *part)
        return (*jax.tree.map(jnp.add, sums, more), model_state), None

    is_inlined = jax.default_backend() == "cpu"  # where a convolution in a loop takes up to thirty times as long
    return jax.lax.scan(add, (*zeros, model_state), (parts, keys), unroll=is_inlined)[0]


def _averaged(ema: Tree, new: Tree, step: Array, decay: float) -> Tree:
    """Moves the average towards new values, faster at first: by 1 - min(decay, (1 + step) / (10 + step)).

    The warm-up is that of TensorFlow's ExponentialMovingAverage with num_updates.
    """
    rate = 1 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, b: (a + rate * (b - a)).astype(a.dtype), ema, new)


def _is_schedule(node: Any) -> bool:
    return isinstance(node, optax.ScaleByScheduleState)


def _kept(is_wanted: Array, new: Any, old: Any) -> Any:
    """Gives the new value where it is wanted, else the old; the schedule of the learning rate moves on regardless."""
    return new if new is old or _is_schedule(new) else jnp.where(is_wanted, new, old)


def make_train_step(
    model: Model,
    task: Task,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    *,
    gradient: Gradient,
    accumulate: int = 1,
    ema: float = 0.0,
    skip_nonfinite: bool = False,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Values]]:
    """Makes (state, batch) -> (state, mean of each value and "gradient_norm"), to be compiled.

    The batch is learned in `accumulate` parts, whose gradients make one update: the memory of one part holds them all.
    `gradient` is the rule by which gradients follow from the losses of examples. `ema` is the decay of state.ema. With
    skip_nonfinite, a step whose loss or gradient is not finite changes nothing but the step's number. With axis_name,
    the batch is one device's share, and sums go over the devices of that axis. All randomness is a function of
    (state.key, state.step), so a step does not depend on how it was reached.
    """

    def over_devices(tree):
        return tree if axis_name is None else jax.lax.psum(tree, axis_name)

    def loss(params, model_state, batch, key):
        return task.loss(model, params, model_state, batch, train=True, key=key)

    def train_step(state, batch):
        step_key = jax.random.fold_in(state.key, state.step)
        augment_key, model_key = jax.random.split(step_key)
        batch = augment(augment_key, {**batch, "inputs": as_float(batch["inputs"])})
        if axis_name is not None:
            model_key = jax.random.fold_in(model_key, jax.lax.axis_index(axis_name))

        def microbatch(model_state, batch, key):
            return gradient.microbatch(loss, state.params, model_state, batch, key)

        sums, values, model_state = _summed(microbatch, state.model_state, batch, model_key, accumulate)
        sums, values, count = over_devices((sums, values, batch["mask"].sum()))
        gradients = gradient.finish(sums, count, jax.random.fold_in(step_key, FINISH))
        means = {name: value / count for name, value in values.items()}
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = _moved(state.params, updates, lambda p, update: (p + update).astype(p.dtype))
        means["gradient_norm"] = optax.tree.norm(gradients)
        average = _averaged(state.ema, (params, model_state), state.step, ema) if ema else None
        new = TrainState(state.step + 1, params, model_state, opt_state, average, state.key)
        if skip_nonfinite:
            finite = jnp.isfinite(means["loss"]) & jnp.isfinite(means["gradient_norm"])
            old = state._replace(step=new.step)
            new = jax.tree.map(lambda a, b: _kept(finite, a, b), new, old, is_leaf=_is_schedule)
        return new, means

    return train_step


def make_eval_step(model: Model, task: Task) -> Callable[[Tree, Tree, Batch], tuple[Values, Any]]:
    """Makes (params, model_state, batch) -> (masked sum of each value and "count", predictions), to be compiled."""

    def eval_step(params, model_state, batch):
        values, _ = task.loss(model, params, model_state, batch, train=False, key=None)
        sums = {name: (value * batch["mask"]).sum() for name, value in values.items()}
        predictions = task.predict(model, params, model_state, batch)  # the same forward pass to the compiler
        return {**sums, "count": batch["mask"].sum()}, predictions

    return eval_step
