"""The user's cache where there is no home folder: no HOME, and a user without an entry, as in many containers."""

from __future__ import annotations

import functools
import os
import tempfile
import warnings
from pathlib import Path


@functools.cache
def temporary_cache() -> Path:
    """Create a private temporary folder for the caches of this process, and warn that they do not last.

    Not a folder with a fixed name: compiled programs are trusted, and others can write to the temporary folder.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"jaxvision-{os.getuid() if hasattr(os, 'getuid') else 'cache'}-"))
    warnings.warn(
        f"there is no home folder, so caches are in {str(folder)!r} for this run only: set HOME or JAXVISION_CACHE",
        stacklevel=3,
    )
    return folder
