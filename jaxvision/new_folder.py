"""Folders that are written completely or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside the target, which becomes the target at the end; it is removed after an error.

    A temporary folder that a killed process left is replaced. Raises ValueError if the target is not empty, and OSError
    with its path if the disk is full.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        what = "is not empty" if target.is_dir() else "is a file"
        raise ValueError(f"{str(target)!r} {what}, and nothing is overwritten; give a new folder")
    temporary = target.absolute().with_name(f".{target.absolute().name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.rename(temporary, target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror}; nothing was written", str(target)) from None
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
