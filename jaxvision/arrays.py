"""Build a dataset from arrays of images and labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jaxvision.images import from_array
from jaxvision.interfaces import Dataset, Preprocessing, Split
from jaxvision.specs import nearest
from jaxvision.splits import holdout, statistics_of

NAMES = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"}


def checked_images(images: np.ndarray, *, source: str) -> np.ndarray:
    """Return images as uint8 or float32 [N, H, W, C]. Raises ValueError if shape, type or range is invalid."""
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"{source}: images have shape {images.shape}; expected [N, H, W], [N, H, W, 1] or [N, H, W, 3]"
        )
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{source}: images have type {images.dtype}; expected uint8, or floats from 0 to 1")
    if not np.isfinite(images).all() or images.min(initial=0) < 0 or images.max(initial=0) > 1:
        raise ValueError(f"{source}: float images range from {images.min()} to {images.max()}; expected 0 to 1")
    return images.astype(np.float32)


def resized(dataset: Dataset, wanted: Preprocessing) -> Dataset:
    """Return a dataset whose images are cropped and resized as they are read."""
    names = ("size", "crop", "interpolation", "resize")
    shape = replace(dataset.preprocessing, **{name: getattr(wanted, name) for name in names})

    def resized_split(split: Split | None) -> Split | None:
        if split is None:
            return None
        decode = split.decode
        return replace(
            split,
            read=lambda chosen: np.stack([from_array(i, shape) for i in split.read(chosen)]),
            decode=None if decode is None else lambda index, rng: from_array(decode(index, rng), shape),
        )

    train = resized_split(dataset.train)
    assert train is not None
    return Dataset(train, resized_split(dataset.validation), resized_split(dataset.test), dataset.classes, shape)


def from_arrays(
    splits: dict[str, tuple[np.ndarray, np.ndarray]],
    *,
    classes: tuple[str, ...] = (),
    test_fraction: float = 0.2,
    split_seed: int = 0,
    source: str = "arrays",
) -> Dataset:
    """Build a dataset from {"train": (images, labels), "test": …}.

    Args:
        splits: images, uint8 or floats in 0..1, [N, H, W], [N, H, W, 1] or [N, H, W, 3], and labels [N], integers or
            strings, by the name of the split: train, validation, test.
        classes: names of integer labels; by default the sorted labels of train.
        test_fraction: fraction of each class held out as test if there is no test split.
        split_seed: seed of the split.
        source: prefix of error messages.

    Raises:
        ValueError: if splits, images or labels are invalid or inconsistent.
    """
    unknown = [name for name in splits if name not in NAMES]
    if unknown:
        raise ValueError(f"{source}: no split {unknown[0]!r}{nearest(unknown[0], NAMES)}; expected {', '.join(NAMES)}")
    splits = {NAMES[name]: pair for name, pair in splits.items()}
    if "train" not in splits:
        raise ValueError(f"{source}: there is no train split among {', '.join(splits) or 'nothing'}")
    labels = {name: np.asarray(pair[1]) for name, pair in splits.items()}
    for name, values in labels.items():
        if values.ndim != 1:
            raise ValueError(f"{source}, {name}: labels have shape {values.shape}; expected [N], one class each")
    images = {name: checked_images(pair[0], source=f"{source}, {name}") for name, pair in splits.items()}
    for name, values in labels.items():
        if len(values) != len(images[name]) or not len(values):
            raise ValueError(
                f"{source}, {name}: {len(images[name])} images and {len(values)} labels; expected one label each"
            )
        if images[name].shape[1:] != images["train"].shape[1:]:
            raise ValueError(
                f"{source}: images of {name} have shape {images[name].shape[1:]}; expected "
                f"{images['train'].shape[1:]}, that of train"
            )
    targets, classes = _encode(labels, classes, source)
    built = {name: Split.of(images[name], targets[name], kind="multiclass") for name in splits}
    if "test" not in built:
        built["train"], built["test"] = holdout(built["train"], test_fraction, seed=split_seed)
    mean, std = statistics_of(built["train"])
    size = images["train"].shape[1:3]
    preprocessing = Preprocessing((int(size[0]), int(size[1])), images["train"].shape[-1], mean, std)
    return Dataset(built["train"], built.get("validation"), built["test"], classes, preprocessing)


def _encode(labels: dict[str, np.ndarray], classes: tuple[str, ...], source: str):
    """Return class indices, int32, and the names of the classes."""
    known = np.unique(labels["train"])
    if len(known) < 2:
        raise ValueError(f"{source}: train has only the class {known[0]}; a classifier needs two or more")
    if np.issubdtype(known.dtype, np.integer):
        least = min(int(values.min()) for values in labels.values())
        if least < 0:
            raise ValueError(f"{source}: label {least} is negative; expected labels from 0")
        if classes:  # labels are indices into classes
            largest = max(int(values.max()) for values in labels.values())
            if largest >= len(classes):
                raise ValueError(f"{source}: label {largest} has no name among {len(classes)} classes")
            return {name: values.astype(np.int32) for name, values in labels.items()}, classes
    if np.issubdtype(known.dtype, np.floating):
        raise ValueError(f"{source}: labels are {known.dtype} numbers; expected integers or strings")
    for name, values in labels.items():
        unseen = np.setdiff1d(values, known)
        if len(unseen):
            raise ValueError(f"{source}: {name} has the class {str(unseen[0])!r}, which train does not have")
    return (
        {name: np.searchsorted(known, values).astype(np.int32) for name, values in labels.items()},
        tuple(str(c) for c in known),
    )
