"""Open the data of a run, split off validation data, and compute a fingerprint that identifies them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision import failures, registry, splits
from jaxvision.config import Config
from jaxvision.interfaces import Dataset, Preprocessing, Resize, Split
from jaxvision.specs import parse
from jaxvision.workdir import Signature

IN_MEMORY = "in_memory"  # the dataset of a config whose data are passed as arrays


class DataRules(NamedTuple):
    """How a run reads its data, where that depends on the version that began it; by default today's rules."""

    resize: Resize = "short_side"
    run_classes: tuple[str, ...] = ()


def rules_of(path: Path) -> DataRules:
    """Return the rules by which the run in a folder reads its data, or today's if there is no run."""
    if not (path / "config.json").exists():  # it is written last, so that without it there is no run
        return DataRules()
    signature = Signature.load(path / "signature.json")
    return DataRules(signature.preprocessing.resize, signature.classes)


def open_dataset(
    config: Config,
    *,
    data_dir: str | None = None,
    dataset: Any = None,
    preprocessing: Preprocessing | None = None,
    rules: DataRules = DataRules(),
) -> Dataset:
    """Build the config's dataset, or use the given one (a Dataset, or arrays as in `train`) in its place.

    With `preprocessing`, which belongs to pretrained weights, images have its size unless the spec sets another, and
    are normalized with its statistics. `rules` are those of the run. If the config has a fold, it is held out for
    validation. Otherwise, if the dataset has no validation split, a fraction of the training split is held out (see
    `splits.holdout`).
    """
    if dataset is None and is_in_memory(config.dataset):
        raise ValueError("this run was trained on data in memory: pass them from Python, as dataset=…")
    if dataset is None:
        dataset = registry.datasets.build(
            config.dataset,
            data_dir=data_dir,
            split_seed=config.split_seed,
            on_bad_image=config.on_bad_image,
            preprocessing=preprocessing,
            **rules._asdict(),
            max_image_pixels=config.max_image_pixels,
        )
    elif not isinstance(dataset, Dataset):
        from jaxvision.arrays import from_arrays

        stated = parse(config.dataset).arguments if is_in_memory(config.dataset) else {}
        dataset = from_arrays(dataset, split_seed=config.split_seed, run_classes=rules.run_classes, **stated)
    if preprocessing is not None:
        from jaxvision import pretrained

        dataset = pretrained.preprocessed(dataset, config.dataset, preprocessing)
    if config.fold:
        from jaxvision import folds

        train, validation = folds.held_out(dataset, config.fold, seed=config.split_seed)
    elif dataset.validation is not None or not config.validation_fraction:
        return dataset
    else:
        train, validation = splits.holdout(dataset.train, config.validation_fraction, seed=config.split_seed)
    _check_known(train, validation, dataset.classes)
    if train.ordered:  # later values must not scale earlier ones
        shape = splits.with_statistics_of(dataset.preprocessing, train.read(np.arange(len(train))))
        dataset = dataset._replace(preprocessing=shape)
    return dataset._replace(train=train, validation=validation)


def is_in_memory(dataset: str) -> bool:
    """Return whether a spec stands for data that are passed as arrays; those of older runs have arguments."""
    return dataset.partition("(")[0] == IN_MEMORY


def _check_known(train: Split, validation: Split, classes: Sequence[str]) -> None:
    """Raise ValueError if all examples of a class or label are in validation."""
    if train.kind == "continuous":
        return
    counts = [splits.target_stats(split, len(classes)).counts for split in (train, validation)]
    lost = [name for name, in_train, held_out in zip(classes, *counts, strict=True) if held_out and not in_train]
    if lost:
        raise ValueError(failures.all_held_out(lost[0]))


def fingerprint(dataset: Dataset, *, num_images: int = 4096) -> str:
    """Return a hash of all classes, targets and names, and of at most `num_images` images of each split.

    Of images that are decoded from files, it takes a sixteenth as many.
    """
    digest = hashlib.blake2b(repr(dataset.classes).encode(), digest_size=16)
    for split in (dataset.train, dataset.validation, dataset.test):
        if split is not None:
            digest.update(np.ascontiguousarray(split.targets).tobytes())
            digest.update("\n".join(name.rsplit("/", 1)[-1] for name in split.names).encode(errors="surrogatepass"))
            most = num_images if split.decode is None else num_images // 16  # these are decoded at every start
            chosen = np.linspace(0, len(split) - 1, min(most, len(split)), dtype=int)
            for start in range(0, len(chosen), 64):  # in chunks: resized images take memory
                digest.update(split.read(chosen[start : start + 64]).tobytes())
    return digest.hexdigest()


def splits_of(dataset: Dataset) -> dict[str, Split]:
    """Return the splits that a dataset has, by name."""
    named = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {name: split for name, split in named.items() if split is not None}


def reported(dataset: Dataset) -> str:
    """Return the split whose report is that of a run: test, or without one validation, used for choosing."""
    return "validation" if dataset.test is None and dataset.validation is not None else "test"
