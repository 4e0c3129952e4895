"""Checks for plug-in authors: does a model, dataset, task, optimizer or augment keep its contract?

Each takes a spec and raises AssertionError with what does not hold.

    from jaxvision import testing
    def test_my_model():
        testing.check_model("my_model")
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import parallel, registry, step
from jaxvision.interfaces import Dataset, Model, Split, Targets, Task


def _finite(tree: Any) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


def _equal(one: Any, other: Any) -> bool:
    return all(bool(jnp.all(a == b)) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def check_model(spec: str, *, input_size: tuple[int, int, int] = (32, 32, 3), output_size: int = 10) -> None:
    """Checks shapes, determinism, that training mode alone changes the state, gradients, the head and the features."""
    output_size = registry.models.entry(registry.parse(spec).name).facts.get("output_size", output_size)
    model: Model = registry.models.build(spec, output_size=output_size, input_size=input_size)
    inputs = jax.random.normal(jax.random.key(1), (2, *input_size))
    init = parallel.compile_init(model.init)
    params, state = init(jax.random.key(0), inputs)
    evaluate = jax.jit(lambda p, s, x: model.apply(p, s, x, train=False, key=None))
    outputs, same = evaluate(params, state, inputs)
    assert outputs.shape == (2, output_size), f"outputs have shape {outputs.shape}, wanted {(2, output_size)}"
    assert _equal(state, same), "evaluation changed the state"
    assert _equal(params, init(jax.random.key(0), inputs)[0]), "init is not a function of its key"
    single = evaluate(params, state, inputs[:1])[0]
    assert jnp.allclose(single, outputs[:1], rtol=1e-3, atol=1e-4), (
        "in evaluation an output depends on the other inputs"
    )

    def loss(params):
        outputs, new = model.apply(params, state, inputs, train=True, key=jax.random.key(2))
        found = (outputs**2).mean()
        for part in (model.parts or {}).values():
            made, new = part.apply(params, new, jax.random.split(jax.random.key(3)), train=True, key=jax.random.key(4))
            assert made.shape == inputs.shape, f"a part makes {made.shape} of two keys, wanted {inputs.shape}"
            found += (made**2).mean()
        return found, new

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
    if model.adapt is not None:
        adapted = jax.jit(model.adapt)(params, state, inputs)
        kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (adapted, (params, state))]
        assert kinds[0] == kinds[1], "adapting changed shapes or types"
        assert _finite(adapted), "what is adapted is not finite"


def _double(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _check_shares(spec: str, output_size: int, params: Any, state: Any, inputs: jax.Array) -> None:
    """Checks that devices which see a share of the batch each find the statistics of all of it."""

    def train(inputs, axis_name):
        model: Model = registry.models.build(
            spec, output_size=output_size, input_size=inputs.shape[1:], axis_name=axis_name
        )
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
    if split.kind == "classes":
        assert split.targets.dtype == np.int32 and split.targets.min() >= 0, "targets are not int32 from 0 on"
        assert split.targets.max() < len(dataset.classes), "a target has no class"
    else:
        assert split.targets.dtype == np.float32 and np.isfinite(split.targets).all(), "targets are no finite float32"
    if split.kind == "tags":
        assert split.targets.shape == (len(split), len(dataset.classes)), "targets are not one for each tag"
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
    """Checks that values are one for each example, that scores and decisions agree with them, and the baseline."""
    facts = registry.tasks.entry(registry.parse(spec).name).facts
    kind = facts.get("targets", "classes")
    split = Split.of(np.zeros((6, 4, 4, 1), np.float32), TARGETS[kind])
    context = {"num_classes": num_classes, "targets": Targets.of(split, num_classes)}
    task: Task = registry.tasks.build(spec, **context)
    named = facts.get("model", "mlp(hidden=(8,))")
    model: Model = registry.models.build(named, output_size=task.output_size, input_size=(4, 4, 1))
    inputs = jax.random.uniform(jax.random.key(1), (6, 4, 4, 1))
    params, state = model.init(jax.random.key(0), inputs)
    batch = {"inputs": inputs, "targets": jnp.asarray(split.targets), "mask": jnp.ones(6)}
    values, _ = task.loss(model, params, state, batch, train=False, key=None)
    assert all(value.shape == (6,) for value in values.values()), "values are not one for each example"
    assert "loss" in values, "there is no loss among the values"
    predictions = np.asarray(task.predict(model, params, state, inputs))
    if task.choose is not None:
        task = registry.tasks.build(spec, **context, thresholds=task.choose(split.targets, predictions))
        assert task.choose is None, "thresholds that are known are chosen again"
    score = task.score(split.targets, predictions)
    if task.best is not None:
        assert task.best[0] in {**values, **score}, f"best is {task.best[0]!r}, of {', '.join({**values, **score})}"
    classes = tuple(f"class {index}" for index in range(num_classes))
    assert isinstance(task.report(split.targets, predictions, classes), dict), "the report is no dict"
    decided = task.decide(predictions)
    assert len(decided) == 6, "decisions are not one for each prediction"
    if predictions.ndim <= 2:  # not images, which say nothing
        described = task.describe(predictions[0], decided[0], classes=classes, top=2)
        assert isinstance(described, dict), "a prediction is described by no dict"
    if task.baseline is not None:
        _, prediction = task.baseline(split.targets)
        assert prediction.shape == predictions.shape[1:], "the baseline predicts another shape than the task"
        assert set(task.score(split.targets, np.broadcast_to(prediction, predictions.shape))) <= {*score, *values}
    if facts.get("targets") == "classes":
        _check_classes(task, model, params, state, batch, predictions, num_classes)


TARGETS = {  # of six examples
    "classes": np.array([0, 1, 1, 0, 1, 1], np.int32),
    "tags": np.array([[0, 1], [1, 1], [1, 0], [0, 0], [1, 1], [0, 1]], np.float32),
    "numbers": np.array([0.5, -1.0, 2.0, 3.5, 0.0, 1.0], np.float32),
}


def _check_classes(task: Task, model: Model, params, state, batch, predictions, num_classes: int) -> None:
    """Checks that hard and soft targets agree, that probabilities are such, that decisions give the accuracy."""
    values, _ = task.loss(model, params, state, batch, train=False, key=None)
    soft = {**batch, "targets": jax.nn.one_hot(batch["targets"], num_classes)}
    for name, value in task.loss(model, params, state, soft, train=False, key=None)[0].items():
        assert jnp.allclose(value, values[name], atol=1e-5), f"{name} of soft targets differs from that of hard ones"
    assert np.allclose(predictions.sum(axis=1), 1, atol=1e-5), "probabilities do not sum to 1"
    correct = task.decide(predictions) == np.asarray(batch["targets"])
    assert np.array_equal(correct.astype(np.float32), np.asarray(values["accuracy"])), (
        "accuracy is not that of the decisions"
    )


def check_optimizer(spec: str, *, num_steps: int = 200) -> None:
    """Checks that an optimizer brings a small regression's loss down, at its own default rate times a cosine."""
    name = registry.parse(spec).name
    peak = registry.optimizers.default(name, "learning_rate")
    assert isinstance(peak, float), "learning_rate has no default"
    schedule = registry.schedules.build("cosine", learning_rate=peak, num_steps=num_steps)
    optimizer = registry.optimizers.build(spec, learning_rate=schedule)
    model: Model = registry.models.build("mlp(hidden=(16,))", output_size=2)
    model = _in_parts(model, registry.optimizers.entry(name).facts.get("parts", ()))
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


def _in_parts(model: Model, parts: Sequence[str]) -> Model:
    """Gives a model of several such parts, whose outputs are averaged; the model itself where there are none."""
    if not parts:
        return model

    def init(key, inputs):
        made = {
            part: model.init(key, inputs) for part, key in zip(parts, jax.random.split(key, len(parts)), strict=True)
        }
        return {part: params for part, (params, _) in made.items()}, {part: state for part, (_, state) in made.items()}

    def apply(params, state, inputs, *, train, key):
        found = {part: model.apply(params[part], state[part], inputs, train=train, key=key) for part in parts}
        mean = jnp.mean(jnp.stack([outputs for outputs, _ in found.values()]), axis=0)
        return mean, {part: new for part, (_, new) in found.items()}

    return Model(init, apply)


def check_schedule(spec: str, *, num_steps: int = 100) -> None:
    """Checks that the peak is reached and never passed, and that the rate stays finite and not negative."""
    schedule = registry.schedules.build(spec, learning_rate=0.5, num_steps=num_steps)
    rates = np.array([float(schedule(i)) for i in range(num_steps)])
    assert np.isfinite(rates).all() and (rates >= 0).all(), "a rate is negative or not finite"
    assert math.isclose(rates.max(), 0.5, rel_tol=0.02), f"the peak is {rates.max()}, wanted 0.5"


def check_augment(spec: str) -> None:
    """Checks that an augment keeps shapes, type and range, is a function of key and batch, and treats examples apart.

    Targets stay those of the examples, or become shares [B, C] that sum to 1; what else a batch has stays as it is.
    """
    num = 32
    augment = jax.jit(registry.augments.build(spec, num_classes=num, seed=0))
    inputs = jax.random.uniform(jax.random.key(1), (num, 16, 20, 3))
    index = jnp.arange(num, dtype=jnp.int32)
    batch = {"inputs": inputs, "targets": index, "mask": jnp.ones(num), "index": index, "epoch": jnp.zeros_like(index)}
    one, again = (augment(jax.random.key(0), batch) for _ in range(2))
    assert one["inputs"].shape == inputs.shape and one["inputs"].dtype == inputs.dtype, "shape or type changed"
    assert bool((one["inputs"] >= 0).all() and (one["inputs"] <= 1).all()), "inputs left 0..1"
    assert _equal(one, again), "one key gives two results"
    later = augment(jax.random.key(3), {**batch, "epoch": batch["epoch"] + 1})
    assert not _equal(one["inputs"], later["inputs"]), "neither the key nor the epoch changes anything"
    same = augment(jax.random.key(0), {**batch, "inputs": jnp.broadcast_to(inputs[:1], inputs.shape)})["inputs"]
    is_mixing = one["targets"].ndim == 2  # which shows where images differ alone
    assert is_mixing or not bool((same == same[:1]).all()), "all examples are changed alike"
    assert _equal({**one, "inputs": 0, "targets": 0}, {**batch, "inputs": 0, "targets": 0}), "other rows changed"
    if is_mixing:
        assert jnp.allclose(one["targets"].sum(axis=1), 1, atol=1e-5), "shares of targets do not sum to 1"
    else:
        assert _equal(one["targets"], index), "targets changed"
    grey = augment(jax.random.key(0), {**batch, "inputs": inputs[..., :1]})["inputs"]
    assert grey.shape == (num, 16, 20, 1) and _finite(grey), "grey images come out in another shape, or not finite"
