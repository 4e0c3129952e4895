"""Compile functions for a mesh of devices: initialization, training steps, the evaluation step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvision.distributed.mesh import AXES, abstract, put_batch, replicated, state_shardings
from jaxvision.interfaces import Batch, TrainState

RESIDENT_FRACTION = 0.25  # of a device's memory that training data may use


def compile_init(init: Callable[..., Any]) -> Callable[..., Any]:
    """Compile the init of a model, on CPUs at an optimization level that returns the same numbers in less time.

    Each layer's random numbers are separate code, for which the highest level takes two to three times as long.
    """
    options = {"xla_backend_optimization_level": "2"} if jax.default_backend() == "cpu" else None
    return jax.jit(init, compiler_options=options)


def compile_eval(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Compile an evaluation step that takes this host's rows and returns the results for all rows on all hosts."""
    compiled = jax.jit(step, out_shardings=replicated(mesh))
    return lambda params, model_state, batch: compiled(params, model_state, put_batch(batch, mesh))


def compile_step(
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]],
    state: TrainState,
    batch: Batch,
    mesh: Mesh,
) -> Callable[..., tuple[TrainState, dict[str, Any], Any]]:
    """Compile a training step for the mesh: (state, this host's rows, vote) -> (state, means, largest vote).

    The state is donated. The largest vote of the hosts is the same on all, so that they act together. Errors of the
    step for these shapes are raised immediately.
    """
    step = jax.jit(step, inline=True)  # so that it is traced once

    def train_step(state, batch, votes):
        return *step(state, batch), votes.max()

    by_rows = NamedSharding(mesh, PartitionSpec(AXES))
    shardings = (state_shardings(state, mesh), replicated(mesh), replicated(mesh))
    # With the types of the actual arguments, so that the step is traced only once.
    jax.eval_shape(step, abstract(state, shardings[0]), abstract(batch, dict.fromkeys(batch, by_rows)))
    compiled = jax.jit(train_step, donate_argnums=0, out_shardings=shardings)
    num_own = sum(device.process_index == jax.process_index() for device in mesh.devices.flat)

    def run(state, batch, vote=0):
        votes = np.full(num_own, vote, np.int32)
        placed = put_batch({**batch, "votes": votes}, mesh)
        return compiled(state, placed, placed.pop("votes"))

    return run


def fits_in_device_memory(num_bytes: int, mesh: Mesh) -> bool:
    """Return whether data of a size should be resident on each device.

    Devices that do not report their memory, as CPUs, hold no data. With several hosts, whose devices could decide
    differently, each host reads its own rows.
    """
    if jax.process_count() > 1:
        return False
    limits = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in mesh.local_devices]
    return num_bytes <= RESIDENT_FRACTION * min(limits)


def device_put_dataset(array: np.ndarray, mesh: Mesh) -> jax.Array:
    """Replicate an array on every device."""
    return jax.device_put(array, replicated(mesh))


def compile_steps(
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]],
    state: TrainState,
    mesh: Mesh,
    *,
    resident: jax.Array,
    most: int,
) -> Callable[[TrainState, Sequence[Batch]], tuple[TrainState, dict[str, Any]]]:
    """Compile a loop of up to `most` training steps: (state, batches) -> (state, means with a row for each step).

    `resident` has all inputs, on the devices; the inputs of a batch are positions in it. The state is donated. One
    program runs any number of steps, so the results do not depend on the number.
    """
    step = jax.jit(step, inline=True)
    by_rows = NamedSharding(mesh, PartitionSpec(None, AXES))

    def train_steps(state, batches, count, resident):
        def batch(index):
            rows = {name: values[index] for name, values in batches.items()}
            return {**rows, "inputs": resident[rows["inputs"]]}

        def one(index, so_far):
            state, rows = so_far
            state, means = step(state, batch(index))
            return state, jax.tree.map(lambda values, value: values.at[index].set(value), rows, means)

        _, means = jax.eval_shape(step, state, batch(0))
        rows = jax.tree.map(lambda value: jnp.zeros((most, *value.shape), value.dtype), means)
        return jax.lax.fori_loop(0, count, one, (state, rows))

    compiled = jax.jit(train_steps, donate_argnums=0, out_shardings=(state_shardings(state, mesh), replicated(mesh)))

    def run(state, batches):
        filled = [*batches, *[batches[-1]] * (most - len(batches))]
        stacked = {name: np.stack([batch[name] for batch in filled]) for name in batches[0]}
        return compiled(state, jax.device_put(stacked, by_rows), np.int32(len(batches)), resident)

    return run
