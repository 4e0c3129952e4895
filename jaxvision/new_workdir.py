"""New workdirs, one for each run, also for those that start in the same second."""

from __future__ import annotations

import atexit
import contextlib
import time
from pathlib import Path

from jaxvision import specs
from jaxvision.config import Config
from jaxvision.distributed import multihost


def new_workdir(config: Config, *, prefix: str = "") -> Path:
    """Create a folder and return its path: workdirs/, a prefix, the names of dataset and model, and the time.

    Creating it reserves the name: another process gets the next number. Of several hosts, only the main process creates
    it. A folder that is still empty when the process ends is removed.
    """
    names = "-".join(specs.parse(spec).name for spec in (config.dataset, config.model))
    base = Path("workdirs") / f"{prefix}{names}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not multihost.is_main_process():
        return base
    base.parent.mkdir(exist_ok=True)
    number, path = 0, base
    while True:
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            path = base.with_name(f"{base.name}-{number}")
            continue
        atexit.register(_remove_if_empty, path.absolute())
        return path


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()
        path.parent.rmdir()
