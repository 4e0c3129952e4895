"""Image classification datasets of TensorFlow Datasets, read without TensorFlow."""

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

from jaxvision.array_cache import ArrayFile, Arrays, cached, stamps
from jaxvision.datasets import register
from jaxvision.datasets.arguments import requested_preprocessing
from jaxvision.datasets.subsets import few, long_tailed
from jaxvision.images import from_array
from jaxvision.interfaces import Dataset, Interpolation, Preprocessing, Resize, Split
from jaxvision.split_roles import with_test
from jaxvision.splits import statistics_of

SPLITS = ("train", "validation", "test")
CHUNK_SIZE = 1000
NAME = re.compile(r"[a-z]\w{0,99}(/\w[\w+.-]{0,99})?(:(\d+|\*)(\.(\d+|\*)){2})?", re.ASCII | re.IGNORECASE)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings and banners of TensorFlow Datasets, which the user cannot act upon."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def find_prepared(root: Path, name: str) -> Path | None:
    """Find the folder of a prepared dataset, its newest version, without network access."""
    name, _, version = name.partition(":")
    folders = (path.parent for path in root.glob(f"{name}/{version or '*'}/dataset_info.json"))
    numbered = [path for path in folders if all(part.isdigit() for part in path.name.split("."))]
    return max(numbered, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def _is_classification(image: Any, label: Any) -> bool:
    if not isinstance(image.shape, tuple) or len(image.shape) != 3:  # nested features have a dict of shapes
        return False
    is_image = image.shape[-1] in (1, 3) and np.dtype(image.np_dtype) == np.uint8
    return is_image and hasattr(label, "num_classes") and label.shape == ()


def _decoding(
    info: Any, name: str, shape: Preprocessing | None, resize: dict[str, Any]
) -> tuple[tuple[str, str], Preprocessing]:
    """Return the feature keys of image and label, and the preprocessing to decode to.

    Raises ValueError if the dataset is not an image classification dataset, or has images of many sizes and none is
    given.
    """
    keys = info.supervised_keys
    if not isinstance(keys, tuple) or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        raise ValueError(
            f"{name!r} of TensorFlow Datasets declares no (image, label) pair; use an image classification dataset"
        )
    if not all(key in info.features for key in keys) or not _is_classification(*(info.features[key] for key in keys)):
        raise ValueError(
            f"{name!r} of TensorFlow Datasets does not have images with one class each; use another dataset"
        )
    height, width, channels = info.features[keys[0]].shape
    if shape is None and (height is None or width is None):
        raise ValueError(f"the images of {name!r} vary in size; set one: tfds(name={name!r}, image_size=…)")
    return keys, shape or Preprocessing((height, width), channels, (0.0,) * channels, (1.0,) * channels, **resize)


def _write(folder: Path, prepared: Path, name: str, shape: Preprocessing | None, resize: dict[str, Any]) -> None:
    """Decode all splits of a prepared dataset into .npy files."""
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(str(prepared))
    if builder.info.file_format.value != "array_record":
        raise ValueError(
            f"{prepared} is prepared as {builder.info.file_format.value}, which only TensorFlow reads; "
            "use another --data_dir, where it will be prepared as array_record"
        )
    keys, shape = _decoding(builder.info, name, shape, resize)
    np.save(folder / "classes.npy", np.array(builder.info.features[keys[1]].names, np.str_))
    for split in (s for s in SPLITS if s in builder.info.splits):
        _write_split(folder, builder.as_data_source(split), split, keys, shape)


def _write_split(folder: Path, source: Any, split: str, keys: tuple[str, str], shape: Preprocessing) -> None:
    from tqdm import tqdm

    size = (len(source), *shape.size, shape.channels)
    images = ArrayFile(folder / f"{split}_images.npy", np.uint8, size)
    targets = np.zeros(len(source), np.int32)
    with images, tqdm(total=size[0], desc=f"decoding {split}", unit="img", disable=not sys.stderr.isatty()) as bar:
        for start in range(0, len(source), CHUNK_SIZE):
            indices = range(start, min(start + CHUNK_SIZE, len(source)))
            for index, example in zip(indices, source.__getitems__(list(indices)), strict=True):
                images[index] = from_array(example[keys[0]], shape)
                targets[index] = example[keys[1]]
            bar.update(len(indices))
    np.save(folder / f"{split}_targets.npy", targets)


def _splits(arrays: Arrays, name: str) -> dict[str, Split]:
    """Return the labeled splits. Raises ValueError if train is none."""
    names = [s for s in SPLITS if f"{s}_images" in arrays]
    splits = {s: Split.of(arrays[f"{s}_images"], arrays[f"{s}_targets"], kind="multiclass") for s in names}
    splits = {s: split for s, split in splits.items() if split.targets.min() >= 0}  # unlabeled ones have -1
    if "train" not in splits:
        raise ValueError(f"{name!r} of TensorFlow Datasets has no labeled train split")
    return splits


def read(
    name: str,
    data_dir: str | None,
    *,
    shape: Preprocessing | None = None,
    resize: dict[str, Any] | None = None,
    constants: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    per_class: int | None = None,
    imbalance_ratio: float | None = None,
    test: Literal["validation"] | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
) -> Dataset:
    """Read a dataset from the cache or from its prepared folder; download and prepare it if there is neither.

    Splits without labels are not used.

    Args:
        name: name in TensorFlow Datasets, optionally with a config, 'emnist/letters', and a version, 'emnist:3.1.0'.
        data_dir: folder of the prepared datasets; defaults to ~/tensorflow_datasets.
        shape: preprocessing to decode to; None keeps the dataset's own size.
        resize: crop, interpolation and resize rule.
        constants: mean and standard deviation of the pixels; measured on train if None.
        per_class: number of training images to keep per class.
        imbalance_ratio: size of the first class divided by that of the last, for a long-tailed subset.
        test: "validation" makes that split test if there is no labeled test split.
        test_fraction: fraction of train held out as test if there is none, as for `tfds`.
        split_seed: seed of splits and subsets.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"tfds: name={name!r}; expected a dataset of TensorFlow Datasets, e.g. 'emnist', with a config, "
            "'emnist/letters', or with a version, 'emnist:3.1.0'"
        )
    root = Path(data_dir or "~/tensorflow_datasets").expanduser()
    prepared = find_prepared(root, name)
    if prepared is None:
        from jaxvision.datasets.tfds_prepare import prepare

        with _quiet():
            prepared = prepare(name, root, lambda info: _decoding(info, name, shape, resize or {}))
    key = f"{prepared.resolve()} {stamps(sorted(prepared.iterdir()))} {shape} {resize}"

    def write(folder: Path) -> None:
        with _quiet():
            _write(folder, prepared, name, shape, resize or {})

    arrays = cached(name.replace("/", "-").replace(":", "-"), key, write)
    splits = _splits(arrays, name)
    if test is not None and "test" not in splits and test in splits:
        splits["test"] = splits.pop(test)
    splits, _ = with_test(splits, test_fraction, seed=split_seed)
    images = arrays["train_images"]
    splits["train"] = long_tailed(few(splits["train"], per_class, seed=split_seed), imbalance_ratio, seed=split_seed)
    mean, std = constants or statistics_of(splits["train"])
    size, channels = (images.shape[1], images.shape[2]), images.shape[3]
    classes = tuple(str(c) for c in arrays["classes"])
    preprocessing = Preprocessing(size, channels, mean, std, **(resize or {}))
    return Dataset(splits["train"], splits.get("validation"), splits.get("test"), classes, preprocessing)


# Mean and standard deviation of the training pixels in 0..1, as commonly published; the tests verify them.
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
MNIST = ((0.1307,), (0.3081,))
FASHION_MNIST = ((0.2860,), (0.3530,))


@register("cifar10", input_size=(32, 32, 3), num_classes=10)
def cifar10(
    *,
    per_class: int | None = None,
    imbalance_ratio: float | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
) -> Dataset:
    """Load CIFAR-10: 60,000 32x32 color images in 10 classes (A. Krizhevsky, 2009).

    per_class, imbalance_ratio, data_dir and split_seed are as for `tfds`.
    """
    return read(
        "cifar10",
        data_dir,
        constants=CIFAR10,
        per_class=per_class,
        imbalance_ratio=imbalance_ratio,
        split_seed=split_seed,
    )


@register("cifar100", input_size=(32, 32, 3), num_classes=100)
def cifar100(
    *,
    per_class: int | None = None,
    imbalance_ratio: float | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
) -> Dataset:
    """Load CIFAR-100: 60,000 32x32 color images in 100 classes (A. Krizhevsky, 2009).

    per_class, imbalance_ratio, data_dir and split_seed are as for `tfds`.
    """
    return read(
        "cifar100",
        data_dir,
        constants=CIFAR100,
        per_class=per_class,
        imbalance_ratio=imbalance_ratio,
        split_seed=split_seed,
    )


@register("mnist", input_size=(28, 28, 1), num_classes=10)
def mnist(
    *,
    per_class: int | None = None,
    imbalance_ratio: float | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
) -> Dataset:
    """Load MNIST: 70,000 28x28 grayscale handwritten digits (Y. LeCun et al., 1998).

    per_class, imbalance_ratio, data_dir and split_seed are as for `tfds`.
    """
    return read(
        "mnist", data_dir, constants=MNIST, per_class=per_class, imbalance_ratio=imbalance_ratio, split_seed=split_seed
    )


@register("fashion_mnist", input_size=(28, 28, 1), num_classes=10)
def fashion_mnist(
    *,
    per_class: int | None = None,
    imbalance_ratio: float | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
) -> Dataset:
    """Load Fashion-MNIST: 70,000 28x28 grayscale images of clothing (H. Xiao et al., 2017).

    per_class, imbalance_ratio, data_dir and split_seed are as for `tfds`.
    """
    return read(
        "fashion_mnist",
        data_dir,
        constants=FASHION_MNIST,
        per_class=per_class,
        imbalance_ratio=imbalance_ratio,
        split_seed=split_seed,
    )


@register("tfds")
def tfds(
    *,
    name: str,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    crop: float | Literal["squash", "pad"] | None = None,
    interpolation: Interpolation | None = None,
    per_class: int | None = None,
    imbalance_ratio: float | None = None,
    test: Literal["validation"] | None = None,
    test_fraction: float | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
    preprocessing: Preprocessing | None = None,
    resize: Resize = "short_side",
) -> Dataset:
    """Load any image classification dataset of TensorFlow Datasets by name.

    An example is tfds(name="beans", image_size=96).

    Args:
        name: name in TensorFlow Datasets, optionally with a config, 'emnist/letters', and a version, 'emnist:3.1.0'.
        image_size: side in pixels, or (height, width). Defaults to that of the initial weights, or else to the
            dataset's own if all its images have one size.
        channels: 3 for color, 1 for grayscale.
        crop: as for `folder`.
        interpolation: as for `folder`.
        per_class: number of training images to keep per class, drawn with split_seed; a validation split is taken from
            these. Defaults to all.
        imbalance_ratio: size of the first class divided by that of the last; class sizes decrease exponentially, for a
            long-tailed training split. Defaults to all images.
        test: "validation" makes that split test if there is no labeled test split, as until version 0.3.
        test_fraction: fraction of train held out as test if there is no labeled test split. Defaults to 0.2 without a
            validation split; with one, nothing is held out.
        data_dir: folder of the prepared datasets; defaults to ~/tensorflow_datasets.
        split_seed: seed of splits and subsets.
        preprocessing: preprocessing of the initial weights, if there are any.
        resize: the rule of runs without initial weights, as in `Preprocessing`.

    Raises:
        ValueError: if the dataset does not exist or is not an image classification dataset.
        ConnectionError: if it must be downloaded and the source cannot be reached.
    """
    requested = requested_preprocessing(
        preprocessing, image_size=image_size, channels=channels, crop=crop, interpolation=interpolation, resize=resize
    )
    resampling = {"crop": requested.crop, "interpolation": requested.interpolation, "resize": requested.resize}
    shape = None
    if image_size is not None or preprocessing is not None:
        shape = Preprocessing(requested.size, channels, (0.0,) * channels, (1.0,) * channels, **resampling)
    return read(
        name,
        data_dir,
        shape=shape,
        resize=resampling,
        per_class=per_class,
        imbalance_ratio=imbalance_ratio,
        test=test,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )
