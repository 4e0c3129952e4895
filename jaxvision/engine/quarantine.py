"""Checkpoints that cannot be read are renamed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from jaxvision.distributed import multihost


def quarantine(folder: Path, steps: Sequence[int]) -> None:
    """Rename the checkpoints of steps, so that their steps can be saved again and nothing is lost."""
    if multihost.is_main_process():
        for step in steps:
            path = folder / str(step)
            path.rename(path.with_name(f"damaged-{step}-{time.strftime('%Y%m%d-%H%M%S')}"))
    multihost.allgather_str("")  # a barrier
