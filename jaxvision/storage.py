"""Files of a workdir: atomic writes, reads that report damage, and locks. Paths may be remote (gs://)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import stat
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from etils import epath

Value = TypeVar("Value")
LOCK = "lock"  # file name
MAX_JSON = 64 << 20  # bytes of a JSON file
DIGEST = "digest"  # field of a JSON file, the hash of its other fields


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is on an object store (gs://, s3://) rather than on a local file system."""
    return "://" in os.fspath(path)


def to_path(place: str | os.PathLike[str]) -> Path:
    """Return a path with ~ expanded: a pathlib path, or for a remote one an etils path, which has the same methods.

    >>> to_path("gs://bucket/run") / "config.json"
    PosixGPath('gs://bucket/run/config.json')
    """
    return cast(Path, epath.Path(place)) if is_remote(place) else Path(place).expanduser()


def cache_folder() -> Path:
    """Return the cache folder: $JAXVISION_CACHE, or jaxvision in the user's cache folder; without a home, a new one."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    place = os.path.expanduser(os.environ.get("JAXVISION_CACHE") or f"{base}/jaxvision")
    if not place.startswith("~"):
        return Path(place)
    from jaxvision.home import temporary_cache

    return temporary_cache()


def temporary(path: Path) -> Path:
    """Return the temporary file of `write_text`, which may be left behind if the process is killed."""
    return path.with_name(f".{path.name}.tmp")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    making = epath.Path(temporary(path))
    making.write_bytes(text.encode(errors="backslashreplace"))  # names of files may not be text
    making.replace(path)


def append_text(path: Path, text: str) -> None:
    """Append to a text file. Remote stores cannot append, so there the whole file is rewritten."""
    if is_remote(path):
        return write_text(path, (path.read_text() if path.exists() else "") + text)
    with path.open("a") as file:
        file.write(text)


def digest_of_values(values: Any) -> str:
    """Return a hash of plain values."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()


def write_json(path: Path, values: Any, *, has_digest: bool = False) -> None:
    """Write values as JSON, atomically; with a digest, by which `read_json` finds damage that is still valid JSON."""
    values = {**values, DIGEST: digest_of_values(values)} if has_digest else values
    write_text(path, json.dumps(values, indent=2) + "\n")


def read_file(path: Path, *, most: float = math.inf) -> bytes:
    """Read a file. Raises ValueError if it is a pipe or device, which may never end, or has more bytes than `most`."""
    if not is_remote(path):
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            from jaxvision import failures

            raise ValueError(failures.no_plain_file(path, status, most))
    return epath.Path(path).read_bytes()


def read_json(path: Path, parse: Callable[[dict[str, Any]], Value] = dict, *, repair: str = "") -> Value:
    """Read a JSON object and return the result of `parse`.

    Raises ValueError if the file is no regular file of at most MAX_JSON bytes, or damaged: not JSON, not an object, not
    that of its digest, or one that `parse` does not accept. `repair` is appended to the message.
    """
    text = read_file(path, most=MAX_JSON)
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise TypeError(f"it is a {type(values).__name__}, not an object")
        if DIGEST in values and values.pop(DIGEST) != digest_of_values(values):
            raise ValueError(f"its content differs from its {DIGEST}; if you edited it, remove that line")
        return parse(values)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}" + f"; {repair}" * bool(repair)) from None


def refuse_links_out(folder: Path, *, skip: Collection[str] = ()) -> None:
    """Raise ValueError if a folder holds a link to a place outside, where a write would change other files.

    `skip` names entries of the folder in which nothing is written.
    """
    root = os.path.realpath(folder)
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if place != root or name not in skip]
        for path in (os.path.join(place, name) for name in (*folders, *files) if place != root or name not in skip):
            if os.path.islink(path) and os.path.commonpath([root, os.path.realpath(path)]) != root:
                raise ValueError(f"{path!r} is a link out of the folder, which is not followed for writing: remove it")


def foreign_files(path: Path, ours: Collection[str]) -> list[str]:
    """Return the names of the files in a folder that are not `ours`, nor left by an interrupted write of ours.

    If the path is a file, return its name; if it does not exist, return nothing.
    """
    target = epath.Path(path)
    if not target.is_dir():
        return [target.name] if target.exists() else []
    known = {*ours, *(temporary(Path(name)).name for name in ours)}
    return sorted(file.name for file in target.iterdir() if file.name not in known)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a folder. The system releases it when the process ends, so a killed run leaves no stale lock.

    Raises ValueError if another process holds it. Remote folders cannot be locked; a warning is issued.
    """
    if is_remote(path):
        warnings.warn(f"{path} cannot be locked: make sure that no second run trains in it", stacklevel=3)
        yield
        return
    import fcntl

    with open(path / LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            from jaxvision import hints

            raise ValueError(hints.locked_folder(path, file)) from None
        except OSError as error:  # some network file systems have no locks
            warnings.warn(f"{path} cannot be locked ({error}): make sure that no second run trains in it", stacklevel=3)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield
