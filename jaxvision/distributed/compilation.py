"""Functions compiled for a mesh of devices: a model's init, training steps, the evaluation step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvision.distributed.mesh import AXES, abstract, put_batch, replicated, split_state
from jaxvision.interfaces import Batch, TrainState

HELD_SHARE = 0.25  # of a device's memory that training data may take


def compile_init(init: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a model's init, on CPUs at a level that gives the same numbers.

    Each layer's random numbers are code of their own, which the highest level takes two to three times as long over.
    """
    options = {"xla_backend_optimization_level": "2"} if jax.default_backend() == "cpu" else None
    return jax.jit(init, compiler_options=options)


def compile_eval(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Compiles an evaluation step, which takes this host's rows and gives all hosts what it gives of all rows."""
    compiled = jax.jit(step, out_shardings=replicated(mesh))
    return lambda params, model_state, batch: compiled(params, model_state, put_batch(batch, mesh))


def compile_step(
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]],
    state: TrainState,
    batch: Batch,
    mesh: Mesh,
) -> Callable[..., tuple[TrainState, dict[str, Any], Any]]:
    """Compiles a training step for the mesh: (state, this host's rows, vote) -> (state, means, largest vote).

    The state given is used up. The largest of the hosts' votes is the same on all, so that they act on it together.
    Raises at once what the step raises on those shapes.
    """
    step = jax.jit(step, inline=True)  # so that it is traced once

    def train_step(state, batch, votes):
        return *step(state, batch), votes.max()

    by_rows = NamedSharding(mesh, PartitionSpec(AXES))
    shardings = (split_state(state, mesh), replicated(mesh), replicated(mesh))
    # Typed as what it will be called with, so that this is the one time that it is traced.
    jax.eval_shape(step, abstract(state, shardings[0]), abstract(batch, dict.fromkeys(batch, by_rows)))
    compiled = jax.jit(train_step, donate_argnums=0, out_shardings=shardings)
    num_own = sum(device.process_index == jax.process_index() for device in mesh.devices.flat)

    def run(state, batch, vote=0):
        votes = np.full(num_own, vote, np.int32)
        placed = put_batch({**batch, "votes": votes}, mesh)
        return compiled(state, placed, placed.pop("votes"))

    return run


def fits(num_bytes: int, mesh: Mesh) -> bool:
    """Says whether data of a size are to stay on each of the devices.

    A device that does not tell its memory, as a CPU, which has them in its reach anyway, holds none. Of several hosts,
    whose devices might say different things, each reads its own rows.
    """
    if jax.process_count() > 1:
        return False
    limits = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in mesh.local_devices]
    return num_bytes <= HELD_SHARE * min(limits)


def hold(array: np.ndarray, mesh: Mesh) -> jax.Array:
    """Puts an array on every device, whole."""
    return jax.device_put(array, replicated(mesh))


def compile_steps(
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]],
    state: TrainState,
    mesh: Mesh,
    *,
    held: jax.Array,
    most: int,
) -> Callable[[TrainState, Sequence[Batch]], tuple[TrainState, dict[str, Any]]]:
    """Compiles up to `most` training steps at once: (state, batches) -> (state, means, a row for each step).

    `held` has all inputs, on the devices: what comes as a batch's inputs are positions in it. The state given is used
    up. One program takes any number of steps, so that no number makes a difference to what they compute.
    """
    step = jax.jit(step, inline=True)
    by_rows = NamedSharding(mesh, PartitionSpec(None, AXES))

    def train_steps(state, batches, count, held):
        def batch(index):
            rows = {name: values[index] for name, values in batches.items()}
            return {**rows, "inputs": held[rows["inputs"]]}

        def one(index, so_far):
            state, rows = so_far
            state, means = step(state, batch(index))
            return state, jax.tree.map(lambda values, value: values.at[index].set(value), rows, means)

        _, means = jax.eval_shape(step, state, batch(0))
        rows = jax.tree.map(lambda value: jnp.zeros((most, *value.shape), value.dtype), means)
        return jax.lax.fori_loop(0, count, one, (state, rows))

    compiled = jax.jit(train_steps, donate_argnums=0, out_shardings=(split_state(state, mesh), replicated(mesh)))

    def run(state, batches):
        filled = [*batches, *[batches[-1]] * (most - len(batches))]
        stacked = {name: np.stack([batch[name] for batch in filled]) for name in batches[0]}
        return compiled(state, jax.device_put(stacked, by_rows), np.int32(len(batches)), held)

    return run
