"""The contracts: what a dataset, a model and a task are, and what a run carries from step to step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np

Array = jax.Array
Tree = Any  # a nest of dicts, tuples and arrays
# "inputs" [B, …], "targets" [B, …] or [B, C] (soft), "mask" [B] (1 real, 0 padding); in training also, int32 [B],
# "index", the example's place in the split, and "epoch", how often it has been seen before.
Batch = dict[str, Any]
Augment = Callable[[Array, Batch], Batch]  # (key, batch) -> batch; inputs are float32 in 0..1
Decode = Callable[[int, np.random.Generator | None], np.ndarray]
Kind = Literal["classes", "tags", "numbers"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the input of a model: plain data, stored with the run.

    `size` is (height, width) in pixels. `crop` is the share of the largest centred rectangle of that aspect that is
    kept before resizing; None squashes the whole picture instead. `mean` and `std` are per channel, of pixels in 0..1.
    Windows of a series have the size (steps,), and are but normalised.
    """

    size: tuple[int, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float | None = 1.0
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ValueError(f"crop={self.crop}; wanted a share above 0 and up to 1, or None to squash")

    def measured(self, inputs: np.ndarray) -> Preprocessing:
        """Gives this one with the mean and deviation of the channels of inputs [N, …, C]; 1 where they do not vary."""
        values = inputs.astype(np.float64).reshape(-1, self.channels)
        std = [float(each) or 1.0 for each in values.std(axis=0)]
        return replace(self, mean=tuple(values.mean(axis=0).tolist()), std=tuple(std))

    def normalising(self, other: Preprocessing) -> Preprocessing:
        """Gives this one with the mean and deviation of another, averaged or repeated where it has other channels."""
        mean, std = (
            tuple(values) if len(values) == self.channels else (sum(values) / len(values),) * self.channels
            for values in (other.mean, other.std)
        )
        return replace(self, mean=mean, std=std)


@dataclass(frozen=True)
class Split:
    """One part of a dataset. `read(indices)` gives inputs: images [n, H, W, C], uint8 or float32 in 0..1, or rows.

    `decode(index, rng)` makes one input [H, W, C] anew, as training takes it; with a generator, it may be a random part
    of the picture, as `is_random` says. None where inputs are at hand.
    `targets` is int [N], the class of each example; or float32 [N, T], 1 for each tag that it has; or float32 [N],
    numbers. `names` says where each input comes from (a file, an id); empty when they have no names of their own.
    Examples of one of the `groups` (int [N]) are never parted. In an `ordered` split the later ones are held out.
    `offsets` [N] are added to targets and predictions before they are judged; `baselines` are predictions by rules.
    """

    read: Callable[[np.ndarray], np.ndarray]
    targets: np.ndarray
    names: Sequence[str] = ()
    groups: np.ndarray | None = None
    ordered: bool = False
    offsets: np.ndarray | None = None
    baselines: Mapping[str, np.ndarray] = field(default_factory=dict)
    decode: Decode | None = None
    is_random: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: np.ndarray) -> Split:
        """Gives the split of those examples alone, in that order."""
        decode = self.decode
        return replace(
            self,
            read=lambda chosen: self.read(indices[chosen]),
            targets=self.targets[indices],
            names=[self.names[int(i)] for i in indices] if len(self.names) else (),
            groups=None if self.groups is None else self.groups[indices],
            offsets=None if self.offsets is None else self.offsets[indices],
            baselines={name: values[indices] for name, values in self.baselines.items()},
            decode=None if decode is None else lambda chosen, rng: decode(int(indices[chosen]), rng),
        )

    def cut(self, fraction: float, *, seed: int) -> tuple[Split, Split]:
        """Cuts a share off: (the rest, the share), each class alike. A class of two examples or more is in both.

        Where examples have groups, a share of these is cut off; where they are ordered, the last of them.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"a share of {fraction} cannot be cut off; wanted one between 0 and 1 (test_fraction=…)")
        chosen = self._share(fraction, np.random.default_rng(seed))
        if not chosen.any() or chosen.all():
            raise ValueError(
                f"no share can be cut off {len(self)} examples, as no class has two of them: for validation, "
                "--validation_fraction=0 leaves it out"
            )
        return self.take(np.flatnonzero(~chosen)), self.take(np.flatnonzero(chosen))

    def _share(self, fraction: float, rng: np.random.Generator) -> np.ndarray:
        """Says of each example whether it is in the share."""
        chosen = np.zeros(len(self), bool)
        if self.ordered:
            chosen[len(self) - max(round(fraction * len(self)), 1) :] = True
        elif self.groups is not None:
            groups = rng.permutation(np.unique(self.groups))
            chosen = np.isin(self.groups, groups[: max(round(fraction * len(groups)), 1)])
        else:
            strata = self.targets if self.kind == "classes" else np.zeros(len(self), int)
            for stratum in np.unique(strata):
                members = rng.permutation(np.flatnonzero(strata == stratum))
                num_chosen = min(max(round(fraction * len(members)), 1), len(members) - 1)
                chosen[members[:num_chosen]] = True
        return chosen

    def fold(self, number: int, count: int, *, seed: int) -> tuple[Split, Split]:
        """Holds one of `count` equal folds out: (the rest, the fold of that number, from 1), each class alike.

        Over all numbers each example is held out once, and a group as a whole. Where examples are ordered, the rest is
        what precedes the fold, so that the first of count + 1 blocks is never held out.
        """
        folds = self._folds(count, np.random.default_rng(seed))
        rest = folds < number if self.ordered else folds != number
        return self.take(np.flatnonzero(rest)), self.take(np.flatnonzero(folds == number))

    def _folds(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Gives the number of each example's fold, from 1; 0 for those that are but learned from."""
        groups = np.unique(self.groups, return_inverse=True)[1] if self.groups is not None else np.arange(len(self))
        size = len(self) - 1 if self.ordered else int(groups.max(initial=-1)) + 1
        if not 1 < count <= size:
            raise ValueError(f"{len(self)} examples in {size} parts at most cannot be cut into {count} folds")
        if self.ordered:
            return np.arange(len(self)) * (count + 1) // len(self)
        order = rng.permutation(size)
        if self.groups is None and self.kind == "classes":  # class after class, so that each is dealt out evenly
            order = order[np.argsort(self.targets[order], kind="stable")]
        folds = np.empty(size, int)
        folds[order] = 1 + np.arange(size) % count
        return folds[groups]

    def joined(self, other: Split) -> Split:
        """Gives the split of these examples and, after them, another's of the same kind."""
        size = len(self)

        def read(chosen: np.ndarray) -> np.ndarray:
            order = np.argsort(chosen >= size, kind="stable")
            own, others = chosen[chosen < size], chosen[chosen >= size] - size
            parts = [part.read(places) for part, places in ((self, own), (other, others)) if len(places)]
            return np.concatenate(parts)[np.argsort(order)]

        def decode(chosen: int, rng: np.random.Generator | None) -> np.ndarray:
            part, place = (self, chosen) if chosen < size else (other, chosen - size)
            return part.read(np.array([place]))[0] if part.decode is None else part.decode(place, rng)

        def both(one: np.ndarray | None, two: np.ndarray | None) -> np.ndarray | None:
            return None if one is None or two is None else np.concatenate([one, two])

        return replace(
            self,
            read=read,
            targets=np.concatenate([self.targets, other.targets]),
            names=[*self.names, *other.names],
            groups=both(self.groups, other.groups),
            offsets=both(self.offsets, other.offsets),
            baselines={name: np.concatenate([each, other.baselines[name]]) for name, each in self.baselines.items()},
            decode=None if self.decode is None and other.decode is None else decode,
            is_random=self.is_random or other.is_random,
        )

    def judged(self, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gives targets and predictions as they are judged: with what is added to both."""
        if self.offsets is None:
            return self.targets, predictions
        return self.targets + self.offsets, predictions + self.offsets

    @property
    def kind(self) -> Kind:
        """What the targets are."""
        if np.issubdtype(self.targets.dtype, np.integer):
            return "classes"
        return "tags" if self.targets.ndim == 2 else "numbers"

    @staticmethod
    def of(inputs: np.ndarray, targets: np.ndarray, names: Sequence[str] = ()) -> Split:
        """Makes a split of arrays in memory or mapped into it."""
        return Split(lambda chosen: inputs[chosen], targets, names)


@dataclass(frozen=True)
class Targets:
    """What a task may know of the training targets without the data: stored with the run.

    `counts` has the examples of each class or with each tag, `num_examples` all; `mean` and `std` are those of numbers.
    """

    kind: Kind
    num_examples: int
    counts: tuple[int, ...] = ()
    mean: float = 0.0
    std: float = 1.0

    @staticmethod
    def of(split: Split, num_classes: int) -> Targets:
        """Counts or measures a split's targets."""
        if split.kind == "classes":
            counts = np.bincount(split.targets, minlength=num_classes)
            return Targets("classes", len(split), tuple(counts.tolist()))
        if split.kind == "tags":
            return Targets("tags", len(split), tuple(split.targets.sum(axis=0).astype(int).tolist()))
        values = split.targets.astype(np.float64)
        return Targets("numbers", len(split), mean=float(values.mean()), std=float(values.std()) or 1.0)


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


class Adapt(Protocol):
    def __call__(self, params: Tree, state: Tree, inputs: Array, /) -> tuple[Tree, Tree]: ...


class Model(NamedTuple):
    """Pure functions. `init` gives (params, state), `apply` (outputs, state).

    `features` gives the named maps and "pooled"; add[name] is added to a map, so that a gradient by it is the gradient
    by the map. `head` is the key of the last layer in params. `parts` are models that a task calls by name.
    `freeze(modules)` gives the model whose modules of those paths keep to their stored statistics in training.
    `adapt` fits (params, state) to training images before the first step: data-dependent initialisation.
    """

    init: Init
    apply: Apply
    features: Features | None = None
    head: str | None = None
    parts: Mapping[str, Model] | None = None
    freeze: Callable[[frozenset[str]], Model] | None = None
    adapt: Adapt | None = None


class Loss(Protocol):
    def __call__(
        self, model: Model, params: Tree, state: Tree, batch: Batch, /, *, train: bool, key: Array | None
    ) -> tuple[dict[str, Array], Tree]: ...


class Describe(Protocol):
    def __call__(
        self, prediction: np.ndarray, decided: Any, /, *, classes: Sequence[str], top: int
    ) -> dict[str, Any]: ...


class Task(NamedTuple):
    """What is learned. `loss` gives one number for each example by name, "loss" among them, and the model's new state.

    `predict` gives what users ask for (probabilities [B, C], numbers [B]), `decide` what follows from predictions
    (class indices [B], tags [B, T]), `describe` one of them in plain words and figures.
    `score` gives the figures of (targets, predictions) that each evaluation logs, `report` further ones, by class.
    `best` names the value or figure that chooses a checkpoint, and "max" or "min"; None keeps the last.
    `baseline` names a trivial rule and gives its one prediction for whatever input, from the training targets.
    `choose` gives the thresholds that suit (targets, predictions) of validation; None where there are none to choose.
    """

    output_size: int
    loss: Loss
    predict: Callable[[Model, Tree, Tree, Array], Array]
    decide: Callable[[np.ndarray], np.ndarray]
    describe: Describe
    score: Callable[[np.ndarray, np.ndarray], dict[str, float]]
    report: Callable[[np.ndarray, np.ndarray, Sequence[str]], dict[str, Any]]
    best: tuple[str, Literal["max", "min"]] | None
    baseline: Callable[[np.ndarray], tuple[str, np.ndarray]] | None = None
    choose: Callable[[np.ndarray, np.ndarray], tuple[float, ...]] | None = None


class TrainState(NamedTuple):
    """All that a step needs and changes; saved whole. `ema` is None when off."""

    step: Array
    params: Tree
    model_state: Tree
    opt_state: Tree
    ema: Tree
    key: Array
