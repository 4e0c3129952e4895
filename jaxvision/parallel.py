"""Devices, mesh and shardings: the only file about them. Batches are split over all devices, the state is on each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvision.interfaces import Batch


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Makes the mesh of all devices, or of those given, along the axis "data"."""
    return Mesh(np.array(list(devices or jax.devices())), ("data",))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises ValueError where a batch cannot be split evenly over the mesh."""
    if batch_size % mesh.size:
        below, above = batch_size // mesh.size * mesh.size, -(-batch_size // mesh.size) * mesh.size
        nearest = f"{below} or {above}" if below else str(above)
        raise ValueError(f"batch_size={batch_size} cannot be split over {mesh.size} devices; the nearest are {nearest}")


def round_up(batch_size: int, mesh: Mesh) -> int:
    """Gives the least batch size from this one on that the mesh can split evenly."""
    return -(-batch_size // mesh.size) * mesh.size


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Puts a batch on the devices, a share on each."""
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def abstract(tree: Any, mesh: Mesh) -> Any:
    """Gives shapes, types and shardings of a replicated tree: what a checkpoint is restored into."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)), tree)
