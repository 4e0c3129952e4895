"""The names of new workdirs, which differ also between runs that start in the same second."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from jaxvision import specs
from jaxvision.config import Config


def new_workdir(config: Config, *, prefix: str = "") -> Path:
    """Return the path of a new folder: workdirs/, a prefix, the names of dataset and model, the time, random digits.

    The folder is created when the run starts, so that a run that is refused leaves nothing.
    """
    names = "-".join(specs.parse(spec).name for spec in (config.dataset, config.model))
    return Path("workdirs") / f"{prefix}{names}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
