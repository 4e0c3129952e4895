"""Files of a workdir: written whole or not at all, read with their damage named, locked. Paths may be remote (gs://)."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from etils import epath

Value = TypeVar("Value")
LOCK = "lock"  # the file's name


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is on a store as gs:// or s3://, not on a file system of this machine."""
    return "://" in os.fspath(path)


def to_path(place: str | os.PathLike[str]) -> Path:
    """Return the path of a place, ~ expanded: pathlib's of a local one, etils' of a remote one, which has its methods.

    >>> to_path("gs://bucket/run") / "config.json"
    PosixGPath('gs://bucket/run/config.json')
    """
    return cast(Path, epath.Path(place)) if is_remote(place) else Path(place).expanduser()


def cache_folder() -> Path:
    """Return the folder for all that can be made again: $JAXVISION_CACHE, or jaxvision in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("JAXVISION_CACHE") or f"{base}/jaxvision").expanduser()


def temporary(path: Path) -> Path:
    """Return the file that `write_text` fills before it takes the place of another; a kill may leave it."""
    return path.with_name(f".{path.name}.tmp")


def write_text(path: Path, text: str) -> None:
    """Write a text file; a kill leaves the file as it was, or whole."""
    making = epath.Path(temporary(path))
    making.write_text(text)
    making.replace(path)


def write_json(path: Path, values: Any) -> None:
    """Write values as JSON; a kill leaves the file as it was, or whole."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def read_json(path: Path, parse: Callable[[dict[str, Any]], Value] = dict, *, repair: str = "") -> Value:
    """Read a JSON object, and return what `parse` makes of it.

    Raise ValueError where the file is damaged: no JSON, no object, or one that `parse` cannot take. `repair` says what
    mends it.
    """
    text = epath.Path(path).read_bytes()
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise TypeError(f"it holds a {type(values).__name__}, not an object")
        return parse(values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        what = f"{path} is damaged: {type(error).__name__}: {error}"
        raise ValueError(f"{what}; {repair}" if repair else what) from None


def foreign_files(path: Path, ours: Collection[str]) -> list[str]:
    """Return the names of files in a folder that are not ours; where the path is a file, its own; none for no path.

    What a kill left of writing our files is ours too.
    """
    place = epath.Path(path)
    if not place.exists():
        return []
    if not place.is_dir():
        return [place.name]
    known = {*ours, *(temporary(Path(name)).name for name in ours)}
    return sorted(file.name for file in place.iterdir() if file.name not in known)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a folder's lock. It ends with the process, however that ends, so a killed run leaves none behind.

    Raise ValueError where another process holds it. A remote folder has no lock, which a warning says.
    """
    if is_remote(path):
        warnings.warn(f"{path} cannot be locked: see that no second run trains in it", stacklevel=3)
        yield
        return
    import fcntl

    with open(path / LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(
                f"another run trains in {str(path)!r}: {file.read().strip() or 'just started'}; "
                "wait for it, stop it, or give another --workdir"
            ) from None
        except OSError as error:  # some network file systems have no locks
            warnings.warn(f"{path} cannot be locked ({error}): see that no second run trains in it", stacklevel=3)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield
