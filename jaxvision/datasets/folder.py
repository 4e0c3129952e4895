"""Folders of image files, one folder a class."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np

from jaxvision.datasets import register
from jaxvision.datasets.arguments import requested_preprocessing
from jaxvision.datasets.files import read_files
from jaxvision.datasets.subsets import few
from jaxvision.image_files import EXTENSIONS, is_image
from jaxvision.interfaces import Dataset, Interpolation, Preprocessing, Split
from jaxvision.splits import cut

TRAIN = ("train", "training", "train_set", "training_set")
VALIDATION = ("validation", "valid", "val", "dev", "validation_set")
HELD_OUT = (*VALIDATION, "test", "testing", "test_set", "holdout", "eval")
MAX_CACHED = 8 * 2**30  # bytes of decoded images; more are streamed where nothing else is said


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def split_folders(path: Path) -> dict[str, Path]:
    """Find which folder is train, validation and test; {"train": path} where path holds the classes itself."""
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
    """Return the classes: the sub-folders. Raise ValueError where there are fewer than two."""
    classes = [p.name for p in _folders(path)]
    if not classes:
        loose = any(p.suffix.lower() in EXTENSIONS for p in path.iterdir())
        what = "images but no class folders" if loose else "no class folders"
        raise ValueError(f"folder {str(path)!r} has {what}; wanted one folder of images for each class")
    if len(classes) == 1:
        raise ValueError(f"folder {str(path)!r} has the one class {classes[0]!r}; a classifier needs two or more")
    return classes


def list_files(path: Path, classes: list[str]) -> tuple[list[Path], np.ndarray]:
    """List a split's files by class, and the class of each. Raise ValueError for a class that train has not."""
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


def _check_crop(random_crop: tuple[float, float] | None, stream: bool | None) -> None:
    """Raise ValueError for a share of the area that cannot be, and where no part can be cut."""
    if random_crop is not None and not 0 < random_crop[0] <= random_crop[1] <= 1:
        raise ValueError(
            f"random_crop={random_crop}; wanted the least and the largest share of a picture's area, as (0.08, 1.0)"
        )
    if random_crop is not None and stream is False:
        raise ValueError(
            f"random_crop={random_crop} is cut from the files anew at each use, and stream=False decodes them once; "
            "leave one of them out"
        )


def _read_splits(
    listed: dict[str, tuple[list[Path], np.ndarray]],
    shape: Preprocessing,
    *,
    on_bad_image: str,
    stream: bool | None,
    random_crop: tuple[float, float] | None,
) -> dict[str, Split]:
    """Read the files of each split; with stream=None, stream them where they are too many for the cache."""
    if stream is None:
        num_decoded = sum(len(files) for name, (files, _) in listed.items() if not (random_crop and name == "train"))
        stream = num_decoded * math.prod(shape.size) * shape.channels > MAX_CACHED
    return {
        name: read_files(
            files,
            targets,
            shape,
            kind="classes",
            name=name,
            on_bad_image=on_bad_image,
            stream=stream or (random_crop is not None and name == "train"),
            random_crop=None if name == "test" else random_crop,  # a fold may train on validation
        )
        for name, (files, targets) in listed.items()
    }


@register("folder")
def folder(
    *,
    path: str,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    crop: float | Literal["squash"] | None = None,
    interpolation: Interpolation | None = None,
    random_crop: tuple[float, float] | None = None,
    stream: bool | None = None,
    per_class: int | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    on_bad_image: str = "error",
    preprocessing: Preprocessing | None = None,
) -> Dataset:
    """Class folders of image files, at path itself or under train, validation and test.

    image_size is the side in pixels, or (height, width); crop is the share of the largest centred rectangle that is
    kept, "squash" keeps all of the picture. By default both are those of the weights that training begins with, or else
    64 and 1.0, bilinear. random_crop=(0.08, 1.0) trains on random parts of the pictures, cut anew at each use and then
    resized: shares of the area between the two, aspect ratios from 3/4 to 4/3. stream=True decodes images at each use,
    False once into the cache; by default they are streamed where they take more than 8 GiB, and those that random_crop
    cuts always. One held-out folder, whatever its name, is test; without one, test_fraction is cut off.
    per_class keeps so many training images of each class, drawn by split_seed, of which the run may cut validation off;
    by default all.
    """
    _check_crop(random_crop, stream)
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {path!r}; name the one that holds the classes: folder(path='…')")
    shape = requested_preprocessing(
        preprocessing, image_size=image_size, channels=channels, crop=crop, interpolation=interpolation
    )
    folders = split_folders(root)
    classes = list_classes(folders["train"])
    listed = {name: list_files(place, classes) for name, place in folders.items()}
    splits = _read_splits(listed, shape, on_bad_image=on_bad_image, stream=stream, random_crop=random_crop)
    empty = [name for index, name in enumerate(classes) if not (splits["train"].targets == index).any()]
    if empty:
        raise ValueError(f"the class folder {empty[0]!r} of train has no readable images")
    if "test" not in splits:
        splits["train"], splits["test"] = cut(splits["train"], test_fraction, seed=split_seed)
    train = few(splits["train"], per_class, seed=split_seed)
    return Dataset(train, splits.get("validation"), splits["test"], tuple(classes), shape)
