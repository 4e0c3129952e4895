"""Devices, mesh and shardings: the only file about them.

Batches are split over all devices. Along the axis "data" the state is whole on each device; along "fsdp" parameters,
optimizer state and their averages are split, each array by its largest axis that the devices divide
(S. Rajbhandari et al., ZeRO, SC 2020, section 5; Y. Zhao et al., PyTorch FSDP, VLDB 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvision.interfaces import Augment, Batch, TrainState, Tree
from jaxvision.registry import nearest

AXES = ("data", "fsdp")


# ── the mesh ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── shardings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── batches ───────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── the step ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def gathering(gradient: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Wraps a gradient function, so that parameters are gathered whole for it and its gradients are split again."""

    def gathered(loss, params):
        gradients, rest = gradient(loss, jax.lax.with_sharding_constraint(params, replicated(mesh)))
        gradients = jax.lax.with_sharding_constraint(
            gradients, replicated(mesh)
        )  # else XLA splits the backward pass too
        return jax.lax.with_sharding_constraint(gradients, split(gradients, mesh)), rest

    return gradient if mesh.shape["fsdp"] == 1 else gathered


def over_whole_batch(augment: Augment, axis_name: str) -> Augment:
    """Wraps an augment of one device's share, so that it draws as where one program sees the whole batch."""

    def augment_share(key, batch):
        whole = augment(key, jax.lax.all_gather(batch, axis_name, tiled=True))
        size, place = batch["mask"].shape[0], jax.lax.axis_index(axis_name)
        return jax.tree.map(lambda rows: jax.lax.dynamic_slice_in_dim(rows, place * size, size), whole)

    return augment_share


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
    *,
    axis_name: str | None = None,
) -> Callable[..., tuple[TrainState, dict[str, Any], Any]]:
    """Compiles a training step for the mesh: (state, this host's rows, vote) -> (state, means, largest vote).

    The state given is used up. The largest of the hosts' votes is the same on all, so that they act on it together.
    With axis_name, `jax.pmap` compiles it, else `jax.jit`. Raises at once what the step raises on those shapes.
    """

    step = jax.jit(step, inline=True)  # so that it is traced once

    def train_step(state, batch, votes):
        return *step(state, batch), votes.max()

    if axis_name is not None:
        return _compile_by_pmap(step, state, batch, mesh, axis_name)
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


def _compile_by_pmap(
    step: Callable[..., Any], state: Any, batch: Any, mesh: Mesh, axis_name: str
) -> Callable[..., Any]:
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
