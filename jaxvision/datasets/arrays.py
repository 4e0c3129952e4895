"""Images and labels in an .npz file."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxvision.arrays import checked_classes, from_arrays
from jaxvision.datasets import register
from jaxvision.interfaces import Dataset
from jaxvision.machine import require_memory
from jaxvision.split_roles import ROLES

WRITTEN = "np.savez('data.npz', x=images, y=labels)"
KINDS = {"images": "x", "labels": "y", "inputs": "x", "targets": "y"}  # other names of the parts of a pair


@register("arrays")
def arrays(
    *, path: str, test_fraction: float | None = None, split_seed: int = 0, run_classes: tuple[str, ...] = ()
) -> Dataset:
    """Load images and labels from an .npz file.

    The file holds x_train, y_train, x_test, y_test (and x_validation, y_validation), or x and y; `images_…` and
    `labels_…` are aliases of x and y. An optional array `classes` names the classes. Without test arrays, a stratified
    test_fraction is held out: by default 0.2, or nothing if there are validation arrays. `run_classes` is as for
    `folder`. Raises FileNotFoundError if there is no file, ValueError if the arrays are missing or inconsistent.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"arrays: no file {path!r}; give the path of an .npz file")
    content = _read(file)
    classes = content.pop("classes", None)
    names = () if classes is None else checked_classes(classes, source=f"arrays {path!r}")
    splits: dict[str, dict[str, np.ndarray]] = {}
    for name, array in content.items():
        kind, split = _part_of(name)
        if kind not in ("x", "y") or not split:
            raise ValueError(
                f"arrays: {path!r} has {name!r}; expected x_train, y_train, x_test, y_test, or x and y: write it with "
                f"{WRITTEN}"
            )
        pair = splits.setdefault(split, {})
        if kind in pair:
            both = " and ".join(repr(each) for each in content if _part_of(each) == (kind, split))
            raise ValueError(f"arrays: {path!r} has {both}, which both name {kind}_{split}; remove one")
        pair[kind] = array
    if not splits:
        raise ValueError(f"arrays: {path!r} has no arrays; write it with {WRITTEN}")
    for name, pair in splits.items():
        if len(pair) < 2:
            raise ValueError(
                f"arrays: {path!r} has only {', '.join(pair)} for {name}; expected x_{name} and y_{name}: add the other"
            )
    pairs = {name: (pair["x"], pair["y"]) for name, pair in splits.items()}
    return from_arrays(
        pairs,
        classes=names,
        test_fraction=test_fraction,
        split_seed=split_seed,
        source=f"arrays {path!r}",
        run_classes=run_classes,
    )


def _part_of(name: str) -> tuple[str, str]:
    """Return what an array holds by its name, x or y, and the split, "" if that is none."""
    kind, _, split = name.partition("_")
    return KINDS.get(kind, kind), ROLES.get(split or "train", "")


def _read(file: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file, after their headers show that they fit. Raises ValueError if it is damaged."""
    with _naming(file):
        need = _size(file)
    require_memory(need, f"arrays: {str(file)!r}")
    with _naming(file), np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@contextlib.contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Raise ValueError with the file's name in place of the dozen types that zipfile, zlib and NumPy raise."""
    try:
        yield
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"arrays: cannot read {str(file)!r} as .npz: {why}; write it again with {WRITTEN}") from None


def _size(file: Path) -> int:
    """Return the bytes of all arrays. Raises ValueError if two have one name, or if one is encrypted."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename.removesuffix(".npy") for entry in entries]
        if len(set(names)) < len(names):
            raise ValueError(f"it has two arrays {max(names, key=names.count)!r}")
        locked = next((entry.filename for entry in entries if entry.flag_bits & 1), None)
        if locked is not None:
            raise ValueError(f"{locked!r} is encrypted")
        return sum(_size_of_array(archive, entry) for entry in entries)


def _size_of_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Return the bytes of an array. Raises ValueError if its header declares other than the archive holds."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise ValueError(
                f"{entry.filename!r} holds Python objects, which reading could execute: labels are integers or str"
            )
        held = entry.file_size - file.tell()
    declared = math.prod(map(int, shape)) * dtype.itemsize
    if min(shape, default=0) < 0 or declared != held:
        raise ValueError(f"{entry.filename!r} declares the shape {shape} of {declared:,} bytes and holds {held:,}")
    return declared
