"""What the page shows, as plain data: its sections are functions of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxvision.config import Config, Execution
from jaxvision.engine.logs import Row
from jaxvision.interfaces import Outputs, Split, Task
from jaxvision.near_duplicates import Pair
from jaxvision.workdir import Signature

MOST_WIDE = 2**24  # probabilities that are widened to float64, a limit on memory
Form = Literal["classes", "labels", "numbers", "images", "other"]


class RunFacts(NamedTuple):
    """What the page states of a run: its settings, and what its workdir knows of the data and the versions."""

    config: Config
    execution: Execution
    signature: Signature


class Features(NamedTuple):
    """Pooled features: of examples of the split, float32 [M, D], and of examples of the training split."""

    indices: np.ndarray
    values: np.ndarray
    train_indices: np.ndarray
    train_values: np.ndarray


class Example(NamedTuple):
    """What is shown of an example besides its image: its heat map [H, W] and the nearest training examples."""

    heat_map: np.ndarray | None
    neighbors: Sequence[int]


class PageData(NamedTuple):
    """A report, the split and the outputs that it is about, and what was computed for the page alone.

    `predicted` are the labels of the predictions. Without `has_images` the page shows none. `run` is None for an
    ensemble. `columns` are properties of the examples by name, numbers with NaN or strings with "" where unknown.
    `pairs` are the near-duplicates in `splits`, None if they were not searched. The probabilities in `outputs` are
    those that `predict` returns, at the temperature of the report if it has one.
    """

    report: Mapping[str, Any]
    rows: Sequence[Row]
    split: Split
    outputs: Outputs
    task: Task
    classes: Sequence[str]
    predicted: np.ndarray
    has_images: bool = True
    run: RunFacts | None = None
    columns: Mapping[str, np.ndarray] = {}
    pairs: Sequence[Pair] | None = None
    splits: Mapping[str, Split] = {}
    train: Split | None = None
    features: Features | None = None
    examples: Mapping[int, Example] = {}

    @property
    def form(self) -> Form:
        """Return what the predictions are: probabilities of classes or labels, numbers, generated images, or other."""
        predictions, kind = np.asarray(self.outputs.predictions), self.split.kind
        if predictions.ndim == 4:
            return "images"
        if predictions.ndim == 2 and predictions.shape[1] == len(self.classes):
            if kind == "multiclass":
                return "classes"
            if kind == "multilabel":
                return "labels"
        return "numbers" if kind == "continuous" and predictions.ndim == 1 else "other"

    @property
    def probabilities(self) -> np.ndarray:
        """Return the predictions [N, C] in float64, or very many as they are."""
        predictions = np.asarray(self.outputs.predictions)
        return predictions.astype(np.float64) if predictions.size <= MOST_WIDE else predictions

    @property
    def correct(self) -> np.ndarray:
        """Return whether each predicted class is the target, [N]; for labels, whether all of them are."""
        targets = self.split.targets
        return (self.predicted == (targets >= 0.5)).all(axis=1) if self.form == "labels" else self.predicted == targets

    @property
    def confidence(self) -> np.ndarray:
        """Return the probability of each predicted class, [N]."""
        return self.probabilities[np.arange(len(self.predicted)), self.predicted]

    @property
    def are_pictures(self) -> bool:
        """Whether the inputs are images, with height and width."""
        return self.run is None or self.run.signature.preprocessing.is_image

    @property
    def noun(self) -> str:
        """Return what an example is called."""
        return "image" if self.are_pictures and not self.split.ordered else "example"

    def name(self, index: int) -> str:
        """Return the name of an example: its file without folders, or its number in the split."""
        if len(self.split.names):
            return Path(str(self.split.names[index])).name
        return f"{self.report['split']} {index}"
