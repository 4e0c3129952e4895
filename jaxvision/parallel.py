"""Devices, hosts, mesh and shardings: the only file about them.

Batches are split over all devices. Along the axis "data" the state is whole on each device; along "fsdp" parameters,
optimizer state and their averages are split, each array by its largest axis that the devices divide
(S. Rajbhandari et al., ZeRO, SC 2020, section 5; Y. Zhao et al., PyTorch FSDP, VLDB 2023).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvision.interfaces import Augment, Batch, TrainState, Tree
from jaxvision.registry import nearest

AXES = ("data", "fsdp")
Value = TypeVar("Value")


# ── the mesh ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_mesh(spec: str) -> dict[str, int]:
    """Reads a mesh as it is written, `data=2,fsdp=4`: the size of each axis that is named. Raises ValueError."""
    sizes: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in spec.split(","))):
        name, _, size = (word.strip() for word in part.partition("="))
        if name not in AXES:
            raise ValueError(f"mesh {spec!r}: no axis {name!r}{nearest(name, AXES)}; wanted data=2,fsdp=4 or the like")
        if name in sizes or not size.isdigit() or int(size) < 1:
            raise ValueError(f"mesh {spec!r}: {part!r} is no size; wanted data=2,fsdp=4 or the like, each axis once")
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
        there = f"there {'is' if len(available) == 1 else 'are'} {len(available)}"
        raise ValueError(f"mesh {spec!r} wants {wanted} devices, and {there}: the axes' product must be that number")
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

    def train_step(state, batch, votes):
        return *step(state, batch), votes.max()

    if axis_name is not None:
        return _compile_by_pmap(step, state, batch, mesh, axis_name)
    jax.eval_shape(step, state, batch)
    shardings = (split_state(state, mesh), replicated(mesh), replicated(mesh))
    compiled = jax.jit(train_step, donate_argnums=0, out_shardings=shardings)
    num_own = sum(device.process_index == jax.process_index() for device in mesh.devices.flat)

    def run(state, batch, vote=0):
        votes = np.full(num_own, vote, np.int32)
        placed = put_batch({**batch, "votes": votes}, mesh)
        return compiled(state, placed, placed.pop("votes"))

    return run


def heard(received: Sequence[int], vote: Any) -> int:
    """The signal that all hosts act upon, 0 for none: what was received where there is one host, else the vote."""
    return (received[0] if received else 0) if jax.process_count() == 1 else int(vote)


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


# ── hosts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_launched_with_others() -> bool:
    """Says whether a cluster's launcher started this process as one of several: what JAX can detect in full."""
    counts = (os.environ.get(name, "") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    in_kubernetes = "KUBERNETES_SERVICE_HOST" in os.environ and "JOB_COMPLETION_INDEX" in os.environ
    on_tpu = importlib.util.find_spec("libtpu") is not None and "cpu" not in os.environ.get("JAX_PLATFORMS", "")
    return any(count.isdigit() and int(count) > 1 for count in counts) or in_kubernetes or on_tpu


def _all_gpus_of_a_lone_task() -> list[int] | None:
    """All of a node's GPUs where SLURM runs one task on each node: JAX itself would give the task the first alone."""
    tasks, nodes, gpus = (
        os.environ.get(f"SLURM_{name}", "") for name in ("STEP_NUM_TASKS", "STEP_NUM_NODES", "GPUS_ON_NODE")
    )
    return list(range(int(gpus))) if tasks and tasks == nodes and gpus.isdigit() else None


def start_hosts(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the processes of a run, before anything else uses JAX: those that a cluster's launcher started, or given.

    Does nothing where this process is alone. Raises ValueError where some but not all three are given.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 3 and not _is_launched_with_others():
        return
    if 0 < len(missing) < 3:
        raise ValueError(f"several processes need --{' and --'.join(missing)} too, or none of the three on a cluster")
    if not missing and (":" not in str(coordinator) or not 0 <= int(process_id or 0) < int(num_processes or 0)):
        raise ValueError(
            f"coordinator={coordinator!r}, num_processes={num_processes}, process_id={process_id}; wanted host:port of "
            "process 0, and a process_id from 0 to below num_processes"
        )
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id, local_device_ids=_all_gpus_of_a_lone_task())
    except ValueError as error:  # a lone process on a machine that may be part of a pod
        if missing and "coordinator_address" in str(error):
            return
        raise ValueError(f"the processes of this run cannot be joined: {error}") from None


def make_deterministic() -> None:
    """Has XLA take only operations that give the same numbers each time, before JAX uses its devices.

    That matters on GPUs, where some sums are taken in any order; on CPUs and TPUs it is so anyway.
    """
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()


def is_first() -> bool:
    """Says whether this process is the one that writes and speaks for all."""
    return jax.process_index() == 0


def gather_texts(text: str) -> list[str]:
    """Gives each process's text to all of them."""
    if jax.process_count() == 1:
        return [text]
    from jax.experimental import multihost_utils

    content = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([len(content)]))
    padded = np.pad(content, (0, int(sizes.max()) - len(content)))
    rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1) if sizes.max() else [[]] * len(sizes)
    return [bytes(row[: int(size)]).decode() for row, size in zip(rows, sizes.flat, strict=True)]


def together(function: Callable[[], Value]) -> Value:
    """Calls a function on every host. Where it raises on one, it raises on all: none waits for one that has ended."""
    if jax.process_count() == 1:
        return function()
    value, raised = None, None
    try:
        value = function()
    except Exception as error:
        raised = error
    told = gather_texts("" if raised is None else f"{raised}"[:2000] or type(raised).__name__)
    if raised is not None:
        raise raised
    wrong = next(((place, text) for place, text in enumerate(told) if text), None)
    if wrong:
        raise ValueError(f"process {wrong[0]} ended: {wrong[1]}")
    return value  # pyright: ignore[reportReturnType]


def first_alone(function: Callable[[], Value]) -> Value:
    """Calls a function on the first host, then on the others: what the first prepares on disk, the others find."""
    if jax.process_count() == 1:
        return function()
    value = together(lambda: function() if is_first() else None)
    others = together(lambda: None if is_first() else function())
    return value if is_first() else others  # pyright: ignore[reportReturnType]


def from_first(text: str) -> str:
    """Gives the first host's text to all."""
    return gather_texts(text)[0]


def check_same(text: str, *, what: str) -> None:
    """Raises ValueError on all hosts where a text, the sum of something, is not the same on all."""
    if len(set(gather_texts(text))) > 1:
        raise ValueError(f"the hosts of this run differ in their {what}; give all of them the same")
