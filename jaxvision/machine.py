"""What this machine offers: cores, and a folder for what can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def num_cores() -> int:
    """Return the number of cores that this process may run on: the threads that decode at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_folder() -> Path:
    """Return the folder for all that can be made again: $JAXVISION_CACHE, or jaxvision in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("JAXVISION_CACHE") or f"{base}/jaxvision").expanduser()
