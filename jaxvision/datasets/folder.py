"""Folders of image files, one folder per class."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from jaxvision.class_names import alike, in_order
from jaxvision.datasets import register
from jaxvision.datasets.arguments import requested_preprocessing
from jaxvision.datasets.files import read_files
from jaxvision.datasets.roles import assign_roles, same_but_for_unicode
from jaxvision.datasets.subsets import few
from jaxvision.image_decoding import MAX_PIXELS
from jaxvision.image_files import OTHERS, SkippedFiles, images_in, no_images, skipped_by, suffixes
from jaxvision.interfaces import Dataset, Interpolation, Preprocessing, Resize, Split
from jaxvision.specs import nearest
from jaxvision.split_roles import with_test
from jaxvision.walk import Tally, entries, folders_in, identity

MAX_CACHED = 8 * 2**30  # bytes of decoded images; larger datasets are streamed by default
Listed = dict[str, tuple[list[Path], np.ndarray]]  # by split: files and class indices


def list_classes(path: Path, chosen: Sequence[str] | None, run_classes: tuple[str, ...] = ()) -> list[str]:
    """Return the names of the class folders, or the chosen ones. Raises ValueError if there are fewer than two."""
    there = list(in_order((folder.name for folder in folders_in(path, Tally())), run_classes))
    for name in chosen or ():
        if name not in there:
            other = same_but_for_unicode(name, there)
            why = _other_form(name, other) if other else f"not {name!r}{nearest(name, there)}"
            raise ValueError(f"classes={tuple(chosen or ())}: folder {str(path)!r} has {', '.join(there)}, {why}")
    classes = there if chosen is None else list(dict.fromkeys(chosen))
    for name in classes:
        other = same_but_for_unicode(name, classes)
        if other is not None:
            raise ValueError(f"folder {str(path)!r} has {_other_form(name, other)}")
    folders = {}
    for name in classes:
        other = folders.setdefault(identity(path / name), name)
        if other != name:
            raise ValueError(
                f"the classes {other!r} and {name!r} of folder {str(path)!r} are one folder; remove a link"
            )
    if not classes:
        names = [entry.name for entry in entries(path, Tally()) if not entry.is_dir()]
        loose = any(os.path.splitext(name)[1].lower() in (*suffixes(), *OTHERS) for name in names)
        what = "images but no class folders" if loose else "no class folders"
        raise ValueError(f"folder {str(path)!r} has {what}; expected one folder of images per class")
    if len(classes) == 1:
        raise ValueError(f"folder {str(path)!r} has only the class {classes[0]!r}; a classifier needs two or more")
    return classes


def _other_form(name: str, other: str) -> str:
    """Return in words that two names differ only in their Unicode normal form."""
    return (
        f"the class {other!r} ({other!a}), which differs from {name!r} ({name!a}) only in its Unicode normal "
        "form: rename one of the folders"
    )


def list_files(path: Path, classes: Sequence[str], tally: Tally) -> tuple[list[Path], np.ndarray]:
    """List a split's files and their class indices. Raises ValueError if there are no images."""
    files, targets = [], []
    for entry in entries(path, tally):
        if not entry.is_dir():
            suffix = os.path.splitext(entry.name)[1].lower() or "without a suffix"
            tally.leave_out(entry.path, f"{suffix} outside the class folders")
    for index, name in enumerate(classes):
        if (path / name).is_dir():
            images = [Path(file) for file in images_in(path / name, tally)]
            files += images
            targets += [index] * len(images)
    if not files:
        raise ValueError(f"folder {str(path)!r} has {no_images(tally)}")
    return files, np.array(targets, np.int32)


def _check_unknown(path: Path, classes: Sequence[str], *, is_strict: bool) -> str:
    """Return which class folders of a split are left out, "" for none. If strict, raise ValueError for the first."""
    unknown = [folder for folder in folders_in(path, Tally()) if folder.name not in classes]
    if unknown and is_strict:
        name, known = unknown[0].name, ", ".join(classes)
        other = same_but_for_unicode(name, classes)
        if other is not None:
            raise ValueError(f"folder {str(path)!r}: train has {_other_form(name, other)}")
        raise ValueError(
            f"folder {str(path)!r} has the class {name!r}, which train does not have: {known}{nearest(name, classes)}; "
            "rename it, add it to train, leave it out with on_unknown_class='skip', or name the classes to use with "
            f"classes=({', '.join(map(repr, classes[:2]))}, …)"
        )
    counted = [f"{folder.name!r} ({sum(1 for _ in images_in(folder)):,} images)" for folder in unknown]
    return f"classes of {path.name!r} left out: {', '.join(counted)}" if counted else ""


def _check_readable(train: Split, names: Sequence[str]) -> None:
    """Raise ValueError if train has no image of a class."""
    empty = [name for index, name in enumerate(names) if not (train.targets == index).any()]
    if empty:
        raise ValueError(
            f"the class folder {empty[0]!r} of train has no readable images; remove it, or name the classes to use "
            f"with classes=({', '.join(repr(name) for name in names if name not in empty)})"
        )


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
    listed: Listed,
    shape: Preprocessing,
    *,
    on_bad_image: str,
    stream: bool | None,
    random_crop: tuple[float, float] | None,
    max_pixels: int,
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
            max_pixels=max_pixels,
        )
        for name, (files, targets) in listed.items()
    }


@register("folder")
def folder(
    *,
    path: str,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    crop: float | Literal["squash", "pad"] | None = None,
    interpolation: Interpolation | None = None,
    random_crop: tuple[float, float] | None = None,
    stream: bool | None = None,
    per_class: int | None = None,
    classes: tuple[str, ...] | None = None,
    on_unknown_class: Literal["error", "skip"] = "error",
    validation: str | None = None,
    test: str | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
    on_bad_image: str = "error",
    preprocessing: Preprocessing | None = None,
    resize: Resize = "short_side",
    run_classes: tuple[str, ...] = (),
    max_image_pixels: int = MAX_PIXELS,
) -> Dataset:
    """Load images from class folders, at path itself or under train, validation and test.

    A folder val, valid, validation or dev beside train is validation. With only that, there is no test split; with only
    train, a stratified fraction is held out as test. Hidden folders and files are skipped, and links are followed.

    Args:
        path: folder of the classes or of the splits.
        image_size: side in pixels, or (height, width). Defaults to that of the initial weights, or else 64.
        channels: 3 for color, 1 for grayscale.
        crop: fraction of the largest central rectangle that is kept, after the short side is resized; "squash" keeps
            the whole image and changes its aspect ratio, "pad" keeps both and adds borders. Defaults to that of the
            initial weights, or else 1.0.
        interpolation: resampling filter. Defaults to that of the initial weights, or else bilinear.
        random_crop: (smallest, largest) fraction of the area, e.g. (0.08, 1.0). Training then uses random crops of the
            files, with aspect ratios from 3/4 to 4/3, resized to image_size.
        stream: True decodes images at each use, False once into the cache. By default images are streamed if they take
            more than 8 GiB decoded; a training split with random_crop is always streamed.
        per_class: number of training images to keep per class, drawn with split_seed; a validation split is taken from
            these. Defaults to all.
        classes: names of the class folders to use, in this order. Defaults to all folders of train.
        on_unknown_class: "error" raises for a class that only validation or test has, "skip" leaves it out.
        validation: name of the validation folder; "" for none. By default the names of the folders decide.
        test: name of the test folder, e.g. "val"; "" for none. By default the names of the folders decide.
        test_fraction: fraction of each class of train held out as test if there is no test folder. Defaults to 0.2
            without a validation folder; with one, nothing is held out.
        split_seed: seed of all splits and subsets.
        on_bad_image: "error" raises for an unreadable file, "skip" warns and leaves it out.
        preprocessing: preprocessing of the initial weights, if there are any.
        resize: the rule of runs without initial weights, as in `Preprocessing`.
        run_classes: classes of the run that goes on or is evaluated; until 0.3, 10 preceded 9.
        max_image_pixels: the largest number of pixels of an image file.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if classes, images or arguments are invalid.
    """
    _check_crop(random_crop, stream)
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {path!r}; give the folder that holds the classes: folder(path='…')")
    shape = requested_preprocessing(
        preprocessing, image_size=image_size, channels=channels, crop=crop, interpolation=interpolation, resize=resize
    )
    roles = assign_roles(root, validation=validation, test=test)
    names = list_classes(roles.folders["train"], classes, run_classes)
    tally, notes = Tally(), [roles.described(root), *alike(names)]
    if roles.folders["train"] != root:
        entries(root, tally)  # counts what is skipped beside the splits
    is_strict = classes is None and on_unknown_class == "error"
    notes += [_check_unknown(each, names, is_strict=is_strict) for each in roles.folders.values()]
    listed = {name: list_files(each, names, tally) for name, each in roles.folders.items()}
    splits = _read_splits(
        listed, shape, on_bad_image=on_bad_image, stream=stream, random_crop=random_crop, max_pixels=max_image_pixels
    )
    _check_readable(splits["train"], names)
    splits, how = with_test(splits, test_fraction, seed=split_seed)
    notes[0] += f"; {how}" if how else ""
    train = few(splits["train"], per_class, seed=split_seed)
    if skipped_by(tally):
        warnings.warn(SkippedFiles(path, skipped_by(tally)), stacklevel=2)
    lines = tuple(note for note in (*notes, *tally.described(OTHERS)) if note)
    return Dataset(train, splits.get("validation"), splits.get("test"), tuple(names), shape, lines)
