"""On-disk cache of decoded arrays: later runs with the same data memory-map them."""

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

DECODING = 1  # version of the decoding in images.py; increment to invalidate cached arrays
Arrays = dict[str, np.ndarray]


def cached(name: str, key: str, make: Callable[[Path], None]) -> Arrays:
    """Return memory-mapped arrays, written by `make(folder)` as .npy files now or by an earlier run with the same key.

    The folder is created atomically. If the cache cannot be written, warns and uses a temporary folder.
    """
    parent = cache_folder() / "arrays"
    key = f"{DECODING} {importlib.metadata.version('pillow')} {key}"
    folder = parent / f"{name}-{hashlib.blake2b(key.encode(errors='surrogatepass'), digest_size=10).hexdigest()}"
    if not folder.is_dir():
        try:
            parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
        except OSError as error:
            warnings.warn(f"cannot cache decoded images: {error}; set JAXVISION_CACHE to another folder", stacklevel=2)
            folder = temporary = Path(tempfile.mkdtemp(prefix="jaxvision-"))
        try:
            make(temporary)
            if temporary != folder:
                _move(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def _move(temporary: Path, folder: Path) -> None:
    try:
        os.rename(temporary, folder)
    except OSError:  # another process wrote the same folder first
        if not folder.is_dir():
            raise
        shutil.rmtree(temporary, ignore_errors=True)
