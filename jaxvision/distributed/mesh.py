"""The mesh of devices, and which part of each array a device holds.

Batches are split over all devices. Along the axis "data" the state is replicated; along "fsdp" parameters, optimizer
state and EMA are sharded between steps, each array along its largest axis that the number of devices divides. A step
holds full parameters and gradients (stage 2 of S. Rajbhandari et al., ZeRO, SC 2020, section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvision import failures
from jaxvision.distributed import forks
from jaxvision.interfaces import Batch, Gradient, TrainState, Tree

AXES = ("data", "fsdp")


def make_mesh(spec: str = "", devices: Sequence[Any] | None = None) -> Mesh:
    """Build the mesh of `spec` from all devices, or from those given. "fsdp" defaults to 1, "data" to
    all devices that remain.

    Raises ValueError if it has more devices than there are, or with several hosts, fewer.
    """
    if forks.is_forked:
        forks.refuse()
    available = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    sizes: dict[str, int] = {}
    if spec:
        from jaxvision.distributed.mesh_spec import read_mesh

        sizes = read_mesh(spec, AXES)
    fsdp = sizes.get("fsdp", 1)
    data = sizes.get("data", max(len(available) // fsdp, 1))
    num_devices = data * fsdp
    if "data" not in sizes and num_devices < len(available):
        raise ValueError(f"mesh {spec!r} leaves devices of {len(available)} idle: use a divisor, or data={data},{spec}")
    if num_devices > len(available) or (num_devices < len(available) and jax.process_count() > 1):
        raise ValueError(failures.other_num_devices(spec, num_devices, len(available)))
    return Mesh(np.array(available[:num_devices]).reshape(data, fsdp), AXES)


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raise ValueError if a batch cannot be split evenly over the mesh."""
    if batch_size % mesh.size:
        raise ValueError(failures.indivisible(batch_size, mesh.size))


def round_up(batch_size: int, mesh: Mesh) -> int:
    """Return the smallest batch size from this one on that splits evenly over the mesh."""
    return -(-batch_size // mesh.size) * mesh.size


def bucket(num_examples: int, most: int, mesh: Mesh) -> int:
    """Return the batch size for a number of examples: the next power of two, or `most` if that is smaller,
    rounded up to split evenly.

    This bounds the number of sizes that are compiled.

    >>> mesh = make_mesh("data=1")
    >>> [bucket(n, 100, mesh) for n in (1, 3, 65, 1000)]
    [1, 4, 100, 100]
    """
    return round_up(min(most, 1 << (max(num_examples, 1) - 1).bit_length()), mesh)


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of an array that every device holds entirely."""
    return NamedSharding(mesh, PartitionSpec())


def shardings(tree: Tree, mesh: Mesh) -> Tree:
    """Return the sharding of each parameter in a tree: along its largest axis that "fsdp" divides, or replicated."""
    count = mesh.shape["fsdp"]

    def sharding(leaf: Any) -> NamedSharding:
        divisible = [axis for axis, size in enumerate(leaf.shape) if count > 1 and size and size % count == 0]
        if not divisible:
            return replicated(mesh)
        largest = max(divisible, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, "fsdp"))

    return jax.tree.map(sharding, tree)


def state_shardings(state: TrainState, mesh: Mesh) -> TrainState:
    """Return the sharding of each array in a training state."""
    whole = jax.tree.map(lambda _: replicated(mesh), state)
    return whole._replace(**{name: shardings(getattr(state, name), mesh) for name in ("params", "opt_state", "ema")})


def abstract(tree: Tree, shardings: Tree) -> Tree:
    """Return shapes, types and shardings, into which a checkpoint is restored."""
    return jax.tree.map(lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree, shardings)


def local_slice(batch_size: int, mesh: Mesh) -> slice:
    """Return the rows of a batch that this host reads: those of its own devices, which are adjacent in the mesh."""
    ours = [index for index, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index()]
    rows_per_device = batch_size // mesh.size
    return slice(ours[0] * rows_per_device, (ours[-1] + 1) * rows_per_device)


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Put this host's rows of a batch on its devices, in equal parts; the rows of all hosts form the batch."""
    if forks.is_forked:
        forks.refuse()
    sharding = NamedSharding(mesh, PartitionSpec(AXES))
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return {name: jax.make_array_from_process_local_data(sharding, np.asarray(rows)) for name, rows in batch.items()}


def all_gather_params(gradient: Gradient, mesh: Mesh) -> Gradient:
    """Wrap a gradient rule so that parameters are gathered before it, and its gradients are sharded again."""
    whole = replicated(mesh)

    def microbatch(loss, params, model_state, batch, key):
        params = jax.lax.with_sharding_constraint(params, whole)
        sums, *rest = gradient.microbatch(loss, params, model_state, batch, key)
        sums = jax.lax.with_sharding_constraint(sums, whole)  # otherwise XLA shards the backward pass too
        return jax.lax.with_sharding_constraint(sums, shardings(sums, mesh)), *rest

    return gradient if mesh.shape["fsdp"] == 1 else gradient._replace(microbatch=microbatch)
