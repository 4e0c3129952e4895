"""The initial state, the training step and the evaluation step of every task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxvision.engine.precision import as_float
from jaxvision.interfaces import Array, Augment, Batch, Gradient, Model, Outputs, Task, TrainState, Tree

Values = dict[str, Array]
MicrobatchSums = Callable[[Tree, Batch, Array], tuple[Tree, Values, Tree]]  # gradients, sums of values, model state
FINISH = 0x66696E69  # folded into the step's key for the samples of `finish`


def init_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    inputs: Array,
    *,
    seed: int,
    ema: bool = False,
    start: tuple[Tree, Tree] | None = None,
) -> TrainState:
    """Return the state before the first step; only the shape of `inputs` [1, …] matters.

    `start` is (params, model_state) to start from instead of a new initialization.
    """
    params_key, key = jax.random.split(jax.random.key(seed))
    params, model_state = start or model.init(params_key, inputs)
    average = jax.tree.map(jnp.copy, (params, model_state)) if ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, model_state, optimizer.init(params), average, key)


def trained_gradient(gradient: Gradient, trained: Tree) -> Gradient:
    """Wrap a gradient rule to differentiate only the parameters that `trained` marks; gradients of others are None."""

    def microbatch(loss, params, model_state, batch, key):
        learned = jax.tree.map(lambda p, is_trained: p if is_trained else None, params, trained)

        def of_learned(learned, *rest):
            return loss(_apply_updates(params, learned, lambda _, new: new), *rest)

        return gradient.microbatch(of_learned, learned, model_state, batch, key)

    return gradient._replace(microbatch=microbatch)


def _apply_updates(params: Tree, updates: Tree, move: Callable[[Array, Array], Array]) -> Tree:
    """Move each parameter by its update; a parameter whose update is None stays bitwise the same."""
    return jax.tree.map(
        lambda update, p: p if update is None else move(p, update), updates, params, is_leaf=lambda x: x is None
    )


def _microbatches(batch: Batch, count: int) -> Batch:
    """Split a batch into microbatches, each with every count-th example, so that no example moves between devices."""
    return {name: rows.reshape(-1, count, *rows.shape[1:]).swapaxes(0, 1) for name, rows in batch.items()}


def _accumulate(
    microbatch: MicrobatchSums, model_state: Tree, batch: Batch, key: Array, count: int
) -> tuple[Tree, Values, Tree]:
    """Sum gradients and values over the microbatches of a batch, in order, passing on the model state."""
    if count == 1:
        return microbatch(model_state, batch, key)
    parts, keys = _microbatches(batch, count), jax.random.split(key, count)
    shapes = jax.eval_shape(microbatch, model_state, jax.tree.map(lambda rows: rows[0], parts), keys[0])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[:2])

    def add(carry, part):
        *sums, model_state = carry
        *more, model_state = microbatch(model_state, *part)
        return (*jax.tree.map(jnp.add, sums, more), model_state), None

    is_inlined = jax.default_backend() == "cpu"  # convolutions in loops are up to 30 times slower there
    return jax.lax.scan(add, (*zeros, model_state), (parts, keys), unroll=is_inlined)[0]


def _is_schedule(node: Any) -> bool:
    return isinstance(node, optax.ScaleByScheduleState)


def _where_finite(is_finite: Array, new: Any, old: Any) -> Any:
    """Return the new value if the step is finite, else the old one; learning rate schedules always advance."""
    return new if new is old or _is_schedule(new) else jnp.where(is_finite, new, old)


def make_train_step(
    model: Model,
    task: Task,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    *,
    gradient: Gradient,
    grad_accum_steps: int = 1,
    update_ema: Callable[[Tree, Tree, Array], Tree] | None = None,
    skip_nonfinite: bool = False,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Values]]:
    """Build the function (state, batch) -> (state, mean of each value and "gradient_norm"), ready to be compiled.

    Randomness is a function of (state.key, state.step) and under pmap of the device, so a step does not depend on
    how it was reached.

    Args:
        model: The model, which takes pixels.
        task: The task, whose loss is minimized.
        optimizer: An optax optimizer.
        augment: The augmentation of training batches.
        gradient: The rule that computes gradients from the losses of examples.
        grad_accum_steps: The number of microbatches of a batch. Their gradients are summed for one update, so that only
            the activations of one microbatch are in memory at a time.
        update_ema: The function (state.ema, new parameters and model state, step) -> new state.ema.
        skip_nonfinite: Whether a step with a non-finite loss or gradient is skipped; only the step number and the
            learning-rate schedule advance.
        axis_name: The device axis to sum over if the batch is the part of one device, as under pmap.

    Returns:
        The training step.
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

        sums, values, model_state = _accumulate(microbatch, state.model_state, batch, model_key, grad_accum_steps)
        sums, values, count = over_devices((sums, values, batch["mask"].sum()))
        gradients = gradient.finish(sums, count, jax.random.fold_in(step_key, FINISH))
        means = {name: value / count for name, value in values.items()}
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = _apply_updates(state.params, updates, lambda p, update: (p + update).astype(p.dtype))
        means["gradient_norm"] = optax.tree.norm(gradients)
        average = update_ema(state.ema, (params, model_state), state.step) if update_ema else None
        new = TrainState(state.step + 1, params, model_state, opt_state, average, state.key)
        if skip_nonfinite:
            finite = jnp.isfinite(means["loss"]) & jnp.isfinite(means["gradient_norm"])
            old = state._replace(step=new.step)
            new = jax.tree.map(lambda a, b: _where_finite(finite, a, b), new, old, is_leaf=_is_schedule)
        return new, means

    return train_step


def make_eval_step(model: Model, task: Task) -> Callable[[Tree, Tree, Batch], tuple[Values, Outputs]]:
    """Build the function (params, model_state, batch) -> (masked sum of each value and "count", outputs)."""

    def eval_step(params, model_state, batch):
        batch = {**batch, "inputs": as_float(batch["inputs"])}
        values, _ = task.loss(model, params, model_state, batch, train=False, key=None)
        sums = {name: (value * batch["mask"]).sum() for name, value in values.items()}
        predictions = task.predict(model, params, model_state, batch)  # the compiler merges the forward passes
        logits = None if task.logits is None else task.logits(model, params, model_state, batch)
        return {**sums, "count": batch["mask"].sum()}, Outputs(predictions, values["loss"], logits)

    return eval_step
