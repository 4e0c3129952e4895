"""Training data that stay on the devices, and several steps in one program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvision.distributed.mesh import AXES, replicated, split_state
from jaxvision.interfaces import Batch, TrainState

HELD_SHARE = 0.25  # of a device's memory that data may take


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
