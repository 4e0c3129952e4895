"""Folders of image files, one folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from jaxvision.datasets import register
from jaxvision.datasets.files import read_files
from jaxvision.datasets.subsets import few
from jaxvision.images import EXTENSIONS, asked, is_image
from jaxvision.interfaces import Dataset, Interpolation, Preprocessing

TRAIN = ("train", "training", "train_set", "training_set")
VALIDATION = ("validation", "valid", "val", "dev", "validation_set")
HELD_OUT = (*VALIDATION, "test", "testing", "test_set", "holdout", "eval")


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def split_folders(path: Path) -> dict[str, Path]:
    """Finds which folder is train, validation and test; {"train": path} where path holds the classes itself."""
    folders = {p.name.lower(): p for p in _folders(path)}
    train = next((folders.pop(name) for name in TRAIN if name in folders and _folders(folders[name])), None)
    if train is None:
        held_out = next((p.name for name, p in folders.items() if name in HELD_OUT and _folders(p)), None)
        if held_out is not None:
            raise ValueError(f"folder {str(path)!r} has {held_out!r} but no training split; name that one 'train'")
        return {"train": path}
    if len(folders) == 1:  # one held-out folder, whatever its name, is test
        return {"train": train, "test": next(iter(folders.values()))}
    validation = next((folders.pop(name) for name in VALIDATION if name in folders), None)
    if len(folders) > 1:
        names = ", ".join(p.name for p in folders.values())
        raise ValueError(f"folder {str(path)!r}: beside train there are {names}; wanted validation and test")
    found = {"train": train, "validation": validation, "test": next(iter(folders.values()), None)}
    return {name: folder for name, folder in found.items() if folder}


def list_classes(path: Path) -> list[str]:
    """Names the classes: the sub-folders. Raises ValueError where there are fewer than two."""
    classes = [p.name for p in _folders(path)]
    if not classes:
        loose = any(p.suffix.lower() in EXTENSIONS for p in path.iterdir())
        what = "images but no class folders" if loose else "no class folders"
        raise ValueError(f"folder {str(path)!r} has {what}; wanted one folder of images for each class")
    if len(classes) == 1:
        raise ValueError(f"folder {str(path)!r} has the one class {classes[0]!r}; a classifier needs two or more")
    return classes


def list_files(path: Path, classes: list[str]) -> tuple[list[Path], np.ndarray]:
    """Lists a split's files by class, and the class of each. Raises ValueError for a class that train has not."""
    unknown = [p.name for p in _folders(path) if p.name not in classes]
    if unknown:
        raise ValueError(
            f"folder {str(path)!r} has the class {unknown[0]!r}, which train has not: {', '.join(classes)}"
        )
    files, targets = [], []
    for index, name in enumerate(classes):
        found = sorted(p for p in (path / name).rglob("*") if is_image(p))
        files += found
        targets += [index] * len(found)
    if not files:
        raise ValueError(f"folder {str(path)!r} has no images; they end in {' '.join(EXTENSIONS)}")
    return files, np.array(targets, np.int32)


@register("folder")
def folder(
    *,
    path: str,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    crop: float | Literal["squash"] | None = None,
    interpolation: Interpolation | None = None,
    per_class: int | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    on_bad_image: str = "error",
    preprocessing: Preprocessing | None = None,
) -> Dataset:
    """Class folders of image files, at path itself or under train, validation and test.

    image_size is the side in pixels, or (height, width); crop is the share of the largest centred rectangle that is
    kept, "squash" keeps all of the picture. By default both are those of the weights that training begins with, or else
    64 and 1.0, bilinear. One held-out folder, whatever its name, is test; without one, test_fraction is cut off.
    per_class keeps so many training images of each class, drawn by split_seed, of which the run may cut validation off;
    by default all.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {path!r}; name the one that holds the classes: folder(path='…')")
    shape = asked(preprocessing, image_size=image_size, channels=channels, crop=crop, interpolation=interpolation)
    folders = split_folders(root)
    classes = list_classes(folders["train"])
    splits = {
        name: read_files(*list_files(place, classes), shape, name=name, on_bad_image=on_bad_image)
        for name, place in folders.items()
    }
    empty = [name for index, name in enumerate(classes) if not (splits["train"].targets == index).any()]
    if empty:
        raise ValueError(f"the class folder {empty[0]!r} of train has no readable images")
    if "test" not in splits:
        splits["train"], splits["test"] = splits["train"].cut(test_fraction, seed=split_seed)
    train = few(splits["train"], per_class, seed=split_seed)
    return Dataset(train, splits.get("validation"), splits["test"], tuple(classes), shape)
