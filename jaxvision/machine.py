"""Properties of the machine."""

from __future__ import annotations

import os
from pathlib import Path

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def num_cores() -> int:
    """Return the number of CPU cores that this process may use, which is also the number of decoding threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or less where a container or `ulimit -v` sets less.

    A machine that does not report its memory counts as one of 1 TiB.
    """
    names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
    known = "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 2**40]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(file).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    try:
        import resource

        limits += [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
    except ImportError:  # on Windows
        pass
    return min(limit for limit in limits if limit > 0)


def require_memory(num_bytes: int, what: str, *, memory: int | None = None) -> None:
    """Raise ValueError if something needs more memory than there is: this machine's, or that of the devices given.

    `num_bytes` is the least that it needs, so that nothing is refused that could work.
    """
    memory = memory_bytes() if memory is None else memory
    if num_bytes > memory:
        raise ValueError(
            f"{what} needs at least {in_units(num_bytes)} of memory, and there are {in_units(memory)}; make it smaller"
        )


def in_units(num_bytes: int) -> str:
    """Return a number of bytes as text.

    >>> in_units(1_500), in_units(3 * 2**30), in_units(10**30)
    ('1.5 KiB', '3.0 GiB', '827,180.6 YiB')
    """
    power = min(max((num_bytes.bit_length() - 1) // 10, 0), len(UNITS) - 1)
    return f"{num_bytes / 1024**power:,.1f} {UNITS[power]}" if power else f"{num_bytes} B"
