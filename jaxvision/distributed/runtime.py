"""Switches of the whole process: compilation cache, 64 bits, determinism, freed memory."""

from __future__ import annotations

import ctypes
import os
import sys

import jax

from jaxvision.storage import cache_folder

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGEST = 2**31 - 1  # bytes: what an int can say


def keep_freed() -> None:
    """Has the process keep memory that was freed, in pieces of up to 2 GiB, for what is allocated next.

    A step on a CPU takes its memory in one piece, and glibc asks the system anew for each piece above 32 MiB, which
    fills it with zeros page by page: 10,800 page faults in each step of `cnn` with 128 images, 250,000 of ResNet-18,
    a fifth and a twelfth of the time. Only one arena, the main one, can keep such pieces. The price: what lies below
    something that is still in use is not given back, so that the process may stay as large as it once was.

    To be called before JAX starts its threads, else it is in vain. Other systems and C libraries stay as they are, as
    does a glibc that refuses so large a threshold, as 2.34 does, or that the environment tells what to do, by
    `MALLOC_ARENA_MAX` and its like or by `GLIBC_TUNABLES`.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and mallopt(M_MMAP_THRESHOLD, LARGEST):  # where it is refused, the others would do harm
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_TRIM_THRESHOLD, LARGEST)


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told where already."""
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


_enabled_double = False  # whether it was us who changed JAX's switch, which holds for the whole process


def use_double(is_wanted: bool) -> None:
    """Switches numbers of 64 bits on for a run that wants them, and off again for the next that does not."""
    global _enabled_double
    is_on = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    if is_wanted != is_on and (is_wanted or _enabled_double):
        jax.config.update("jax_enable_x64", is_wanted)
        _enabled_double = is_wanted


def make_deterministic() -> None:
    """Has XLA take only operations that give the same numbers each time, before JAX uses its devices.

    That matters on GPUs, where some sums are taken in any order; on CPUs and TPUs it is so anyway.
    """
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
