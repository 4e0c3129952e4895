"""The data of a run: opened as the config says, cut into splits, told apart from others by a fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxvision import registry, specs, splits
from jaxvision.config import Config
from jaxvision.interfaces import Dataset, Preprocessing, Split

IN_MEMORY = "in_memory"  # what the config says where the data were handed over as arrays


def open_dataset(
    config: Config, *, data_dir: str | None = None, dataset: Any = None, preprocessing: Preprocessing | None = None
) -> Dataset:
    """Builds the config's dataset, or takes the one given (a Dataset, or arrays as in `train`) in its stead.

    With `preprocessing`, that of weights, images come in its size, unless the spec asks for another, and are normalised
    by it. Cuts a stratified share of train off for validation where there is none and the config wants one, or holds
    the config's fold out.
    """
    if dataset is None and config.dataset == IN_MEMORY:
        raise ValueError("this run was trained on data in memory: hand them over, as dataset=… from Python")
    if dataset is None:
        dataset = registry.datasets.build(
            config.dataset,
            data_dir=data_dir,
            split_seed=config.split_seed,
            on_bad_image=config.on_bad_image,
            preprocessing=preprocessing,
        )
    elif not isinstance(dataset, Dataset):
        from jaxvision.arrays import from_arrays

        dataset = from_arrays(
            dataset if isinstance(dataset, dict) else {"train": tuple(dataset)}, split_seed=config.split_seed
        )
    if preprocessing is not None:
        dataset = _preprocessed(dataset, config.dataset, preprocessing)
    if config.fold:
        from jaxvision import folds

        whole = dataset.train if dataset.validation is None else folds.joined(dataset.train, dataset.validation)
        train, validation = folds.fold(whole, *map(int, config.fold.split("/")), seed=config.split_seed)
    elif dataset.validation is not None or not config.validation_fraction:
        return dataset
    else:
        train, validation = splits.cut(dataset.train, config.validation_fraction, seed=config.split_seed)
    _check_known(train, validation, dataset.classes)
    if train.ordered:  # what comes later must not scale it
        dataset = dataset._replace(preprocessing=dataset.preprocessing.measured(train.read(np.arange(len(train)))))
    return dataset._replace(train=train, validation=validation)


def _check_known(train: Split, validation: Split, classes: Sequence[str]) -> None:
    """Raises ValueError where validation has been left the only examples of a class or tag."""
    if train.kind == "numbers":
        return
    counts = [splits.measure_targets(split, len(classes)).counts for split in (train, validation)]
    lost = [name for name, own, held_out in zip(classes, *counts, strict=True) if held_out and not own]
    if lost:
        raise ValueError(
            f"all examples of {lost[0]!r} are held out for validation: give another --split_seed, more examples or "
            "groups of it, or leave it out"
        )


def _preprocessed(dataset: Dataset, spec: str, wanted: Preprocessing) -> Dataset:
    """Brings a dataset to the preprocessing that belongs to weights. What the spec asks for itself stays."""
    name, arguments = specs.parse(spec)
    is_asked = "image_size" in arguments or (name != IN_MEMORY and registry.datasets.takes(spec, "preprocessing"))
    shapes = [(each.size, each.crop, each.interpolation) for each in (dataset.preprocessing, wanted)]
    if not is_asked and shapes[0] != shapes[1]:
        from jaxvision.arrays import resized

        dataset = resized(dataset, wanted)
    return dataset._replace(preprocessing=dataset.preprocessing.normalising(wanted))


def fingerprint(dataset: Dataset, *, num_images: int = 4096) -> str:
    """Tells data apart: a hash of all classes, targets and names, and of up to a number of images of each split."""
    digest = hashlib.blake2b(repr(dataset.classes).encode(), digest_size=16)
    for split in (dataset.train, dataset.validation, dataset.test):
        if split is not None:
            digest.update(np.ascontiguousarray(split.targets).tobytes())
            digest.update("\n".join(name.rsplit("/", 1)[-1] for name in split.names).encode())
            most = num_images if split.decode is None else num_images // 16  # these are decoded at each start
            chosen = np.linspace(0, len(split) - 1, min(most, len(split)), dtype=int)
            for start in range(0, len(chosen), 64):  # a few at once: resized ones take memory
                digest.update(split.read(chosen[start : start + 64]).tobytes())
    return digest.hexdigest()


def splits_of(dataset: Dataset) -> dict[str, Split]:
    """Gives the splits that a dataset has, by name."""
    named = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {name: split for name, split in named.items() if split is not None}
