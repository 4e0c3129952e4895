"""Does a dataset keep its contract?"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxvision import registry
from jaxvision.interfaces import Dataset, Split


def _check_split(split: Split, dataset: Dataset) -> None:
    preprocessing = dataset.preprocessing
    indices = np.array([len(split) - 1, 0])
    inputs = split.read(indices)
    assert inputs.shape == (2, *preprocessing.size, preprocessing.channels), f"inputs have shape {inputs.shape}"
    assert inputs.dtype in (np.uint8, np.float32), f"inputs are {inputs.dtype}"
    assert np.array_equal(inputs, split.read(indices)), "reading twice returned two results"
    if split.kind == "multiclass":
        assert split.targets.dtype == np.int32 and split.targets.min() >= 0, "targets are not int32 from 0 on"
        assert split.targets.max() < len(dataset.classes), "a target has no class"
    else:
        assert split.targets.dtype == np.float32 and np.isfinite(split.targets).all(), "targets are not finite float32"
    if split.kind == "multilabel":
        assert split.targets.shape == (len(split), len(dataset.classes)), "targets are not one for each tag"
    assert not len(split.names) or len(split.names) == len(split), "names are not one for each example"


def check_dataset(spec: str, **context: Any) -> Dataset:
    """Check splits, shapes, types and repeatability of a dataset, and return it."""
    dataset: Dataset = registry.datasets.build(spec, **context)
    for split in (dataset.train, dataset.validation, dataset.test):
        if split is not None:
            _check_split(split, dataset)
    again: Dataset = registry.datasets.build(spec, **context)
    assert np.array_equal(dataset.train.targets, again.train.targets), "building twice returned two orders"
    num_statistics = len(dataset.preprocessing.mean), len(dataset.preprocessing.std)
    assert num_statistics == (dataset.preprocessing.channels,) * 2, "mean and std are not one for each channel"
    return dataset
