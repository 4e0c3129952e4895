"""Predictions as rows of CSV: the file, its truth, prediction and loss, and one column of probabilities for each class.

A generator of images has no such table: it predicts no target that could be compared with a truth.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import storage
from jaxvision.interfaces import Outputs, Split

TEXT: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}  # file names are bytes


class _Lines:
    """A file for a CSV writer that ends its lines with a carriage return, and so quotes those within values."""

    def __init__(self, file: Any):
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(line.removesuffix("\r\n") + "\n")


def writer(file: Any) -> Any:
    """Return a CSV writer, whose lines end as those of other text files do."""
    return csv.writer(_Lines(file))


def probability_columns(classes: Sequence[str], shape: tuple[int, ...]) -> list[str]:
    """Return the names of the columns that follow the prediction, by the shape of one prediction.

    >>> probability_columns(("cat", "dog"), (2,)), probability_columns((), ())
    (['probability_cat', 'probability_dog'], [])
    """
    if not shape:
        return []
    names = classes if len(classes) == shape[0] else range(shape[0])
    return [f"probability_{name}" for name in names]


def joined(labels: Sequence[str]) -> str:
    r"""Return labels as one cell, separated by "|"; a "|" or backslash within a label follows a backslash.

    >>> joined(["red", "a|b"])
    'red|a\\|b'
    """
    return "|".join(label.replace("\\", "\\\\").replace("|", "\\|") for label in labels)


def label_cells(labels: np.ndarray, classes: Sequence[str]) -> Iterator[str]:
    """Yield labels as cells: a class, the labels that an example has, joined, or a number."""
    for label in labels:
        if np.ndim(label):
            yield joined([classes[index] for index in np.flatnonzero(label).tolist()])
        else:
            yield str(label) if np.issubdtype(labels.dtype, np.floating) else classes[int(label)]


def prediction_cells(predictions: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Iterator[list[str]]:
    """Yield, for each prediction, the cells from the column "prediction" on."""
    for label, prediction in zip(label_cells(labels, classes), predictions, strict=True):
        yield [label, *map(str, prediction)] if predictions.ndim > 1 else [label]


def save_predictions(file: Path, split: Split, outputs: Outputs, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Write the predictions of a split, in the units of the data; of generated images, nothing.

    The columns are file, truth, prediction, loss, the probability of each class in the order of the classes, and what
    the rules that come with the data predict.
    """
    if outputs.predictions.ndim > 2:
        return
    names = split.names if len(split.names) else range(len(split))
    truth, predictions = split.in_original_units(outputs.predictions)
    if split.kind == "continuous":
        labels = predictions
    rules = [[str(value) for value in values] for values in split.baselines.values()]
    columns = zip(
        names,
        label_cells(truth >= 0.5 if split.kind == "multilabel" else truth, classes),
        map(str, outputs.loss),
        prediction_cells(predictions, labels, classes),
        *rules,
        strict=True,
    )
    making = storage.temporary(file)
    with making.open("w", **TEXT) as out:
        rows = writer(out)
        head = ["file", "truth", "prediction", "loss", *probability_columns(classes, predictions.shape[1:])]
        rows.writerow([*head, *split.baselines])
        rows.writerows([name, true, said, loss, *more, *others] for name, true, loss, (said, *more), *others in columns)
    os.replace(making, file)
