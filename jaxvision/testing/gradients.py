"""Does a gradient rule keep its contract?"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxvision import registry
from jaxvision.engine import step
from jaxvision.interfaces import Batch, ExampleLoss, Gradient, Tree
from jaxvision.testing.trees import close, equal, finite

NUM_EXAMPLES = 8  # in the batch of the checks; the last two of the padded one are padding
AXIS = "devices"


def check_gradient(spec: str, *, is_deterministic: bool = True, is_additive: bool = True) -> None:
    """Check a gradient rule on a small model: shapes, padding, microbatches, devices, and frozen parameters.

    Sums have the shapes and types of the parameters, and values are masked sums. What stands in rows of padding changes
    nothing, and neither does their number. Micro-batches, and the parts of a batch on several devices, add up to the
    batch. `finish` is a function of its arguments. Frozen parameters, which are None, stay None.

    Args:
        spec: The rule, as `"sam(rho=0.1)"`.
        is_deterministic: False for a rule whose `microbatch` draws random numbers. The checks then do not compare a
            batch with its parts.
        is_additive: False for a rule whose microbatches do not add up to the batch by design, as those of `sam`.

    Raises:
        AssertionError: If the rule breaks its contract.
    """
    rule, loss, params, batch = _build(spec, axis_name=None), *_example()
    key = jax.random.key(2)
    microbatch = jax.jit(lambda params, batch, key: rule.microbatch(loss, params, {}, batch, key))
    finish = jax.jit(rule.finish)
    sums, values, state = microbatch(params, batch, key)
    _check_sums(sums, values, state, params, loss(params, {}, batch, key)[0])
    _check_padding(microbatch, params, batch, key, is_deterministic=is_deterministic)
    count = batch["mask"].sum()
    found = finish(sums, count, key)
    _check_like(found, params, "finish returned gradients")
    assert equal(found, finish(sums, count, key)), "finish with the same key returned two results"
    if is_deterministic and is_additive:
        parts = [jax.tree.map(lambda rows, i=i: rows[i::2], batch) for i in range(2)]
        found_parts = [microbatch(params, part, jax.random.fold_in(key, i))[:2] for i, part in enumerate(parts)]
        added, added_values = jax.tree.map(jnp.add, *found_parts)
        assert close(finish(added, count, key), found), "microbatches do not add up to the batch"
        assert close(added_values, values), "values of microbatches do not add up to those of the batch"
    if is_deterministic:
        _check_devices(_build(spec, axis_name=AXIS), loss, params, batch, sums)
    _check_frozen(rule, loss, params, batch)


def _build(spec: str, *, axis_name: str | None) -> Gradient:
    context = {"batch_size": NUM_EXAMPLES, "num_examples": 8 * NUM_EXAMPLES, "num_steps": 10}
    return registry.gradients.build(spec, **context, axis_name=axis_name)


def _example() -> tuple[ExampleLoss, Tree, Batch]:
    """Return the loss of a small model, its parameters, and a batch without padding."""
    model = registry.models.build("mlp(hidden=(8,))", output_size=3, input_size=(4, 4, 1))
    task = registry.tasks.build("multiclass", num_classes=3)
    inputs = jax.random.normal(jax.random.key(0), (NUM_EXAMPLES, 4, 4, 1))
    params, _ = model.init(jax.random.key(1), inputs)
    batch = {"inputs": inputs, "targets": jnp.arange(NUM_EXAMPLES) % 3, "mask": jnp.ones(NUM_EXAMPLES)}

    def loss(params, state, batch, key):
        return task.loss(model, params, state, batch, train=True, key=key)

    return loss, params, batch


def _check_like(found: Tree, params: Tree, what: str) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(params), f"{what} of another structure than the parameters"
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True):
        kinds = (one.shape, one.dtype), (other.shape, other.dtype)
        assert kinds[0] == kinds[1], f"{what} of shape and type {kinds[0]}; expected {kinds[1]}"
    assert finite(found), f"{what} that are not finite"


def _check_sums(sums: Tree, values: Any, state: Tree, params: Tree, of_examples: dict[str, jax.Array]) -> None:
    _check_like(sums, params, "microbatch returned sums")
    assert state == {}, "microbatch changed the structure of the model's state"
    assert values.keys() == of_examples.keys(), f"values are {', '.join(values)}; expected {', '.join(of_examples)}"
    for name, each in of_examples.items():
        assert values[name].shape == (), f"the value {name!r} has shape {values[name].shape}; expected a number"
        assert close(values[name], each.sum()), f"the value {name!r} is not the sum over the examples"


def _check_padding(microbatch: Any, params: Tree, batch: Batch, key: jax.Array, *, is_deterministic: bool) -> None:
    """Check a batch whose last two rows are padding against one with other padding, and one without."""
    mask = batch["mask"].at[-2:].set(0)
    padded = {**batch, "mask": mask}
    other = {**padded, "inputs": batch["inputs"].at[-2:].set(3), "targets": batch["targets"].at[-2:].set(0)}
    found = microbatch(params, padded, key)
    assert close(microbatch(params, other, key), found), "rows of padding count: multiply by batch['mask']"
    if is_deterministic:
        real = jax.tree.map(lambda rows: rows[:-2], batch)
        assert close(microbatch(params, real, key), found), "sums depend on the number of rows of padding"


def _check_devices(rule: Gradient, loss: ExampleLoss, params: Tree, batch: Batch, sums: Tree) -> None:
    """Check that the sums of two devices, each with half of the batch, are the sums of the batch."""
    halves = jax.tree.map(lambda rows: rows.reshape(2, -1, *rows.shape[1:]), batch)
    keys = jax.random.split(jax.random.key(3))

    def on_device(batch, key):
        return rule.microbatch(loss, params, {}, batch, key)[0]

    found = jax.jit(jax.vmap(on_device, axis_name=AXIS))(halves, keys)
    added = jax.tree.map(lambda leaf: leaf.sum(axis=0), found)
    assert close(added, sums), "the sums of several devices are not those of the batch: see axis_name"


def _check_frozen(rule: Gradient, loss: ExampleLoss, params: Tree, batch: Batch) -> None:
    """Check that a rule leaves out all parameters but those of the last layer."""
    trained = {name: jax.tree.map(lambda _, name=name: name == "head", part) for name, part in params.items()}
    rule = step.trained_gradient(rule, trained)
    try:
        sums, _, _ = rule.microbatch(loss, params, {}, batch, jax.random.key(2))
        found = rule.finish(sums, batch["mask"].sum(), jax.random.key(3))
    except Exception as error:
        raise AssertionError(f"the rule fails with frozen parameters, which are None: {error}") from error
    learned = jax.tree.map(lambda p, is_trained: p if is_trained else None, params, trained)
    _check_like(sums, learned, "with frozen parameters, microbatch returned sums")
    _check_like(found, learned, "with frozen parameters, finish returned gradients")
