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
Contributed = tuple[Tree, Values, Tree]  # gradients, means, the model's new state
Contribution = Callable[[Tree, Batch, Array], Contributed]


def as_float(inputs: Array) -> Array:
    """Gives pixels as float32 in 0..1, from uint8 or from floats that are so already."""
    return inputs.astype(jnp.float32) / 255 if inputs.dtype == jnp.uint8 else inputs


def computing(model: Model, preprocessing: Preprocessing, *, precision: str = "f32") -> Model:
    """Gives the model that takes pixels, uint8 or floats in 0..1, normalises them first, and computes in a precision.

    With "bf16" inputs and parameters are rounded to bfloat16 for the computation alone: the parameters themselves, the
    state (statistics among it) and the outputs stay float32 (P. Micikevicius et al., Mixed Precision Training, ICLR
    2018, section 3.1). With "f64" the parameters are float64 too.
    """
    mean, std = (jnp.asarray(values, jnp.float32) for values in (preprocessing.mean, preprocessing.std))
    inner, outer = {"f32": (None, None), "bf16": (jnp.bfloat16, jnp.float32), "f64": (jnp.float64,) * 2}[precision]

    def normalise(inputs):
        return _cast((as_float(inputs) - mean) / std, inner)

    def init(key, inputs):
        params, state = model.init(key, (as_float(inputs) - mean) / std)
        return (_cast(params, inner), _cast(state, inner)) if precision == "f64" else (params, state)

    def apply(params, state, inputs, *, train, key):
        outputs, new = model.apply(_cast(params, inner), state, normalise(inputs), train=train, key=key)
        return _cast(outputs, outer), jax.tree.map(lambda old, new: new.astype(old.dtype), state, new)

    def features(params, state, inputs, *, add=None):
        assert model.features is not None
        added = _cast(dict(add or {}), inner)
        return _cast(model.features(_cast(params, inner), state, normalise(inputs), add=added), outer)

    def freeze(modules):
        assert model.freeze is not None
        return computing(model.freeze(modules), preprocessing, precision=precision)

    def adapt(params, state, inputs):
        assert model.adapt is not None
        adapted = model.adapt(params, state, (as_float(inputs) - mean) / std)
        return jax.tree.map(lambda old, new: new.astype(old.dtype), (params, state), adapted)

    def part(of: Model) -> Model:  # what it takes is no image, and what it gives is in pixels
        def apply_part(params, state, inputs, *, train, key):
            outputs, new = of.apply(_cast(params, inner), state, inputs, train=train, key=key)
            return _cast(outputs, outer), jax.tree.map(lambda old, new: new.astype(old.dtype), state, new)

        return of._replace(apply=apply_part)

    return model._replace(
        init=init,
        apply=apply,
        parts=None if model.parts is None else {name: part(each) for name, each in model.parts.items()},
        features=features if model.features else None,
        freeze=freeze if model.freeze else None,
        adapt=adapt if model.adapt else None,
    )


def averaged_over_views(model: Model, views: str) -> Model:
    """Gives the model that, in evaluation, averages its outputs over versions of an image: test-time augmentation.

    "mirrored" takes it and its mirror image; "mirrored_shifted" weighs these as one half and, as the other, both
    shifted by a pixel up and left and by one down and right (K. Jordan, 94% on CIFAR-10 in 3.29 Seconds, 2024, section
    3).
    """
    if views == "one":
        return model

    def apply(params, state, inputs, *, train, key):
        def outputs(inputs):
            return model.apply(params, state, inputs, train=train, key=key)[0]

        if train:
            return model.apply(params, state, inputs, train=train, key=key)
        found = _mirrored(outputs, inputs)
        if views == "mirrored_shifted":
            padded = jnp.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
            shifted = [_mirrored(outputs, padded[:, :-2, :-2]), _mirrored(outputs, padded[:, 2:, 2:])]
            found = (found + (shifted[0] + shifted[1]) / 2) / 2
        return found, state

    def freeze(modules):
        assert model.freeze is not None
        return averaged_over_views(model.freeze(modules), views)

    return model._replace(apply=apply, freeze=freeze if model.freeze else None)


def _mirrored(outputs: Callable[[Array], Array], inputs: Array) -> Array:
    return (outputs(inputs) + outputs(inputs[:, :, ::-1])) / 2


def _cast(tree: Tree, dtype: Any) -> Tree:
    """Gives a tree with its floats in another type; None leaves them."""
    if dtype is None:
        return tree
    if isinstance(tree, dict):  # a map over all of it would sort the names, whose order is that of computation
        return {name: _cast(each, dtype) for name, each in tree.items()}
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


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


def mean_gradient(loss: LossFunction, params: Tree) -> tuple[Tree, tuple[Values, Tree]]:
    """The ordinary gradient: that of the masked mean."""
    return jax.grad(loss, has_aux=True)(params)


def trained_gradient(trained: Tree, gradient: Gradient = mean_gradient) -> Gradient:
    """Takes the gradient by the parameters that `trained` marks alone; the others have None, and none is computed."""

    def gradient_of_trained(loss, params):
        learned = jax.tree.map(lambda p, is_trained: p if is_trained else None, params, trained)
        return gradient(lambda learned: loss(_moved(params, learned, lambda _, new: new)), learned)

    return gradient_of_trained


def _moved(params: Tree, updates: Tree, move: Callable[[Array, Array], Array]) -> Tree:
    """Moves each parameter by its update; one whose update is None stays what it is, bit for bit."""
    return jax.tree.map(
        lambda update, p: p if update is None else move(p, update), updates, params, is_leaf=lambda x: x is None
    )


def _parts(batch: Batch, count: int) -> Batch:
    """A batch as `count` batches: every count-th example in each, so that no example moves to another device."""
    return {name: rows.reshape(-1, count, *rows.shape[1:]).swapaxes(0, 1) for name, rows in batch.items()}


def _summed(contribution: Contribution, model_state: Tree, batch: Batch, key: Array, count: int) -> Contributed:
    """Adds up what the parts of a batch contribute, one after the other; the model's state goes through all of them."""
    if count == 1:
        return contribution(model_state, batch, key)
    parts, keys = _parts(batch, count), jax.random.split(key, count)
    shapes = jax.eval_shape(contribution, model_state, jax.tree.map(lambda rows: rows[0], parts), keys[0])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[:2])

    def add(carry, part):
        *sums, model_state = carry
        *more, model_state = contribution(model_state, *part)
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
    gradient: Gradient = mean_gradient,
    accumulate: int = 1,
    ema: float = 0.0,
    skip_nonfinite: bool = False,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Values]]:
    """Makes (state, batch) -> (state, mean of each value and "gradient_norm"), to be compiled.

    The batch is learned in `accumulate` parts, whose gradients make one update: the memory of one part holds them all.
    `ema` is the decay of state.ema. With skip_nonfinite, a step whose loss or gradient is not finite changes nothing
    but the step's number. With axis_name, the batch is one device's share, and sums go over the devices of that axis.
    All randomness is a function of (state.key, state.step), so a step does not depend on how it was reached.
    """

    def over_devices(tree):
        return tree if axis_name is None else jax.lax.psum(tree, axis_name)

    def train_step(state, batch):
        augment_key, model_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        batch = augment(augment_key, {**batch, "inputs": as_float(batch["inputs"])})
        if axis_name is not None:
            model_key = jax.random.fold_in(model_key, jax.lax.axis_index(axis_name))
        count = over_devices(batch["mask"].sum())

        def contribution(model_state, batch, key):
            def loss(params):
                values, new = task.loss(model, params, model_state, batch, train=True, key=key)
                means = {name: (value * batch["mask"]).sum() / count for name, value in values.items()}
                return means["loss"], (means, new)

            gradients, (means, new) = gradient(loss, state.params)
            return gradients, means, new

        gradients, means, model_state = _summed(contribution, state.model_state, batch, model_key, accumulate)
        gradients, means = over_devices((gradients, means))
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
        predictions = task.predict(model, params, model_state, batch["inputs"])  # the same forward pass to the compiler
        return {**sums, "count": batch["mask"].sum()}, predictions

    return eval_step
