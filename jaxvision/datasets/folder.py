"""Folders of image files, one folder per class."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np

from jaxvision.datasets import register
from jaxvision.datasets.arguments import requested_preprocessing
from jaxvision.datasets.files import read_files
from jaxvision.datasets.subsets import few
from jaxvision.image_files import EXTENSIONS, OTHERS, SkippedFiles, describe_skipped, walk
from jaxvision.interfaces import Dataset, Interpolation, Preprocessing, Split
from jaxvision.splits import holdout

TRAIN = ("train", "training", "train_set", "training_set")
VALIDATION = ("validation", "valid", "val", "dev", "validation_set")
HELD_OUT = (*VALIDATION, "test", "testing", "test_set", "holdout", "eval")
MAX_CACHED = 8 * 2**30  # bytes of decoded images; larger datasets are streamed by default


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def split_folders(path: Path) -> dict[str, Path]:
    """Find the train, validation and test folders; {"train": path} if path itself holds the classes.

    Raises ValueError if there is a held-out folder but no train folder, or folders with unclear roles.
    """
    folders = {p.name.lower(): p for p in _folders(path)}
    train = next((folders.pop(name) for name in TRAIN if name in folders and _folders(folders[name])), None)
    if train is None:
        held_out = next((p.name for name, p in folders.items() if name in HELD_OUT and _folders(p)), None)
        if held_out is not None:
            raise ValueError(
                f"folder {str(path)!r} has {held_out!r} but no training split; name the training folder 'train'"
            )
        return {"train": path}
    if len(folders) == 1:  # a single held-out folder is test, whatever its name
        return {"train": train, "test": next(iter(folders.values()))}
    validation = next((folders.pop(name) for name in VALIDATION if name in folders), None)
    if len(folders) > 1:
        names = ", ".join(p.name for p in folders.values())
        raise ValueError(f"folder {str(path)!r}: besides train there are {names}; expected validation and test")
    splits = {"train": train, "validation": validation, "test": next(iter(folders.values()), None)}
    return {name: folder for name, folder in splits.items() if folder}


def list_classes(path: Path) -> list[str]:
    """Return the names of the class folders. Raises ValueError if there are fewer than two."""
    classes = [p.name for p in _folders(path)]
    if not classes:
        loose = any(p.suffix.lower() in (*EXTENSIONS, *OTHERS) for p in path.iterdir())
        what = "images but no class folders" if loose else "no class folders"
        raise ValueError(f"folder {str(path)!r} has {what}; expected one folder of images per class")
    if len(classes) == 1:
        raise ValueError(f"folder {str(path)!r} has only the class {classes[0]!r}; a classifier needs two or more")
    return classes


def list_files(path: Path, classes: list[str]) -> tuple[list[Path], np.ndarray]:
    """List a split's files and their class indices. Warns about files that look like pictures and are not read.

    Raises ValueError for a class that train does not have.
    """
    unknown = [p.name for p in _folders(path) if p.name not in classes]
    if unknown:
        raise ValueError(
            f"folder {str(path)!r} has the class {unknown[0]!r}, which train does not have: {', '.join(classes)}"
        )
    files, targets, skipped = [], [], Counter()
    for index, name in enumerate(classes):
        images, others = walk(path / name)
        files += images
        targets += [index] * len(images)
        skipped.update(others)
    if not files:
        others = f", and it has {describe_skipped(skipped)}" if skipped else ""
        raise ValueError(f"folder {str(path)!r} has no images; expected files ending in {' '.join(EXTENSIONS)}{others}")
    if skipped:
        warnings.warn(SkippedFiles(path, dict(skipped.most_common())), stacklevel=2)
    return files, np.array(targets, np.int32)


def _check_crop(random_crop: tuple[float, float] | None, stream: bool | None) -> None:
    """Raise ValueError if the range is invalid or conflicts with stream=False."""
    if random_crop is not None and not 0 < random_crop[0] <= random_crop[1] <= 1:
        raise ValueError(
            f"random_crop={random_crop}; expected the smallest and largest fraction of the image area, (0.08, 1.0)"
        )
    if random_crop is not None and stream is False:
        raise ValueError(
            f"random_crop={random_crop} decodes the files at each use, but stream=False decodes them once; "
            "remove one of the two"
        )


def _read_splits(
    listed: dict[str, tuple[list[Path], np.ndarray]],
    shape: Preprocessing,
    *,
    on_bad_image: str,
    stream: bool | None,
    random_crop: tuple[float, float] | None,
) -> dict[str, Split]:
    """Read the files of each split; stream=None streams them if the decoded arrays would exceed MAX_CACHED."""
    if stream is None:
        num_decoded = sum(len(files) for name, (files, _) in listed.items() if not (random_crop and name == "train"))
        stream = num_decoded * math.prod(shape.size) * shape.channels > MAX_CACHED
    return {
        name: read_files(
            files,
            targets,
            shape,
            kind="multiclass",
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
    """Load images from class folders, at path itself or under train, validation and test.

    A single held-out folder is test, whatever its name; without one, a stratified test_fraction is held out.

    Args:
        path: folder of the classes or of the splits.
        image_size: side in pixels, or (height, width). Defaults to that of the initial weights, or else 64.
        channels: 3 for color, 1 for grayscale.
        crop: fraction of the largest central rectangle that is kept; "squash" keeps the whole image and changes its
            aspect ratio. Defaults to that of the initial weights, or else 1.0.
        interpolation: resampling filter. Defaults to that of the initial weights, or else bilinear.
        random_crop: (smallest, largest) fraction of the area, e.g. (0.08, 1.0). Training then uses random crops of the
            files, with aspect ratios from 3/4 to 4/3, resized to image_size.
        stream: True decodes images at each use, False once into the cache. By default images are streamed if they take
            more than 8 GiB decoded; a training split with random_crop is always streamed.
        per_class: number of training images to keep per class, drawn with split_seed; a validation split is taken from
            these. Defaults to all.
        test_fraction: fraction of each class held out as test.
        split_seed: seed of all splits and subsets.
        on_bad_image: "error" raises for an unreadable file, "skip" warns and leaves it out.
        preprocessing: preprocessing of the initial weights, if there are any.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if classes, images or arguments are invalid.
    """
    _check_crop(random_crop, stream)
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {path!r}; give the folder that holds the classes: folder(path='…')")
    shape = requested_preprocessing(
        preprocessing, image_size=image_size, channels=channels, crop=crop, interpolation=interpolation
    )
    folders = split_folders(root)
    classes = list_classes(folders["train"])
    listed = {name: list_files(path, classes) for name, path in folders.items()}
    splits = _read_splits(listed, shape, on_bad_image=on_bad_image, stream=stream, random_crop=random_crop)
    empty = [name for index, name in enumerate(classes) if not (splits["train"].targets == index).any()]
    if empty:
        raise ValueError(f"the class folder {empty[0]!r} of train has no readable images")
    if "test" not in splits:
        splits["train"], splits["test"] = holdout(splits["train"], test_fraction, seed=split_seed)
    train = few(splits["train"], per_class, seed=split_seed)
    return Dataset(train, splits.get("validation"), splits["test"], tuple(classes), shape)
