"""The contracts: what a dataset, a model and a task are, and what a run carries from step to step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
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

    @property
    def is_image(self) -> bool:
        """Whether inputs are images: they have two sides, the windows of a series one."""
        return len(self.size) == 2

    def measured(self, inputs: np.ndarray) -> Preprocessing:
        """Return this one with the mean and deviation of the channels of inputs [N, …, C]; 1 where they do not vary."""
        values = inputs.astype(np.float64).reshape(-1, self.channels)
        std = [float(each) or 1.0 for each in values.std(axis=0)]
        return replace(self, mean=tuple(values.mean(axis=0).tolist()), std=tuple(std))

    def normalising(self, other: Preprocessing) -> Preprocessing:
        """Return this one with the mean and deviation of another, averaged or repeated where it has other channels."""
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
    `kind` says what the targets are: "classes", int [N], the class of each example; "tags", float32 [N, T], 1 for each
    tag that it has; or "numbers", float32 [N].
    `names` says where each input comes from (a file, an id); empty when they have no names of their own.
    Examples of one of the `groups` (int [N]) are never parted. In an `ordered` split the later ones are held out.
    `offsets` [N] are added to targets and predictions before they are judged; `baselines` are predictions by rules.
    """

    read: Callable[[np.ndarray], np.ndarray]
    targets: np.ndarray
    _: KW_ONLY
    kind: Kind
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
        """Return the split of those examples alone, in that order."""
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

    def judged(self, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return targets and predictions as they are judged: with what is added to both."""
        if self.offsets is None:
            return self.targets, predictions
        return self.targets + self.offsets, predictions + self.offsets

    @staticmethod
    def of(inputs: np.ndarray, targets: np.ndarray, *, kind: Kind, names: Sequence[str] = ()) -> Split:
        """Return the split of arrays in memory or mapped into it."""
        return Split(lambda chosen: inputs[chosen], targets, kind=kind, names=names)


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
        self, params: Tree, state: Tree, inputs: Array, /, *, add: Mapping[str, Array] = ..., attention: bool = ...
    ) -> dict[str, Array]: ...


class Adapt(Protocol):
    def __call__(self, params: Tree, state: Tree, inputs: Array, /) -> tuple[Tree, Tree]: ...


class Model(NamedTuple):
    """Pure functions. `init` gives (params, state), `apply` (outputs, state).

    `features` gives the named maps, "pooled" among them, and the "outputs" of evaluation; add[name] is added to a map,
    so that a gradient by it is the gradient by the map. With attention=True it gives each block's attention
    [B, heads, N, N] too, as "block1_attention", where there is any.
    `head` is the key of the last layer in params. `parts` are models that a task calls by name.
    Three fields give a model that differs in training alone, in any order; whoever replaces `apply` replaces them too.
    `freeze(modules)`: the modules of those paths keep to their stored statistics.
    `synchronize(axis)`: batch statistics are those of the whole batch, over all devices of the axis of that name.
    `remat()`: the maps of repeated blocks are computed again in the backward pass; None where there are no blocks.
    `adapt` fits (params, state) to training images before the first step: data-dependent initialisation.
    """

    init: Init
    apply: Apply
    features: Features | None = None
    head: str | None = None
    parts: Mapping[str, Model] | None = None
    freeze: Callable[[frozenset[str]], Model] | None = None
    adapt: Adapt | None = None
    synchronize: Callable[[str], Model] | None = None
    remat: Callable[[], Model] | None = None


class Loss(Protocol):
    def __call__(
        self, model: Model, params: Tree, state: Tree, batch: Batch, /, *, train: bool, key: Array | None
    ) -> tuple[dict[str, Array], Tree]: ...


class ExampleLoss(Protocol):
    """The values of each example, by name, and the model's new state: a task's loss in training, of one model."""

    def __call__(
        self, params: Tree, model_state: Tree, batch: Batch, key: Array | None, /
    ) -> tuple[dict[str, Array], Tree]: ...


Microbatch = Callable[[ExampleLoss, Tree, Tree, Batch, Array | None], tuple[Tree, dict[str, Array], Tree]]


class Gradient(NamedTuple):
    """A gradient rule. `microbatch(loss, params, state, batch, key)` gives summed gradients, the masked sum of each
    value, and the model's new state.

    `finish` gives the gradients that the optimizer sees, from the sums over all micro-batches and devices, the number
    of examples that are no padding, and a key: what is drawn there is drawn once a step. Parameters that are frozen are
    None. Under `pmap`, `microbatch` sees one device's share, and `axis_name` is the name of the axis of devices.
    """

    microbatch: Microbatch
    finish: Callable[[Tree, Array, Array], Tree]


class Describe(Protocol):
    def __call__(
        self, prediction: np.ndarray, decided: Any, /, *, classes: Sequence[str], top: int
    ) -> dict[str, Any]: ...


class Monitor(NamedTuple):
    """The figure of an evaluation that chooses among checkpoints and settings, and which way it is better."""

    name: str
    mode: Literal["max", "min"]

    def key(self, value: float) -> float:
        """Return a number that is larger for a better value; that of a value that is not finite is -inf.

        >>> Monitor("rmse", "min").key(2.0), Monitor("accuracy", "max").key(math.nan)
        (-2.0, -inf)
        """
        if not math.isfinite(value):
            return -math.inf
        return value if self.mode == "max" else -value


class Task(NamedTuple):
    """What is learned. `loss` gives one number for each example by name, "loss" among them, and the model's new state.

    `predict` gives what users ask for (probabilities [B, C], numbers [B]) of a batch, of which "inputs" are sure;
    `decide` what follows from predictions (class indices [B], tags [B, T]), `describe` one of them in plain words.
    `score` gives the figures of (targets, predictions) that each evaluation logs, `report` further ones, by class.
    `monitor` is what chooses a checkpoint; None keeps the last. `headline` names the figure that a command prints last,
    a key of what `loss`, `score` or `report` give; None leaves that place to the last of them.
    `baseline` names a trivial rule and gives its one prediction for whatever input, from the training targets.
    `choose` gives the thresholds that suit (targets, predictions) of validation; None where there are none to choose.
    """

    output_size: int
    loss: Loss
    predict: Callable[[Model, Tree, Tree, Batch], Array]
    decide: Callable[[np.ndarray], np.ndarray]
    describe: Describe
    score: Callable[[np.ndarray, np.ndarray], dict[str, float]]
    report: Callable[[np.ndarray, np.ndarray, Sequence[str]], dict[str, Any]]
    monitor: Monitor | None = None
    baseline: Callable[[np.ndarray], tuple[str, np.ndarray]] | None = None
    choose: Callable[[np.ndarray, np.ndarray], tuple[float, ...]] | None = None
    headline: str | None = None


class TrainState(NamedTuple):
    """All that a step needs and changes; saved whole. `ema` is None when off."""

    step: Array
    params: Tree
    model_state: Tree
    opt_state: Tree
    ema: Tree
    key: Array
