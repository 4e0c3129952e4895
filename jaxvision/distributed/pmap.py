"""The training step with `jax.pmap`: each device sees only its part of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvision.distributed.mesh import put_batch
from jaxvision.interfaces import Augment


def augment_global_batch(augment: Augment, axis_name: str) -> Augment:
    """Wrap an augmentation so that on part of a batch it samples as one program would on the whole batch."""

    def augment_part(key, batch):
        whole = augment(key, jax.lax.all_gather(batch, axis_name, tiled=True))
        size, device = batch["mask"].shape[0], jax.lax.axis_index(axis_name)
        return jax.tree.map(lambda rows: jax.lax.dynamic_slice_in_dim(rows, device * size, size), whole)

    return augment_part


def compile_step(step: Callable[..., Any], state: Any, batch: Any, mesh: Mesh, *, axis_name: str) -> Callable[..., Any]:
    """Compile a training step as `compilation.compile_step`, with `jax.pmap`.

    Raises ValueError with several hosts or a mesh axis fsdp.
    """
    if jax.process_count() > 1 or mesh.shape["fsdp"] > 1:
        raise ValueError("parallel='pmap' supports only one host and the mesh axis data; use --parallel=jit")
    compiled = jax.pmap(
        step, axis_name, in_axes=(None, 0), out_axes=None, donate_argnums=0, devices=list(mesh.devices.flat)
    )

    def split_rows(batch):
        return jax.tree.map(lambda rows: rows.reshape(mesh.size, -1, *rows.shape[1:]), batch)

    jax.eval_shape(lambda state, batch: compiled(state, split_rows(batch)), state, batch)

    placed = NamedSharding(Mesh(mesh.devices.ravel(), (axis_name,)), PartitionSpec())  # as pmap returns it

    def run(state, batch, vote=0):
        return *compiled(jax.device_put(state, placed), split_rows(put_batch(batch, mesh))), vote

    return run
