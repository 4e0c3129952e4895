"""Image classification sets of TensorFlow Datasets, read without TensorFlow."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxvision.datasets import register
from jaxvision.datasets.arguments import requested_preprocessing
from jaxvision.datasets.cache import Arrays, cached
from jaxvision.datasets.subsets import few, long_tailed
from jaxvision.images import from_array
from jaxvision.interfaces import Dataset, Interpolation, Preprocessing, Split
from jaxvision.splits import cut, statistics_of

SPLITS = ("train", "validation", "test")
CHUNK_SIZE = 1000
NAME = re.compile(r"[a-z]\w{0,99}(/\w[\w+.-]{0,99})?(:(\d+|\*)(\.(\d+|\*)){2})?", re.ASCII | re.IGNORECASE)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep TensorFlow Datasets' own warnings and banners to itself: they hold nothing that a user could act upon."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def find_prepared(root: Path, name: str) -> Path | None:
    """Find the folder of a prepared set, the newest version of it, by looking at the disk alone."""
    name, _, version = name.partition(":")
    found = (path.parent for path in root.glob(f"{name}/{version or '*'}/dataset_info.json"))
    numbered = [path for path in found if all(part.isdigit() for part in path.name.split("."))]
    return max(numbered, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def _is_classification(image: Any, label: Any) -> bool:
    if not isinstance(image.shape, tuple) or len(image.shape) != 3:  # features within features have a dictionary
        return False
    is_image = image.shape[-1] in (1, 3) and np.dtype(image.np_dtype) == np.uint8
    return is_image and hasattr(label, "num_classes") and label.shape == ()


def _decoding(
    info: Any, name: str, shape: Preprocessing | None, resize: dict[str, Any]
) -> tuple[tuple[str, str], Preprocessing]:
    """Return the keys of image and class in a set's examples and the shape to decode to, or raise ValueError."""
    keys = info.supervised_keys
    if not isinstance(keys, tuple) or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        raise ValueError(f"the set {name!r} of TensorFlow Datasets says not what is its image and what its class")
    if not all(key in info.features for key in keys) or not _is_classification(*(info.features[key] for key in keys)):
        raise ValueError(f"the set {name!r} of TensorFlow Datasets is not one of images with one class each")
    height, width, channels = info.features[keys[0]].shape
    if shape is None and (height is None or width is None):
        raise ValueError(f"the images of {name!r} have many sizes; give one: tfds(name={name!r}, image_size=…)")
    return keys, shape or Preprocessing((height, width), channels, (0.0,), (1.0,), **resize)


def _write(folder: Path, prepared: Path, name: str, shape: Preprocessing | None, resize: dict[str, Any]) -> None:
    """Decode all splits of a prepared set into .npy files."""
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(str(prepared))
    if builder.info.file_format.value != "array_record":
        raise ValueError(
            f"{prepared} is prepared as {builder.info.file_format.value}, which TensorFlow alone reads; "
            "give another --data_dir, and it is prepared there as array_record"
        )
    keys, shape = _decoding(builder.info, name, shape, resize)
    np.save(folder / "classes.npy", np.array(builder.info.features[keys[1]].names, np.str_))
    for split in (s for s in SPLITS if s in builder.info.splits):
        _write_split(folder, builder.as_data_source(split), split, keys, shape)


def _write_split(folder: Path, source: Any, split: str, keys: tuple[str, str], shape: Preprocessing) -> None:
    from tqdm import tqdm

    size = (len(source), *shape.size, shape.channels)
    images = np.lib.format.open_memmap(folder / f"{split}_images.npy", "w+", np.uint8, size)
    targets = np.zeros(len(source), np.int32)
    with tqdm(total=size[0], desc=f"decoding {split}", unit="img", disable=not sys.stderr.isatty()) as bar:
        for start in range(0, len(source), CHUNK_SIZE):
            indices = range(start, min(start + CHUNK_SIZE, len(source)))
            for index, example in zip(indices, source.__getitems__(list(indices)), strict=True):
                images[index] = from_array(example[keys[0]], shape)
                targets[index] = example[keys[1]]
            bar.update(len(indices))
    images.flush()
    np.save(folder / f"{split}_targets.npy", targets)


def _splits(arrays: Arrays, name: str) -> dict[str, Split]:
    """Return the splits that have labels. Without those of test, the held-out split that there is becomes test."""
    found = [s for s in SPLITS if f"{s}_images" in arrays]
    splits = {s: Split.of(arrays[f"{s}_images"], arrays[f"{s}_targets"], kind="classes") for s in found}
    splits = {s: split for s, split in splits.items() if split.targets.min() >= 0}  # unlabelled ones have -1
    if "train" not in splits:
        raise ValueError(f"the set {name!r} of TensorFlow Datasets has no train split")
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
    return splits


def read(
    name: str,
    data_dir: str | None,
    *,
    shape: Preprocessing | None = None,
    resize: dict[str, Any] | None = None,
    constants: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    per_class: int | None = None,
    imbalance: float | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """Read a set from the cache of decoded arrays, or from where it is prepared; else download and prepare it first.

    Without test labels the held-out split that there is becomes test; without any, test_fraction is cut off.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"tfds: name={name!r}; wanted a set of TensorFlow Datasets as 'emnist', with a configuration as "
            "'emnist/letters', and with a version as 'emnist:3.1.0'"
        )
    root = Path(data_dir or "~/tensorflow_datasets").expanduser()
    prepared = find_prepared(root, name)
    if prepared is None:
        from jaxvision.datasets.tfds_prepare import prepare

        with _quiet():
            prepared = prepare(name, root, lambda info: _decoding(info, name, shape, resize or {}))
    info = (prepared / "dataset_info.json").stat()
    key = f"{prepared.resolve()} {info.st_mtime_ns} {info.st_size} {shape} {resize}"

    def write(folder: Path) -> None:
        with _quiet():
            _write(folder, prepared, name, shape, resize or {})

    arrays = cached(name.replace("/", "-").replace(":", "-"), key, write)
    splits = _splits(arrays, name)
    if "test" not in splits:
        splits["train"], splits["test"] = cut(splits["train"], test_fraction, seed=split_seed)
    images = arrays["train_images"]
    splits["train"] = long_tailed(few(splits["train"], per_class, seed=split_seed), imbalance, seed=split_seed)
    mean, std = constants or statistics_of(splits["train"])
    size, channels = (images.shape[1], images.shape[2]), images.shape[3]
    classes = tuple(str(c) for c in arrays["classes"])
    preprocessing = Preprocessing(size, channels, mean, std, **(resize or {}))
    return Dataset(splits["train"], splits.get("validation"), splits["test"], classes, preprocessing)


# Mean and deviation of the training pixels in 0..1, as commonly published for these sets; the tests measure them again.
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
MNIST = ((0.1307,), (0.3081,))
FASHION_MNIST = ((0.2860,), (0.3530,))


@register("cifar10", input_size=(32, 32, 3), num_classes=10)
def cifar10(
    *, per_class: int | None = None, imbalance: float | None = None, data_dir: str | None = None, split_seed: int = 0
) -> Dataset:
    """CIFAR-10: 60,000 colour photographs of ten classes (A. Krizhevsky, 2009). per_class and imbalance: see tfds."""
    return read("cifar10", data_dir, constants=CIFAR10, per_class=per_class, imbalance=imbalance, split_seed=split_seed)


@register("cifar100", input_size=(32, 32, 3), num_classes=100)
def cifar100(
    *, per_class: int | None = None, imbalance: float | None = None, data_dir: str | None = None, split_seed: int = 0
) -> Dataset:
    """CIFAR-100: 60,000 colour photographs of 100 classes (A. Krizhevsky, 2009). per_class and imbalance: see tfds."""
    return read(
        "cifar100", data_dir, constants=CIFAR100, per_class=per_class, imbalance=imbalance, split_seed=split_seed
    )


@register("mnist", input_size=(28, 28, 1), num_classes=10)
def mnist(
    *, per_class: int | None = None, imbalance: float | None = None, data_dir: str | None = None, split_seed: int = 0
) -> Dataset:
    """MNIST: 70,000 handwritten digits (Y. LeCun et al., 1998). per_class and imbalance: see tfds."""
    return read("mnist", data_dir, constants=MNIST, per_class=per_class, imbalance=imbalance, split_seed=split_seed)


@register("fashion_mnist", input_size=(28, 28, 1), num_classes=10)
def fashion_mnist(
    *, per_class: int | None = None, imbalance: float | None = None, data_dir: str | None = None, split_seed: int = 0
) -> Dataset:
    """Fashion-MNIST: 70,000 grey pictures of clothes (H. Xiao et al., 2017). per_class and imbalance: see tfds."""
    return read(
        "fashion_mnist",
        data_dir,
        constants=FASHION_MNIST,
        per_class=per_class,
        imbalance=imbalance,
        split_seed=split_seed,
    )


@register("tfds")
def tfds(
    *,
    name: str,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    crop: float | Literal["squash"] | None = None,
    interpolation: Interpolation | None = None,
    per_class: int | None = None,
    imbalance: float | None = None,
    test_fraction: float = 0.2,
    data_dir: str | None = None,
    split_seed: int = 0,
    preprocessing: Preprocessing | None = None,
) -> Dataset:
    """Any other classification set of TensorFlow Datasets, as tfds(name="beans", image_size=96).

    image_size is the side in pixels, or (height, width); without it that of the weights that training begins with
    holds, or else the set's own, where it has one. per_class keeps so many training images of each class, drawn by
    split_seed, of which the run may cut validation off; by default all. imbalance makes them long-tailed: ever fewer of
    each class, the first one's number over the last one's being the imbalance, as 100.
    """
    wanted = requested_preprocessing(
        preprocessing, image_size=image_size, channels=channels, crop=crop, interpolation=interpolation
    )
    resize = {"crop": wanted.crop, "interpolation": wanted.interpolation}
    shape = None
    if image_size is not None or preprocessing is not None:
        shape = Preprocessing(wanted.size, channels, (0.0,), (1.0,), **resize)
    return read(
        name,
        data_dir,
        shape=shape,
        resize=resize,
        per_class=per_class,
        imbalance=imbalance,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )
