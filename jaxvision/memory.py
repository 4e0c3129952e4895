"""What the C library does with memory that is free again."""

from __future__ import annotations

import ctypes
import os
import sys

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
