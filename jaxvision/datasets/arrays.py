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
    """Images and labels of an .npz file: x_train, y_train, x_test, y_test (and validation), or x and y; classes.

    Without test arrays, `test_fraction` of each class is cut off. `images_…` and `labels_…` are read as x and y.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"arrays: no file {path!r}")
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
            raise ValueError(f"arrays: {path!r} has {name!r}; wanted x_train, y_train, x_test, y_test, or x and y")
        splits.setdefault(NAMES[split or "train"], {})[kind] = array
    for name, pair in splits.items():
        if len(pair) < 2:
            raise ValueError(f"arrays: {path!r} has only {', '.join(pair)} for {name}; wanted x_{name} and y_{name}")
    pairs = {name: (pair["x"], pair["y"]) for name, pair in splits.items()}
    return from_arrays(
        pairs, classes=classes, test_fraction=test_fraction, split_seed=split_seed, source=f"arrays {path!r}"
    )
