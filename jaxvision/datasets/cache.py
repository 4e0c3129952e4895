"""Decoded arrays kept on disk, so that a second start with the same data maps them into memory and begins."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxvision.storage import cache_folder

DECODING = 1  # counts the changes of images.py after which what was decoded before is no longer right
Arrays = dict[str, np.ndarray]


def cached(name: str, key: str, make: Callable[[Path], None]) -> Arrays:
    """Map the arrays that `make(folder)` wrote as .npy files, now or, under the same key, at an earlier start.

    The folder appears whole or not at all. A cache that cannot be written warns, and a temporary folder serves.
    """
    parent = cache_folder() / "arrays"
    key = f"{DECODING} {importlib.metadata.version('pillow')} {key}"
    folder = parent / f"{name}-{hashlib.blake2b(key.encode(), digest_size=10).hexdigest()}"
    if not folder.is_dir():
        try:
            parent.mkdir(parents=True, exist_ok=True)
            making = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
        except OSError as error:
            warnings.warn(f"no cache of decoded images: {error}; JAXVISION_CACHE names another folder", stacklevel=2)
            folder = making = Path(tempfile.mkdtemp(prefix="jaxvision-"))
        try:
            make(making)
            if making != folder:
                _move(making, folder)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def _move(making: Path, folder: Path) -> None:
    try:
        os.rename(making, folder)
    except OSError:  # another process made the same in the meantime
        if not folder.is_dir():
            raise
        shutil.rmtree(making, ignore_errors=True)
