"""Checks for plug-in authors: does a model, dataset, task, optimizer or augment keep its contract?

Each takes a spec and raises AssertionError with what does not hold.

    from jaxvision import testing
    def test_my_model():
        testing.check_model("my_model")
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import registry, step
from jaxvision.interfaces import Dataset, Model, Split, Task


def _finite(tree: Any) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


def _equal(one: Any, other: Any) -> bool:
    return all(bool((a == b).all()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def check_model(spec: str, *, input_size: tuple[int, int, int] = (32, 32, 3), output_size: int = 10) -> None:
    """Checks shapes, determinism, that training mode alone changes the state, gradients, the head and the features."""
    model: Model = registry.models.build(spec, output_size=output_size)
    inputs = jax.random.normal(jax.random.key(1), (2, *input_size))
    params, state = jax.jit(model.init)(jax.random.key(0), inputs)
    evaluate = jax.jit(lambda p, s, x: model.apply(p, s, x, train=False, key=None))
    outputs, same = evaluate(params, state, inputs)
    assert outputs.shape == (2, output_size), f"outputs have shape {outputs.shape}, wanted {(2, output_size)}"
    assert _equal(state, same), "evaluation changed the state"
    assert _equal(params, jax.jit(model.init)(jax.random.key(0), inputs)[0]), "init is not a function of its key"
    single = evaluate(params, state, inputs[:1])[0]
    assert jnp.allclose(single, outputs[:1], rtol=1e-3, atol=1e-4), (
        "in evaluation an output depends on the other inputs"
    )

    def loss(params):
        outputs, new = model.apply(params, state, inputs, train=True, key=jax.random.key(2))
        return (outputs**2).mean(), new

    gradients, new_state = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert jax.tree.structure(new_state) == jax.tree.structure(state), "training changed the structure of the state"
    assert _finite(gradients), "gradients are not finite"
    kernels = [gradient for gradient in jax.tree.leaves(gradients) if gradient.ndim > 1]
    assert all(bool((kernel != 0).any()) for kernel in kernels), "a kernel has no gradient"
    if registry.models.takes(spec, "axis_name"):
        with jax.enable_x64(True):  # in float32, what varies between two examples at one pixel is mostly rounding
            _check_shares(spec, output_size, *jax.tree.map(_double, (params, state, inputs)))
    if model.head is not None:
        assert model.head in params, f"head is {model.head!r}, and params have {', '.join(params)}"
    if model.features is not None:
        _check_features(model, params, state, inputs)


def _double(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _check_shares(spec: str, output_size: int, params: Any, state: Any, inputs: jax.Array) -> None:
    """Checks that devices which see a share of the batch each find the statistics of all of it."""

    def train(inputs, axis_name):
        model: Model = registry.models.build(spec, output_size=output_size, axis_name=axis_name)
        return model.apply(params, state, inputs, train=True, key=jax.random.key(2))[1]

    whole = jax.jit(lambda inputs: train(inputs, None))(inputs)
    found = jax.jit(jax.vmap(lambda each: train(each[None], "shares"), axis_name="shares"))(inputs)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
        assert np.allclose(one, other[None], rtol=1e-3, atol=1e-4), "statistics are of a share: is axis_name handed on?"


def _check_features(model: Model, params: Any, state: Any, inputs: jax.Array) -> None:
    assert model.features is not None
    maps = model.features(params, state, inputs)
    if not maps:  # a module that names none
        return
    assert "pooled" in maps, f"features are {', '.join(maps)}; 'pooled' is missing"
    assert maps["pooled"].shape[0] == len(inputs) and maps["pooled"].ndim == 2, "pooled features are not [B, F]"
    first = next(iter(maps))
    moved = model.features(params, state, inputs, add={first: jnp.ones_like(maps[first])})
    assert jnp.allclose(moved[first], maps[first] + 1, atol=1e-5), f"add does not act on {first!r}"


def _check_split(split: Split, dataset: Dataset) -> None:
    preprocessing = dataset.preprocessing
    indices = np.array([len(split) - 1, 0])
    inputs = split.read(indices)
    assert inputs.shape == (2, *preprocessing.size, preprocessing.channels), f"inputs have shape {inputs.shape}"
    assert inputs.dtype in (np.uint8, np.float32), f"inputs are {inputs.dtype}"
    assert np.array_equal(inputs, split.read(indices)), "reading twice gives two results"
    assert split.targets.dtype == np.int32 and split.targets.min() >= 0, "targets are not int32 from 0 on"
    assert split.targets.max() < len(dataset.classes), "a target has no class"
    assert not len(split.names) or len(split.names) == len(split), "names are not one for each example"


def check_dataset(spec: str, **context: Any) -> Dataset:
    """Checks splits, shapes, types and repeatability of a dataset; gives it."""
    dataset: Dataset = registry.datasets.build(spec, **context)
    for split in (dataset.train, dataset.validation, dataset.test):
        if split is not None:
            _check_split(split, dataset)
    again: Dataset = registry.datasets.build(spec, **context)
    assert np.array_equal(dataset.train.targets, again.train.targets), "building twice gives two orders"
    assert len(dataset.preprocessing.mean) == len(dataset.preprocessing.std) == dataset.preprocessing.channels
    return dataset


def check_task(spec: str, *, num_classes: int = 2) -> None:
    """Checks that values are one for each example, that hard and soft targets agree, that predictions are decided."""
    task: Task = registry.tasks.build(spec, num_classes=num_classes)
    model: Model = registry.models.build("mlp(hidden=(8,))", output_size=task.output_size)
    inputs = jax.random.normal(jax.random.key(1), (4, 4, 4, 1))
    params, state = model.init(jax.random.key(0), inputs)
    batch = {"inputs": inputs, "targets": jnp.array([0, 1, 1, 0]), "mask": jnp.ones(4)}
    values, _ = task.loss(model, params, state, batch, train=False, key=None)
    assert all(value.shape == (4,) for value in values.values()), "values are not one for each example"
    assert "loss" in values, "there is no loss among the values"
    if task.best is not None:
        assert task.best[0] in values, f"best is {task.best[0]!r}, and values are {', '.join(values)}"
    soft = {**batch, "targets": jax.nn.one_hot(batch["targets"], num_classes)}
    for name, value in task.loss(model, params, state, soft, train=False, key=None)[0].items():
        assert jnp.allclose(value, values[name], atol=1e-5), f"{name} of soft targets differs from that of hard ones"
    predictions = np.asarray(task.predict(model, params, state, inputs))
    assert np.allclose(predictions.sum(axis=1), 1, atol=1e-5), "probabilities do not sum to 1"
    decided = task.decide(predictions)
    accuracy = (decided == np.asarray(batch["targets"])).astype(np.float32)
    assert np.array_equal(accuracy, np.asarray(values["accuracy"])), "accuracy is not that of the decisions"


def check_optimizer(spec: str, *, num_steps: int = 200) -> None:
    """Checks that an optimizer brings a small regression's loss down, at its own default rate times a cosine."""
    name = registry.parse(spec).name
    peak = registry.optimizers.default(name, "learning_rate")
    assert isinstance(peak, float), "learning_rate has no default"
    schedule = registry.schedules.build("cosine", learning_rate=peak, num_steps=num_steps)
    optimizer = registry.optimizers.build(spec, learning_rate=schedule)
    model: Model = registry.models.build("mlp(hidden=(16,))", output_size=2)
    task: Task = registry.tasks.build("multiclass", num_classes=2)
    inputs = jax.random.normal(jax.random.key(1), (64, 4, 4, 1))
    batch = {"inputs": inputs, "targets": (inputs.sum(axis=(1, 2, 3)) > 0).astype(jnp.int32), "mask": jnp.ones(64)}
    state = step.init_state(model, optimizer, inputs[:1], seed=0)
    train_step = step.make_train_step(model, task, optimizer, lambda key, batch: batch)
    losses = []
    for _ in range(num_steps):
        state, means = train_step(state, batch)
        losses.append(float(means["loss"]))
    assert math.isfinite(losses[-1]) and losses[-1] < 0.9 * losses[0], f"loss went from {losses[0]} to {losses[-1]}"


def check_schedule(spec: str, *, num_steps: int = 100) -> None:
    """Checks that the peak is reached and never passed, and that the rate stays finite and not negative."""
    schedule = registry.schedules.build(spec, learning_rate=0.5, num_steps=num_steps)
    rates = np.array([float(schedule(i)) for i in range(num_steps)])
    assert np.isfinite(rates).all() and (rates >= 0).all(), "a rate is negative or not finite"
    assert math.isclose(rates.max(), 0.5, rel_tol=0.02), f"the peak is {rates.max()}, wanted 0.5"


def check_augment(spec: str) -> None:
    """Checks that an augment keeps shapes, type and range, is a function of its key, and treats examples apart."""
    augment = registry.augments.build(spec)
    inputs = jax.random.uniform(jax.random.key(1), (8, 16, 16, 3))
    batch = {"inputs": inputs, "targets": jnp.arange(8), "mask": jnp.ones(8)}
    one, again = (jax.jit(augment)(jax.random.key(0), batch) for _ in range(2))
    assert one["inputs"].shape == inputs.shape and one["inputs"].dtype == inputs.dtype, "shape or type changed"
    assert bool((one["inputs"] >= 0).all() and (one["inputs"] <= 1).all()), "inputs left 0..1"
    assert _equal(one, again), "one key gives two results"
    assert not _equal(one, jax.jit(augment)(jax.random.key(3), batch)), "the key changes nothing"
    same = jax.jit(augment)(jax.random.key(0), {**batch, "inputs": jnp.broadcast_to(inputs[:1], inputs.shape)})[
        "inputs"
    ]
    assert not bool((same == same[:1]).all()), "all examples are changed alike"
