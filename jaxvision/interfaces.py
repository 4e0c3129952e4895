"""The contracts: what a dataset, a model and a task are, and what a run carries from step to step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np

Array = jax.Array
Tree = Any  # a nest of dicts, tuples and arrays
Batch = dict[str, Any]  # "inputs" [B, …], "targets" [B, …] or [B, C] (soft), "mask" [B] (1 real, 0 padding)
Augment = Callable[[Array, Batch], Batch]  # (key, batch) -> batch; inputs are float32 in 0..1
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the input of a model: plain data, stored with the run.

    `size` is (height, width) in pixels. `crop` is the share of the largest centred rectangle of that aspect that is
    kept before resizing; None squashes the whole picture instead. `mean` and `std` are per channel, of pixels in 0..1.
    """

    size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float | None = 1.0
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ValueError(f"crop={self.crop}; wanted a share above 0 and up to 1, or None to squash")

    def normalising(self, other: Preprocessing) -> Preprocessing:
        """Gives this one with the mean and deviation of another, averaged or repeated where it has other channels."""
        mean, std = (
            tuple(values) if len(values) == self.channels else (sum(values) / len(values),) * self.channels
            for values in (other.mean, other.std)
        )
        return replace(self, mean=mean, std=std)


@dataclass(frozen=True)
class Split:
    """One part of a dataset. `read(indices)` gives inputs [n, H, W, C], uint8 or float32 in 0..1; `targets` is int [N].

    `names` says where each input comes from (a file, an id); empty when they have no names of their own.
    """

    read: Callable[[np.ndarray], np.ndarray]
    targets: np.ndarray
    names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: np.ndarray) -> Split:
        """Gives the split of those examples alone, in that order."""
        names = [self.names[int(i)] for i in indices] if len(self.names) else ()
        return Split(lambda chosen: self.read(indices[chosen]), self.targets[indices], names)

    def cut(self, fraction: float, *, seed: int) -> tuple[Split, Split]:
        """Cuts a share of each class off: (the rest, the share). A class of two examples or more is in both."""
        if not 0 < fraction < 1:
            raise ValueError(f"a share of {fraction} cannot be cut off; wanted one between 0 and 1 (test_fraction=…)")
        rng = np.random.default_rng(seed)
        chosen = np.zeros(len(self), bool)
        for target in np.unique(self.targets):
            members = rng.permutation(np.flatnonzero(self.targets == target))
            num_chosen = min(max(round(fraction * len(members)), 1), len(members) - 1)
            chosen[members[:num_chosen]] = True
        if not chosen.any():
            raise ValueError(
                f"no share can be cut off {len(self)} examples, as no class has two of them: for validation, "
                "--validation_fraction=0 leaves it out"
            )
        return self.take(np.flatnonzero(~chosen)), self.take(np.flatnonzero(chosen))

    def few(self, per_class: int, *, seed: int) -> Split:
        """Draws so many examples of each class. Raises ValueError where a class has fewer."""
        if per_class < 1:
            raise ValueError(f"per_class={per_class}; wanted a number of training examples of each class, 1 or more")
        targets, counts = np.unique(self.targets, return_counts=True)
        if counts.min() < per_class:
            rarest = targets[counts.argmin()]
            raise ValueError(f"per_class={per_class}, but class {rarest} has {counts.min()} training examples")
        rng = np.random.default_rng(seed)
        chosen = [rng.permutation(np.flatnonzero(self.targets == target))[:per_class] for target in targets]
        return self.take(np.sort(np.concatenate(chosen)))

    @staticmethod
    def of(inputs: np.ndarray, targets: np.ndarray, names: Sequence[str] = ()) -> Split:
        """Makes a split of arrays in memory or mapped into it."""
        return Split(lambda chosen: inputs[chosen], targets, names)


class Dataset(NamedTuple):
    """Splits, apart from each other; `validation` or `test` is None where there is none."""

    train: Split
    validation: Split | None
    test: Split | None
    classes: tuple[str, ...]
    preprocessing: Preprocessing


class Init(Protocol):
    def __call__(self, key: Array, inputs: Array, /) -> tuple[Tree, Tree]: ...


class Apply(Protocol):
    def __call__(
        self, params: Tree, state: Tree, inputs: Array, /, *, train: bool, key: Array | None
    ) -> tuple[Array, Tree]: ...


class Features(Protocol):
    def __call__(
        self, params: Tree, state: Tree, inputs: Array, /, *, add: Mapping[str, Array] = ...
    ) -> dict[str, Array]: ...


class Model(NamedTuple):
    """Pure functions. `init` gives (params, state), `apply` (outputs, state).

    `features` gives the named maps and "pooled"; add[name] is added to a map, so that a gradient by it is the gradient
    by the map. `head` is the key of the last layer in params. `parts` are models that a task calls by name.
    `freeze(modules)` gives the model whose modules of those paths keep to their stored statistics in training.
    """

    init: Init
    apply: Apply
    features: Features | None = None
    head: str | None = None
    parts: Mapping[str, Model] | None = None
    freeze: Callable[[frozenset[str]], Model] | None = None


class Loss(Protocol):
    def __call__(
        self, model: Model, params: Tree, state: Tree, batch: Batch, /, *, train: bool, key: Array | None
    ) -> tuple[dict[str, Array], Tree]: ...


class Task(NamedTuple):
    """What is learned. `loss` gives one number for each example by name, "loss" among them, and the model's new state.

    `predict` gives what users ask for (probabilities [B, C]). `decide` turns predictions into class indices [B].
    `report` judges (targets, predictions, classes) by figures that are not means over examples.
    `best` names the value that chooses a checkpoint, and "max" or "min"; None keeps the last.
    """

    output_size: int
    loss: Loss
    predict: Callable[[Model, Tree, Tree, Array], Array]
    decide: Callable[[np.ndarray], np.ndarray]
    report: Callable[[np.ndarray, np.ndarray, Sequence[str]], dict[str, Any]]
    best: tuple[str, Literal["max", "min"]] | None


class TrainState(NamedTuple):
    """All that a step needs and changes; saved whole. `ema` is None when off."""

    step: Array
    params: Tree
    model_state: Tree
    opt_state: Tree
    ema: Tree
    key: Array
