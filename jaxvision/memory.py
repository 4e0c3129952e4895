"""What the C library does with memory that is free again."""

from __future__ import annotations

import ctypes
import os

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGEST = 2**31 - 1  # bytes: what an int can say


def keep_freed() -> None:
    """Has the process keep up to 2 GiB of memory that was freed, for what is allocated next.

    A step on a CPU takes its memory in one piece, and glibc asks the system anew for each piece above 32 MiB, which
    fills it with zeros page by page: 10,800 page faults in each step of `cnn` with 128 images, 250,000 of ResNet-18,
    a fifth and a twelfth of the time. Only one arena, the main one, can keep such pieces. To be called before JAX
    starts its threads, else it is in vain. Other C libraries stay as they are, and so does glibc where the environment
    tells it what to do, by `MALLOC_ARENA_MAX` and its like or by `GLIBC_TUNABLES`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    is_told = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if mallopt is not None and not is_told:
        for option, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, LARGEST), (M_TRIM_THRESHOLD, LARGEST)):
            mallopt(option, value)
