"""Start the processes of a run, one or more per host, with the launcher of a cluster or with explicit addresses."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator

import jax

SILENT_SECONDS = 10  # of waiting for other processes before a message
SHUTDOWN_SECONDS = 120  # that a finished process waits for the others; the first may still write its report


def _is_launched_with_others() -> bool:
    """Return whether a cluster launcher started this process as one of several."""
    counts = (os.environ.get(name, "") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    in_kubernetes = "KUBERNETES_SERVICE_HOST" in os.environ and "JOB_COMPLETION_INDEX" in os.environ
    return any(count.isdigit() and int(count) > 1 for count in counts) or in_kubernetes


def _is_on_tpu() -> bool:
    """Return whether this machine may be part of a TPU pod; JAX finds out which."""
    return importlib.util.find_spec("libtpu") is not None and "cpu" not in os.environ.get("JAX_PLATFORMS", "")


def _all_gpus_of_a_lone_task() -> list[int] | None:
    """Return all GPUs of a node if SLURM runs one task per node: by default, JAX would use only the first for it."""
    tasks, nodes, gpus = (
        os.environ.get(f"SLURM_{name}", "") for name in ("STEP_NUM_TASKS", "STEP_NUM_NODES", "GPUS_ON_NODE")
    )
    return list(range(int(gpus))) if tasks and tasks == nodes and gpus.isdigit() else None


def start(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Connect the processes of a run: those that a cluster launcher started, or those of the arguments.

    Must be called before anything else uses JAX. Does nothing if this is the only process, as num_processes=1 states.
    Raises ValueError if some but not all three arguments are given, or if a launcher started several processes that JAX
    cannot connect by itself.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if num_processes == 1 or (len(missing) == 3 and not _is_launched_with_others() and not _is_on_tpu()):
        return
    if 0 < len(missing) < 3:
        raise ValueError(f"several processes also need --{' and --'.join(missing)}, or on a cluster none of the three")
    if not missing and (":" not in str(coordinator) or not 0 <= int(process_id or 0) < int(num_processes or 0)):
        raise ValueError(
            f"coordinator={coordinator!r}, num_processes={num_processes}, process_id={process_id}; expected host:port "
            "of process 0, and a process_id from 0 to num_processes - 1"
        )
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        with _waiting(coordinator, num_processes):
            jax.distributed.initialize(
                coordinator,
                num_processes,
                process_id,
                local_device_ids=_all_gpus_of_a_lone_task(),
                shutdown_timeout_seconds=SHUTDOWN_SECONDS,
            )
    except (ValueError, RuntimeError) as error:
        if missing and not _is_launched_with_others() and "coordinator_address" in str(error):
            return  # a machine with TPUs that is not part of a pod
        raise ValueError(
            f"this process is one of several that JAX cannot connect by itself ({' '.join(str(error).split())[:200]}): "
            "use --coordinator, --num_processes and --process_id, or --num_processes=1 if it is the only one"
        ) from None


@contextlib.contextmanager
def _waiting(coordinator: str | None, num_processes: int | None) -> Iterator[None]:
    """Print what a process is waiting for, after some seconds."""
    whom = f"all {num_processes} processes" if num_processes else "the other processes"
    where = f" at {coordinator}" if coordinator else ""
    line = f"jaxvision: waiting for {whom} to join{where}, for up to 5 minutes"
    timer = threading.Timer(SILENT_SECONDS, lambda: print(line, file=sys.stderr, flush=True))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
