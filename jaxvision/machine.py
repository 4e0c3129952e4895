"""Properties of the machine."""

from __future__ import annotations

import os


def num_cores() -> int:
    """Return the number of CPU cores that this process may use, which is also the number of decoding threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
