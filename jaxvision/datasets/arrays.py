"""Images and labels in an .npz file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from jaxvision.arrays import NAMES, from_arrays
from jaxvision.datasets import register
from jaxvision.interfaces import Dataset


@register("arrays")
def arrays(*, path: str, test_fraction: float = 0.2, split_seed: int = 0) -> Dataset:
    """Load images and labels from an .npz file.

    The file holds x_train, y_train, x_test, y_test (and x_validation, y_validation), or x and y; `images_…` and
    `labels_…` are aliases of x and y. An optional array `classes` names the classes. Without test arrays, a stratified
    test_fraction is held out. Raises FileNotFoundError if there is no file, ValueError if the arrays are missing or
    inconsistent.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"arrays: no file {path!r}; give the path of an .npz file")
    try:
        with np.load(file, allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"arrays: cannot read {path!r} as .npz: {error}") from None
    classes = tuple(str(c) for c in content.pop("classes", ()))
    splits: dict[str, dict[str, np.ndarray]] = {}
    for name, array in content.items():
        kind, _, split = name.partition("_")
        kind = {"images": "x", "labels": "y", "inputs": "x", "targets": "y"}.get(kind, kind)
        if kind not in ("x", "y") or (split or "train") not in NAMES:
            raise ValueError(f"arrays: {path!r} has {name!r}; expected x_train, y_train, x_test, y_test, or x and y")
        splits.setdefault(NAMES[split or "train"], {})[kind] = array
    for name, pair in splits.items():
        if len(pair) < 2:
            raise ValueError(f"arrays: {path!r} has only {', '.join(pair)} for {name}; expected x_{name} and y_{name}")
    pairs = {name: (pair["x"], pair["y"]) for name, pair in splits.items()}
    return from_arrays(
        pairs, classes=classes, test_fraction=test_fraction, split_seed=split_seed, source=f"arrays {path!r}"
    )
