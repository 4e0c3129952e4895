"""Process-wide settings: compilation cache, 64-bit numbers, determinism, memory reuse."""

from __future__ import annotations

import ctypes
import os
import sys

import jax

from jaxvision.storage import cache_folder

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGEST = 2**31 - 1  # bytes: the largest int


def keep_freed() -> None:
    """Keep freed memory in the process, in blocks of up to 2 GiB, for later allocations.

    A step on a CPU allocates its memory as one block, and glibc requests each block above 32 MiB from the system, which
    zeroes it page by page: 10,800 page faults in each step of `cnn` with 128 images, 250,000 of ResNet-18, a fifth and
    a twelfth of the time. Only the main arena can keep such blocks. The cost: memory below a block still in use is not
    returned, so the process may stay at its peak size.

    Must be called before JAX starts its threads; later calls have no effect. Nothing changes on other systems and C
    libraries, with a glibc that rejects so large a threshold (2.34), or if the environment configures malloc
    (`MALLOC_ARENA_MAX` and similar, `GLIBC_TUNABLES`).
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    # If the first is rejected, the others would do harm.
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) and mallopt(M_MMAP_THRESHOLD, LARGEST):
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_TRIM_THRESHOLD, LARGEST)


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX has a cache folder already."""
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


_enabled_double = False  # whether this module enabled it, for the whole process


def use_double(is_wanted: bool) -> None:
    """Enable 64-bit numbers for a run that needs them, and disable them again for the next that does not."""
    global _enabled_double
    if is_wanted != jax.config.read("jax_enable_x64") and (is_wanted or _enabled_double):
        jax.config.update("jax_enable_x64", is_wanted)
        _enabled_double = is_wanted


def make_deterministic() -> None:
    """Restrict XLA to operations with reproducible results. Must be called before JAX uses its devices.

    This matters on GPUs, where the order of some sums varies; CPUs and TPUs are deterministic anyway.
    """
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
