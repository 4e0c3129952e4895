"""On-disk cache of decoded arrays, and of images from tables: later runs with the same data verify and use them."""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import importlib.metadata
import os
import shutil
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import storage
from jaxvision.storage import cache_folder

DECODING = 1  # version of the decoding in image_decoding.py; increment to invalidate cached arrays
FORMAT = 2  # version of the files of an entry
CHECKSUMS = "checksums.json"  # sizes and checksums of the files of an entry
FULL = (errno.ENOSPC, errno.EDQUOT)
BLOCK = 2**22  # bytes that are read at a time
UNLOCKED_SECONDS = 86_400  # age at which a temporary folder without a lock file is taken for a leftover
IMAGES = "decoded images"
REPAIR = "set JAXVISION_CACHE to another folder"
Arrays = dict[str, np.ndarray]


def stamps(files: Iterable[Path]) -> str:
    """Return a key that changes if one of the files is replaced or changed.

    Beside size and modification time, which copying tools restore, it has the inode and the time of its last change.
    """
    stats = [(file, file.stat()) for file in files]
    return "\n".join(f"{file} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}" for file, s in stats)


def cached(name: str, key: str, make: Callable[[Path], None], *, what: str = IMAGES) -> Arrays:
    """Return memory-mapped arrays, written by `make(folder)` as .npy files now or by an earlier run with the same key.

    The folder is created atomically. An entry that differs from its checksums is made again, with a warning. If the
    cache cannot be written, warns and uses a temporary folder, which goes when the process ends. Messages name `what`
    is cached.
    """
    folder = _entry("arrays", name, f"{DECODING} {importlib.metadata.version('pillow')} {key}", make, what)
    return _mapped(folder) if folder else _make_for_this_process(make, _mapped, what=what)


def cached_files(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of files that `make(folder)` writes, as `cached` does for arrays."""
    folder = _entry("images", name, key, make)
    return folder or _make_for_this_process(make, lambda folder: folder, until_end=True)


def _entry(kind: str, name: str, key: str, make: Callable[[Path], None], what: str = IMAGES) -> Path | None:
    """Return the verified folder of an entry, made if need be; None, with a warning, if the disk does not allow it."""
    parent = cache_folder() / kind
    digest = hashlib.blake2b(f"{FORMAT} {key}".encode(errors="surrogateescape"), digest_size=10).hexdigest()
    folder = parent / f"{name}-{digest}"
    if folder.is_dir():
        try:
            _verify(folder)
            return folder
        except (OSError, ValueError) as error:
            warnings.warn(f"the cached {kind} in {folder} are damaged ({error}) and are made again", stacklevel=3)
            shutil.rmtree(folder, ignore_errors=True)
    try:
        _make_in_cache(parent, folder, name, make)
        return folder
    except _Unwritable as error:
        warnings.warn(f"cannot cache {what}: {error}; {REPAIR}", stacklevel=3)
        return None


class _Unwritable(Exception):
    """The cache cannot be written; the message states why."""


def _make_in_cache(parent: Path, folder: Path, name: str, make: Callable[[Path], None]) -> None:
    """Make an entry and verify it. Raises _Unwritable if the disk does not allow it."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(parent)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
    except OSError as error:
        raise _Unwritable(str(error)) from None
    try:
        with _in_use(temporary):
            make(temporary)
            _save_checksums(temporary)
        _move(temporary, folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if _is_full(error):
            raise _Unwritable(str(error)) from None
        raise
    try:
        _verify(folder)
    except (OSError, ValueError) as error:  # a damaged entry that this user cannot remove
        raise _Unwritable(str(error)) from None


def _is_full(error: BaseException) -> bool:
    """Return whether a write failed because the disk is full; NumPy's error has a text but no number."""
    return isinstance(error, OSError) and (error.errno in FULL or " requested and " in str(error))


def _make_for_this_process(
    make: Callable[[Path], None], read: Callable[[Path], Any], *, what: str = IMAGES, until_end: bool = False
) -> Any:
    """Make files in a temporary folder and return what `read` makes of it.

    The folder is removed at the end of the process, or else at once: memory maps keep their files until the end.
    """
    temporary = Path(tempfile.mkdtemp(prefix="jaxvision-"))
    if until_end:
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    try:
        make(temporary)
        return read(temporary)
    except OSError as error:
        if not _is_full(error):
            raise
        text = f"{os.strerror(errno.ENOSPC)} for {what}; {REPAIR}"
        raise OSError(errno.ENOSPC, text, str(temporary)) from None
    finally:
        if not until_end:
            shutil.rmtree(temporary, ignore_errors=True)


def _mapped(folder: Path) -> Arrays:
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def _checksums(folder: Path) -> dict[str, Any]:
    """Return the size and checksum of each file, read by ordinary reads: a memory map ends the process if one fails.

    CRC-32 detects damage, and reads 4 GB/s where cryptographic hashes read 1 to 2. It does not protect from somebody
    who may write to the cache.
    """
    sums = {}
    for path in sorted(folder.iterdir()):
        if path.name in (CHECKSUMS, storage.LOCK):
            continue
        checksum = 0
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                checksum = zlib.crc32(block, checksum)
        sums[path.name] = [path.stat().st_size, checksum]
    return sums


def _save_checksums(folder: Path) -> None:
    storage.write_json(folder / CHECKSUMS, _checksums(folder))


def _verify(folder: Path) -> None:
    """Raise ValueError or OSError if the files of an entry are not those that were written."""
    saved, found = storage.read_json(folder / CHECKSUMS), _checksums(folder)
    wrong = sorted(name for name in saved.keys() | found.keys() if saved.get(name) != found.get(name))
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        named = (f"{name} is {'missing' if name not in found else 'changed'}" for name in wrong[:3])
        raise ValueError(f"{', '.join(named)}{more}")


@contextlib.contextmanager
def _in_use(temporary: Path) -> Iterator[None]:
    """Hold the lock of a temporary folder, by which other processes know that it is not a leftover."""
    import fcntl

    lock = temporary / storage.LOCK
    with lock.open("w") as file:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
        lock.unlink()


def _remove_leftovers(parent: Path) -> None:
    """Remove the temporary folders of processes that were killed."""
    import fcntl

    for folder in parent.glob(".*-*"):
        with contextlib.suppress(OSError):  # it is in use, or another process removed or finished it
            if (folder / storage.LOCK).exists():
                with (folder / storage.LOCK).open("r+") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            elif time.time() - folder.stat().st_mtime < UNLOCKED_SECONDS:
                continue
            shutil.rmtree(folder)


def _move(temporary: Path, folder: Path) -> None:
    try:
        os.rename(temporary, folder)
    except OSError:  # another process wrote the same folder first
        if not folder.is_dir():
            raise
        shutil.rmtree(temporary, ignore_errors=True)


class ArrayFile:
    """A .npy file whose rows are assigned one by one, by ordinary writes; rows without a value are zeros.

    On a full disk a write raises OSError, where a memory map would end the process with SIGBUS. The space is reserved
    first, so that a disk that is too small is found before hours of decoding.
    """

    def __init__(self, path: Path, dtype: Any, shape: tuple[int, ...]):
        self._dtype, self._shape = np.dtype(dtype), shape
        self._file = path.open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()
        self._row = int(np.prod(shape[1:])) * self._dtype.itemsize
        self._reserve(path, self._start + shape[0] * self._row)
        self._file.truncate(self._start + shape[0] * self._row)

    def _reserve(self, path: Path, size: int) -> None:
        if not hasattr(os, "posix_fallocate"):
            return
        try:
            os.posix_fallocate(self._file.fileno(), 0, size)
        except OSError as error:  # not every file system can reserve
            if error.errno in FULL:
                self._file.close()
                raise OSError(error.errno, error.strerror, str(path)) from None

    def __setitem__(self, index: int, row: np.ndarray) -> None:
        self._file.seek(self._start + index * self._row)
        self._file.write(np.ascontiguousarray(np.broadcast_to(row, self._shape[1:]), self._dtype).tobytes())

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
