"""The training step by `jax.pmap`: each device sees its share of the batch alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvision.distributed.mesh import put_batch
from jaxvision.interfaces import Augment


def over_whole_batch(augment: Augment, axis_name: str) -> Augment:
    """Wraps an augment of one device's share, so that it draws as where one program sees the whole batch."""

    def augment_share(key, batch):
        whole = augment(key, jax.lax.all_gather(batch, axis_name, tiled=True))
        size, place = batch["mask"].shape[0], jax.lax.axis_index(axis_name)
        return jax.tree.map(lambda rows: jax.lax.dynamic_slice_in_dim(rows, place * size, size), whole)

    return augment_share


def compile_step(step: Callable[..., Any], state: Any, batch: Any, mesh: Mesh, *, axis_name: str) -> Callable[..., Any]:
    """Compiles a training step as `compilation.compile_step` does, by `jax.pmap`. Raises on several hosts."""
    if jax.process_count() > 1 or mesh.shape["fsdp"] > 1:
        raise ValueError("parallel='pmap' is for the devices of one host on the axis data alone; use --parallel=jit")
    compiled = jax.pmap(
        step, axis_name, in_axes=(None, 0), out_axes=None, donate_argnums=0, devices=list(mesh.devices.flat)
    )

    def share(batch):
        return jax.tree.map(lambda rows: rows.reshape(mesh.size, -1, *rows.shape[1:]), batch)

    jax.eval_shape(lambda state, batch: compiled(state, share(batch)), state, batch)

    placed = NamedSharding(Mesh(mesh.devices.ravel(), (axis_name,)), PartitionSpec())  # as pmap gives it back

    def run(state, batch, vote=0):
        return *compiled(jax.device_put(state, placed), share(put_batch(batch, mesh))), vote

    return run
