"""Functions compiled for a mesh of devices: a model's init, the training step, the evaluation step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvision.distributed.mesh import AXES, abstract, put_batch, replicated, split_state
from jaxvision.interfaces import Batch, TrainState


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
