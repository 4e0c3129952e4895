"""Build a dataset from arrays of images and labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from jaxvision import class_names
from jaxvision.class_names import quoted
from jaxvision.images import from_array
from jaxvision.interfaces import Dataset, Preprocessing, Split
from jaxvision.specs import nearest
from jaxvision.split_roles import NAMES, ROLES, with_test
from jaxvision.splits import statistics_of


def checked_images(images: Any, *, source: str) -> np.ndarray:
    """Return images as uint8 or float32 [N, H, W, C]. Raises ValueError if shape, type or range is invalid."""
    images = _stacked(images, source)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        is_first = images.ndim == 4 and images.shape[1] in (1, 3)
        repair = "; channels come first: give images.transpose(0, 2, 3, 1)" if is_first else ""
        raise ValueError(
            f"{source}: images have shape {images.shape}; expected [N, H, W], [N, H, W, 1] or [N, H, W, 3]{repair}"
        )
    check_sides(images.shape[1:3], source=source)
    check_pixels(images, source=source)
    return images if images.dtype == np.uint8 else images.astype(np.float32)


def _stacked(images: Any, source: str) -> np.ndarray:
    """Return images as one array. Raises ValueError if they have several sizes, a mask, or are no arrays."""
    if isinstance(images, np.ma.MaskedArray):
        raise ValueError(f"{source}: images are a masked array, whose mask would be lost; fill it: images.filled(0)")
    if not hasattr(images, "shape"):
        images = list(images)
        pillow = next((index for index, image in enumerate(images) if hasattr(image, "getbands")), None)
        if pillow is not None:
            raise ValueError(f"{source}: image {pillow} is a PIL image; give np.asarray(image.convert('RGB'))")
        sizes = list(dict.fromkeys(np.shape(image) for image in images if hasattr(image, "shape")))
        if len(sizes) > 1:
            raise ValueError(
                f"{source}: images have several sizes, {sizes[0]} and {sizes[1]}; resize them, or train on files"
            )
    return np.asarray(images)


def check_sides(shape: tuple[int, ...], *, source: str) -> None:
    """Raise ValueError if images of a shape (height, width, …) have no pixels."""
    if 0 in shape:
        raise ValueError(f"{source}: images have {shape[0]} x {shape[1]} pixels; expected at least 1 x 1")


def check_pixels(images: np.ndarray, *, source: str, first: int = 0) -> None:
    """Raise ValueError if images [N, …], the first with the number `first`, are not uint8 or floats in 0..1."""
    if images.dtype == np.uint8:
        return
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"{source}: images have type {images.dtype}; expected uint8, or floats from 0 to 1: convert them"
        )
    if not np.isfinite(images).all():
        index = next(index for index, image in enumerate(images, first) if not np.isfinite(image).all())
        raise ValueError(f"{source}: image {index} has pixels that are not finite; replace them, or remove it")
    if images.min(initial=0) < 0 or images.max(initial=0) > 1:
        raise ValueError(
            f"{source}: float images range from {images.min()} to {images.max()}; expected 0 to 1: scale them, as in "
            "images / 255"
        )


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
    others = {"validation": resized_split(dataset.validation), "test": resized_split(dataset.test)}
    return dataset._replace(train=train, **others, preprocessing=shape)


def from_arrays(
    splits: Any,
    *,
    classes: tuple[str, ...] = (),
    test_fraction: float | None = None,
    split_seed: int = 0,
    source: str = "arrays",
    run_classes: tuple[str, ...] = (),
) -> Dataset:
    """Build a dataset from {"train": (images, labels), "test": …}, (images, labels), or two such pairs, train and test.

    Args:
        splits: images, uint8 or floats in 0..1, [N, H, W], [N, H, W, 1] or [N, H, W, 3], and labels [N] or [N, 1],
            integers or strings, by the name of the split: train, validation, test.
        classes: names of integer labels; by default the labels of train, in natural order.
        test_fraction: fraction of each class of train held out as test if there is no test split. Defaults to 0.2
            without a validation split; with one, nothing is held out.
        split_seed: seed of the split.
        source: prefix of error messages.
        run_classes: classes of the run that goes on or is evaluated; until 0.3, "10" preceded "9".

    Raises:
        ValueError: if splits, images or labels are invalid or inconsistent.
    """
    pairs = _pairs(splits, source)
    labels = {name: checked_labels(pair[1], source=f"{source}, {name}") for name, pair in pairs.items()}
    images = {name: checked_images(pair[0], source=f"{source}, {name}") for name, pair in pairs.items()}
    for name, values in labels.items():
        if len(values) != len(images[name]) or not len(values):
            raise ValueError(
                f"{source}, {name}: {len(images[name])} images and {len(values)} labels; expected one label each: "
                "remove or add some"
            )
        if images[name].shape[1:] != images["train"].shape[1:]:
            raise ValueError(
                f"{source}: images of {name} have shape {images[name].shape[1:]}; expected "
                f"{images['train'].shape[1:]}, that of train: resize them"
            )
    targets, classes = _encode(labels, classes, source, run_classes)
    built = {name: Split.of(images[name], targets[name], kind="multiclass") for name in pairs}
    built, _ = with_test(built, test_fraction, seed=split_seed)
    mean, std = statistics_of(built["train"])
    size = images["train"].shape[1:3]
    preprocessing = Preprocessing((int(size[0]), int(size[1])), images["train"].shape[-1], mean, std)
    notes = tuple(class_names.alike(classes))
    return Dataset(built["train"], built.get("validation"), built.get("test"), classes, preprocessing, notes)


def _pairs(splits: Any, source: str) -> dict[str, tuple[Any, Any]]:
    """Return the pairs of images and labels by the name of their split. Raises ValueError for anything else."""
    if not isinstance(splits, Mapping):
        is_two = isinstance(splits, tuple | list) and len(splits) == 2 and all(map(_is_pair, splits))
        splits = {"train": splits[0], "test": splits[1]} if is_two else {"train": splits}
    unknown = [name for name in splits if name not in ROLES]
    if unknown:
        raise ValueError(
            f"{source}: no split {unknown[0]!r}{nearest(str(unknown[0]), ROLES)}; expected {', '.join(NAMES)}"
        )
    for name, pair in splits.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            count = f"{len(pair)} elements" if isinstance(pair, tuple | list) else type(pair).__name__
            raise ValueError(
                f"{source}, {name}: got {count}; expected (images, labels), without weights of examples (a loss takes "
                "class_weights=…), or {'train': (images, labels), 'test': …}"
            )
    named = {ROLES[name]: pair for name, pair in splits.items()}
    if "train" not in named:
        raise ValueError(f"{source}: there is no train split among {', '.join(named) or 'nothing'}: add one")
    if len(named) < len(splits):
        raise ValueError(f"{source}: {' and '.join(splits)} name one split twice; remove one")
    return named


def _is_pair(pair: Any) -> bool:
    """Return whether an object is (images, labels), rather than two images or two labels."""
    return isinstance(pair, tuple | list) and len(pair) == 2 and len(getattr(pair[0], "shape", ())) >= 3


def checked_labels(labels: Any, *, source: str) -> np.ndarray:
    """Return labels [N], integers or strings; bytes are decoded. Raises ValueError for others and for missing ones."""
    if isinstance(labels, np.ma.MaskedArray):
        raise ValueError(f"{source}: labels are a masked array, whose mask would be lost; remove the masked examples")
    given = labels if hasattr(labels, "shape") else _as_objects(labels, source)
    values = np.asarray(given)
    if values.ndim == 2 and values.shape[1] == 1:  # as Keras has them
        values = values[:, 0]
    if values.ndim != 1:
        hot = "; labels that are one-hot: give labels.argmax(axis=1)" if values.ndim == 2 else ""
        raise ValueError(f"{source}: labels have shape {values.shape}; expected [N], one class each{hot}")
    if values.dtype.kind in "biu":
        return values
    try:
        items = values.tolist()
    except SystemError as error:  # of CPython, for numbers of characters that do not exist
        raise ValueError(f"{source}: labels are damaged text ({error})") from None
    named = [_named_label(value, index, source) for index, value in enumerate(items)]
    kinds = {type(value): value for value in named}
    if len(kinds) > 1:
        shown = " and ".join(f"{value!r} ({kind.__name__})" for kind, value in kinds.items())
        raise ValueError(f"{source}: labels are of several types, as {shown}; expected integers, or strings")
    return np.array(named, None if kinds else np.int64)


def _as_objects(labels: Any, source: str) -> np.ndarray:
    """Return a list of labels as an array of objects, because NumPy would make strings of [1, None, "a"].

    Raises ValueError if it holds lists of several lengths.
    """
    items = list(labels)
    if any(hasattr(item, "__len__") and not isinstance(item, str | bytes) for item in items):
        sizes = list(dict.fromkeys(np.size(item) for item in items if not isinstance(item, str | bytes)))
        if len(sizes) > 1:
            raise ValueError(
                f"{source}: labels are lists of {sizes[0]} and of {sizes[1]} values; expected one class each"
            )
        return np.asarray(items)
    array = np.empty(len(items), object)
    array[:] = [item.item() if hasattr(item, "item") else item for item in items]
    return array


def _named_label(value: Any, index: int, source: str) -> Any:
    """Return a label, decoded if it is bytes. Raises ValueError if it is missing or no text."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{source}: label {index} is {quoted(value)}, which is not UTF-8 text") from None
    is_number = isinstance(value, int | float)
    is_missing = (
        value != value
        if is_number
        else not isinstance(value, str) or value.strip().lower() in ("", *class_names.MISSING)
    )
    if is_missing:
        raise ValueError(f"{source}: label {index} is {quoted(value)}; give each example an integer or a string")
    return value


def checked_classes(classes: Any, *, source: str) -> tuple[str, ...]:
    """Return the names of classes as strings. Raises ValueError if they are no list of different names."""
    if len(np.shape(classes)) != 1:
        raise ValueError(f"{source}: classes have shape {np.shape(classes)}; expected one name for each class")
    names = tuple(str(name) for name in checked_labels(classes, source=f"{source}, classes").tolist())
    class_names.check(names, source)
    return names


def _encode(labels: dict[str, np.ndarray], classes: tuple[str, ...], source: str, run_classes: tuple[str, ...]):
    """Return class indices, int32, and the names of the classes."""
    for name, values in labels.items():
        if (values.dtype.kind == "U") != (labels["train"].dtype.kind == "U"):
            types = f"{labels['train'].dtype} in train and {values.dtype} in {name}"
            raise ValueError(f"{source}: labels are {types}; expected integers, or strings, in all splits")
    known = np.unique(labels["train"])
    if len(known) < 2:
        raise ValueError(f"{source}: train has only the class {known[0]}; a classifier needs two or more")
    if np.issubdtype(known.dtype, np.integer):
        least = min(int(values.min()) for values in labels.values())
        if least < 0:
            raise ValueError(
                f"{source}: label {least} is negative; expected labels from 0: remove its examples, or renumber"
            )
        if classes:  # labels are indices into classes
            largest = max(int(values.max()) for values in labels.values())
            if largest >= len(classes):
                raise ValueError(
                    f"{source}: label {largest} has no name among {len(classes)} classes: name {largest + 1}, the "
                    "first for label 0"
                )
            return {name: values.astype(np.int32) for name, values in labels.items()}, classes
    if np.issubdtype(known.dtype, np.floating):
        raise ValueError(
            f"{source}: labels are {known.dtype} numbers; expected integers or strings: give labels.astype(int), or "
            "for a target that is measured a table with kind='continuous'"
        )
    names = [str(value) for value in known.tolist()]
    class_names.check(names, source)
    order = class_names.in_order(names, run_classes)
    unnamed = [name for name in order if classes and name not in classes]
    if unnamed:
        raise ValueError(
            f"{source}: the label {quoted(unnamed[0])} is none of the {len(classes)} classes: add it to these"
        )
    indices = {name: index for index, name in enumerate(classes or order)}
    for name, values in labels.items():
        unseen = np.setdiff1d(values, known)
        if len(unseen):
            raise ValueError(
                f"{source}: {name} has the class {quoted(str(unseen[0]))}, which train does not have: add examples "
                f"of it to train, or remove those of {name}"
            )
    position = np.array([indices[name] for name in names], np.int32)
    return {name: position[np.searchsorted(known, values)] for name, values in labels.items()}, tuple(indices)
