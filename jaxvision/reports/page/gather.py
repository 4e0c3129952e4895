"""Compute what only the page shows: features and neighbors, heat maps, duplicates, properties of the images."""

from __future__ import annotations

import jax
import numpy as np

from jaxvision import data as datas
from jaxvision.heat_maps import heat_maps
from jaxvision.interfaces import Dataset, Split
from jaxvision.near_duplicates import near_duplicates
from jaxvision.reports.page.page_data import Example, Features, PageData, RunFacts
from jaxvision.reports.page.pooled import pooled_features
from jaxvision.reports.page.properties import image_properties
from jaxvision.reports.page.selection import least_sure, worst_mistakes
from jaxvision.run import Trained

MOST_MAPPED = 2000  # examples whose features are computed for the map
MOST_SEARCHED = 5000  # training examples among which the nearest are searched
NUM_NEIGHBORS = 4
MOST_COMPARED = {True: 70_000, False: 6000}  # images compared with all others: in memory, and in files
MOST_BYTES = 2**31  # of all images that are read for that


def gather(data: PageData, trained: Trained, dataset: Dataset) -> PageData:
    """Return the data with what the trained run and its dataset add."""
    run = trained.run
    data = data._replace(run=RunFacts(run.config, run.execution, run.signature))
    if not data.are_pictures or data.form in ("images", "other") or jax.process_count() > 1:
        return data
    measured = image_properties(data.split, max_pixels=run.config.max_image_pixels)
    stated = {name: typed(values) for name, values in data.split.columns.items()}
    data = data._replace(columns={**measured, **stated})
    data = _with_duplicates(data, dataset)
    data = data._replace(features=_features(data, trained, dataset.train))
    return data._replace(examples=_examples(data, trained), train=dataset.train)


def typed(values: np.ndarray) -> np.ndarray:
    """Return a column of strings [N] as numbers if all that are not empty are; empty ones are NaN."""
    try:
        return np.array([float(value) if value else np.nan for value in values.tolist()])
    except ValueError:
        return values


def _with_duplicates(data: PageData, dataset: Dataset) -> PageData:
    splits, preprocessing = datas.splits_of(dataset), dataset.preprocessing
    is_in_memory = all(split.decode is None for split in splits.values())
    count, size = sum(map(len, splits.values())), int(np.prod((*preprocessing.size, preprocessing.channels)))
    if count > MOST_COMPARED[is_in_memory] or count * size > MOST_BYTES:
        return data
    return data._replace(pairs=near_duplicates(splits), splits=splits)


def _features(data: PageData, trained: Trained, train: Split) -> Features | None:
    """Return the features of a sample of the split with all shown examples, and of as many of the training split."""
    shown = {*worst_mistakes(data), *least_sure(data)}
    size = len(data.split)
    sample = np.linspace(0, size - 1, min(size, MOST_MAPPED), dtype=int)
    indices = np.array(sorted({*sample.tolist(), *shown}))
    searched = np.unique(np.linspace(0, len(train) - 1, min(len(train), size, MOST_SEARCHED), dtype=int))
    both = _joined(data.split.select(indices), train.select(searched))  # one call compiles once
    values = pooled_features(trained, both)
    if values is None:
        return None
    return Features(indices, values[: len(indices)], searched, values[len(indices) :])


def _joined(one: Split, other: Split) -> Split:
    """Return the examples of two splits in one, without their targets."""

    def read(chosen: np.ndarray) -> np.ndarray:
        is_first = chosen < len(one)
        first, second = chosen[is_first], chosen[~is_first] - len(one)
        parts = [split.read(places) for split, places in ((one, first), (other, second)) if len(places)]
        return np.concatenate(parts)[np.argsort(np.argsort(~is_first, kind="stable"), kind="stable")]

    names = [*one.names, *other.names] if len(one.names) and len(other.names) else ()
    return Split(read, np.zeros(len(one) + len(other), np.float32), kind="continuous", names=names)


def _examples(data: PageData, trained: Trained) -> dict[int, Example]:
    """Return the heat map and the nearest training examples of each shown example."""
    shown = [*worst_mistakes(data), *least_sure(data)]
    heats = _heat_maps(data, trained, shown)
    neighbors = _neighbors(data, shown)
    return {index: Example(heats.get(index), neighbors.get(index, ())) for index in shown}


def _heat_maps(data: PageData, trained: Trained, shown: list[int]) -> dict[int, np.ndarray]:
    """Return the heat map of each example for its predicted class; an empty dict if the model has no map to explain."""
    if not shown or data.form != "classes" or not data.has_images:
        return {}
    try:
        maps = heat_maps(trained, data.split.read(np.array(shown)), data.predicted[shown])
    except (KeyError, TypeError, ValueError):  # no feature map, no features, or a plug-in's that differ
        return {}
    return dict(zip(shown, maps, strict=True))


def _neighbors(data: PageData, shown: list[int]) -> dict[int, tuple[int, ...]]:
    """Return the training examples whose features have the largest cosine similarity, without the example itself."""
    if data.features is None:
        return {}
    rows = np.searchsorted(data.features.indices, shown)
    queries, train = _unit(data.features.values[rows]), _unit(data.features.train_values)
    similarity = np.round(queries @ train.T, 6)
    found = {}
    for index, row in zip(shown, similarity, strict=True):
        order = data.features.train_indices[np.argsort(-row, kind="stable")[: NUM_NEIGHBORS + 1]].tolist()
        others = [i for i in order if data.report["split"] != "train" or i != index]
        found[index] = tuple(others[:NUM_NEIGHBORS])
    return found


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
