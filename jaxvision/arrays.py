"""Images that are arrays already -> a dataset: checked, cut, resized as they are read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jaxvision.images import from_array
from jaxvision.interfaces import Dataset, Preprocessing, Split
from jaxvision.specs import nearest
from jaxvision.splits import cut, statistics_of

NAMES = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"}


def checked_images(images: np.ndarray, *, source: str) -> np.ndarray:
    """Return images as uint8 or float32 [N, H, W, C]; raise ValueError for another shape, type or range."""
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"{source}: images have shape {images.shape}; wanted [N, H, W], [N, H, W, 1] or [N, H, W, 3]")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{source}: images have type {images.dtype}; wanted uint8, or floats from 0 to 1")
    if not np.isfinite(images).all() or images.min(initial=0) < 0 or images.max(initial=0) > 1:
        raise ValueError(f"{source}: float images reach from {images.min()} to {images.max()}; wanted 0 to 1")
    return images.astype(np.float32)


def resized(dataset: Dataset, wanted: Preprocessing) -> Dataset:
    """Return a dataset whose arrays are cropped and resized as they are read."""
    shape = replace(dataset.preprocessing, size=wanted.size, crop=wanted.crop, interpolation=wanted.interpolation)

    def of(split: Split | None) -> Split | None:
        if split is None:
            return None
        decode = split.decode
        return replace(
            split,
            read=lambda chosen: np.stack([from_array(i, shape) for i in split.read(chosen)]),
            decode=None if decode is None else lambda index, rng: from_array(decode(index, rng), shape),
        )

    train = of(dataset.train)
    assert train is not None
    return Dataset(train, of(dataset.validation), of(dataset.test), dataset.classes, shape)


def from_arrays(
    splits: dict[str, tuple[np.ndarray, np.ndarray]],
    *,
    classes: tuple[str, ...] = (),
    test_fraction: float = 0.2,
    split_seed: int = 0,
    source: str = "arrays",
) -> Dataset:
    """Make a dataset of {"train": (images, labels), "test": …}; without test, a stratified share of train is cut off.

    Labels [N] are integers or strings. Raise ValueError for what does not fit together.
    """
    unknown = [name for name in splits if name not in NAMES]
    if unknown:
        raise ValueError(f"{source}: there is no split {unknown[0]!r}{nearest(unknown[0], NAMES)}; {', '.join(NAMES)}")
    splits = {NAMES[name]: pair for name, pair in splits.items()}
    if "train" not in splits:
        raise ValueError(f"{source}: there is no train split among {', '.join(splits) or 'nothing'}")
    labels = {name: np.asarray(pair[1]) for name, pair in splits.items()}
    for name, values in labels.items():
        if values.ndim != 1:
            raise ValueError(f"{source}, {name}: labels have shape {values.shape}; wanted [N], a class for each")
    images = {name: checked_images(pair[0], source=f"{source}, {name}") for name, pair in splits.items()}
    for name, values in labels.items():
        if len(values) != len(images[name]) or not len(values):
            raise ValueError(f"{source}, {name}: {len(images[name])} images and {len(values)} labels")
        if images[name].shape[1:] != images["train"].shape[1:]:
            raise ValueError(
                f"{source}: images of {name} are {images[name].shape[1:]}, of train {images['train'].shape[1:]}"
            )
    targets, classes = _encode(labels, classes, source)
    made = {name: Split.of(images[name], targets[name], kind="classes") for name in splits}
    if "test" not in made:
        made["train"], made["test"] = cut(made["train"], test_fraction, seed=split_seed)
    mean, std = statistics_of(made["train"])
    size = images["train"].shape[1:3]
    preprocessing = Preprocessing((int(size[0]), int(size[1])), images["train"].shape[-1], mean, std)
    return Dataset(made["train"], made.get("validation"), made["test"], classes, preprocessing)


def _encode(labels: dict[str, np.ndarray], classes: tuple[str, ...], source: str):
    """Return int32 class indices and the classes' names."""
    known = np.unique(labels["train"])
    if len(known) < 2:
        raise ValueError(f"{source}: train has the one class {known[0]}; a classifier needs two or more")
    if np.issubdtype(known.dtype, np.integer):
        least = min(int(values.min()) for values in labels.values())
        if least < 0:
            raise ValueError(f"{source}: label {least} is negative; labels count from 0")
        if classes:  # the labels count them
            largest = max(int(values.max()) for values in labels.values())
            if largest >= len(classes):
                raise ValueError(f"{source}: label {largest} has no name among {len(classes)} classes")
            return {name: values.astype(np.int32) for name, values in labels.items()}, classes
    if np.issubdtype(known.dtype, np.floating):
        raise ValueError(f"{source}: labels are {known.dtype} numbers; wanted integers or strings")
    for name, values in labels.items():
        unseen = np.setdiff1d(values, known)
        if len(unseen):
            raise ValueError(f"{source}: {name} has the class {str(unseen[0])!r}, which train has not")
    return (
        {name: np.searchsorted(known, values).astype(np.int32) for name, values in labels.items()},
        tuple(str(c) for c in known),
    )
