"""The mesh of devices, and which part of each array a device holds.

Batches are split over all devices. Along the axis "data" the state is whole on each device; along "fsdp" parameters,
optimizer state and their averages are split, each array by its largest axis that the devices divide
(S. Rajbhandari et al., ZeRO, SC 2020, section 5; Y. Zhao et al., PyTorch FSDP, VLDB 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvision.interfaces import Batch, Gradient, TrainState, Tree
from jaxvision.specs import nearest

AXES = ("data", "fsdp")


def read_mesh(spec: str) -> dict[str, int]:
    """Reads a mesh as it is written, `data=2,fsdp=4`: the size of each axis that is named. Raises ValueError."""
    sizes: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in spec.split(","))):
        name, _, size = (word.strip() for word in part.partition("="))
        if name not in AXES:
            raise ValueError(f"mesh {spec!r}: no axis {name!r}{nearest(name, AXES)}; wanted data=2,fsdp=4 or the like")
        if name in sizes:
            raise ValueError(f"mesh {spec!r} gives the axis {name!r} twice; wanted data=2,fsdp=4 or the like")
        if not size.isdigit() or int(size) < 1:
            raise ValueError(f"mesh {spec!r}: {part!r} is no size of 1 or more; wanted data=2,fsdp=4 or the like")
        sizes[name] = int(size)
    return sizes


def make_mesh(spec: str = "", devices: Sequence[Any] | None = None) -> Mesh:
    """Makes the mesh that `spec` says of all devices, or of those given; what it does not name is on "data".

    Raises ValueError for more devices than there are, and for fewer where there are several hosts.
    """
    available = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    sizes = read_mesh(spec)
    fsdp = sizes.get("fsdp", 1)
    data = sizes.get("data", max(len(available) // fsdp, 1))
    wanted = data * fsdp
    if wanted > len(available) or (wanted < len(available) and jax.process_count() > 1):
        exactly = "exactly" if jax.process_count() > 1 else "at most"
        there = f"there {'is' if len(available) == 1 else 'are'} {len(available)}"
        raise ValueError(f"mesh {spec!r} wants {wanted} devices, and {there}: the axes' product must be {exactly} that")
    return Mesh(np.array(available[:wanted]).reshape(data, fsdp), AXES)


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises ValueError where a batch cannot be split evenly over the mesh."""
    if batch_size % mesh.size:
        below, above = batch_size // mesh.size * mesh.size, round_up(batch_size, mesh)
        around = f"{below} or {above}" if below else str(above)
        raise ValueError(f"batch_size={batch_size} cannot be split over {mesh.size} devices; the nearest are {around}")


def round_up(batch_size: int, mesh: Mesh) -> int:
    """Gives the least batch size from this one on that the mesh can split evenly."""
    return -(-batch_size // mesh.size) * mesh.size


def bucket(num_examples: int, most: int, mesh: Mesh) -> int:
    """Gives the batch size for a number of examples: the next power of two, but `most` at most, split evenly.

    So few sizes are ever compiled, whatever the numbers are.

    >>> mesh = make_mesh("data=1")
    >>> [bucket(n, 100, mesh) for n in (1, 3, 65, 1000)]
    [1, 4, 100, 100]
    """
    return round_up(min(most, 1 << (max(num_examples, 1) - 1).bit_length()), mesh)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def split(tree: Tree, mesh: Mesh) -> Tree:
    """The sharding of each array of a tree of parameters: by its largest axis that "fsdp" divides, or whole."""
    count = mesh.shape["fsdp"]

    def sharding(leaf: Any) -> NamedSharding:
        divisible = [axis for axis, size in enumerate(leaf.shape) if count > 1 and size and size % count == 0]
        if not divisible:
            return replicated(mesh)
        largest = max(divisible, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, "fsdp"))

    return jax.tree.map(sharding, tree)


def split_state(state: TrainState, mesh: Mesh) -> TrainState:
    """The sharding of each array of a training state."""
    whole = jax.tree.map(lambda _: replicated(mesh), state)
    return whole._replace(**{name: split(getattr(state, name), mesh) for name in ("params", "opt_state", "ema")})


def abstract(tree: Tree, shardings: Tree) -> Tree:
    """Gives shapes, types and shardings alone: what a checkpoint is restored into."""
    return jax.tree.map(lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree, shardings)


def host_rows(batch_size: int, mesh: Mesh) -> slice:
    """The rows of a batch that this host reads: those of its own devices, which lie side by side in the mesh."""
    ours = [place for place, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index()]
    share = batch_size // mesh.size
    return slice(ours[0] * share, (ours[-1] + 1) * share)


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Puts this host's rows of a batch on its devices, a share on each: together, the hosts' rows are the batch."""
    sharding = NamedSharding(mesh, PartitionSpec(AXES))
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return {name: jax.make_array_from_process_local_data(sharding, np.asarray(rows)) for name, rows in batch.items()}


def gathering(gradient: Gradient, mesh: Mesh) -> Gradient:
    """Wraps a gradient rule, so that parameters are gathered whole for it and its gradients are split again."""
    whole = replicated(mesh)

    def microbatch(loss, params, model_state, batch, key):
        params = jax.lax.with_sharding_constraint(params, whole)
        sums, *rest = gradient.microbatch(loss, params, model_state, batch, key)
        sums = jax.lax.with_sharding_constraint(sums, whole)  # else XLA splits the backward pass too
        return jax.lax.with_sharding_constraint(sums, split(sums, mesh)), *rest

    return gradient if mesh.shape["fsdp"] == 1 else gradient._replace(microbatch=microbatch)
