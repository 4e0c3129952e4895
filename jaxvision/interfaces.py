"""The contracts of datasets, models, tasks and gradient rules, and the state that training carries between steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np

Array = jax.Array
Tree = Any  # a nest of dicts, tuples and arrays
# "inputs" [B, …], "targets" [B, …] or [B, C] (soft), "mask" [B] (1 real, 0 padding). In training also int32 [B]:
# "index", the position of the example in the split, and "epoch", the number of the current epoch, from 0.
Batch = dict[str, Any]
Augment = Callable[[Array, Batch], Batch]  # (key, batch) -> batch; inputs are float32 in 0..1
Decode = Callable[[int, np.random.Generator | None], np.ndarray]
Kind = Literal["multiclass", "multilabel", "continuous"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Crop = float | Literal["pad"] | None
Resize = Literal["short_side", "crop_first"]
LEAST_STD = 1e-6  # of pixels in 0..1; smaller ones would turn them into numbers that no network was trained on
LEAST_CROP = 1e-3  # the short side is resized to the size divided by it
LARGEST = 1e30  # of the statistics of a time series, in float32


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a model: plain data, stored with the run.

    `size` is (height, width) in pixels. With a fraction in (0, 1] as `crop` (`crop_pct` in timm), the short side is
    resized to the size divided by the fraction, and the center is kept, with the rounding of torchvision and timm. None
    resizes the whole image without keeping its aspect ratio; "pad" keeps both, and fills the borders. `resize` is
    "crop_first" in runs of versions before 0.4, which cropped before they resized. `mean` and `std` are per channel,
    for pixels in 0..1. Windows of a time series have the size (steps,) and are only normalized.
    """

    size: tuple[int, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: Crop = 1.0
    interpolation: Interpolation = "bilinear"
    resize: Resize = "short_side"

    def __post_init__(self) -> None:
        if self.crop not in (None, "pad") and (isinstance(self.crop, str) or not LEAST_CROP <= self.crop <= 1):
            raise ValueError(f"crop={self.crop!r}; expected a fraction from {LEAST_CROP} to 1, 'pad', or None")
        is_shaped = len(self.size) in (1, 2) and min(*self.size, self.channels) >= 1
        largest, least = (1.0, LEAST_STD) if self.is_image else (LARGEST, 1 / LARGEST)
        is_scaled = all(abs(mean) <= largest for mean in self.mean) and all(least <= std <= LARGEST for std in self.std)
        if not is_shaped or not is_scaled or not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"{self}; expected a size, channels, and per channel a mean up to {largest}, std > {least}"
            )

    @property
    def is_image(self) -> bool:
        """Whether inputs are images, with height and width, rather than windows of a time series."""
        return len(self.size) == 2


@dataclass(frozen=True)
class Split:
    """One part of a dataset. `read(indices)` returns inputs: images [n, H, W, C], uint8 or float32 in 0..1, or
    windows of a time series [n, steps, C].

    `decode(index, rng)` returns one input [H, W, C] for training. Given a generator it may return a random part of the
    image; `is_random` states whether it does. None if inputs are in memory.

    `kind` is the type of the targets: "multiclass", class indices, int [N]; "multilabel", 1 for each label that an
    example has, float32 [N, T]; or "continuous", numbers, float32 [N].

    `names` are the sources of the inputs (files, ids), empty if they have none. Examples of the same group (`groups`,
    int [N]) stay in one split. If `ordered`, the last examples are held out. `offsets` [N] are added to targets and
    predictions before metrics are computed. `baselines` are the predictions of simple rules,
    `columns` what else is known of the examples, as strings [N] by name.
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
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    decode: Decode | None = None
    is_random: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def select(self, indices: np.ndarray) -> Split:
        """Return the split of only those examples, in that order."""
        decode = self.decode
        return replace(
            self,
            read=lambda chosen: self.read(indices[chosen]),
            targets=self.targets[indices],
            names=[self.names[int(i)] for i in indices] if len(self.names) else (),
            groups=None if self.groups is None else self.groups[indices],
            offsets=None if self.offsets is None else self.offsets[indices],
            baselines={name: values[indices] for name, values in self.baselines.items()},
            columns={name: values[indices] for name, values in self.columns.items()},
            decode=None if decode is None else lambda chosen, rng: decode(int(indices[chosen]), rng),
        )

    def in_original_units(self, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return targets and predictions in original units (offsets added back)."""
        if self.offsets is None:
            return self.targets, predictions
        return self.targets + self.offsets, predictions + self.offsets

    @staticmethod
    def of(inputs: np.ndarray, targets: np.ndarray, *, kind: Kind, names: Sequence[str] = ()) -> Split:
        """Return the split of arrays in memory or memory-mapped."""
        return Split(lambda chosen: inputs[chosen], targets, kind=kind, names=names)


@dataclass(frozen=True)
class TargetStats:
    """Statistics of the training targets, stored with the run, so that a task can be built without the data.

    `counts` are the numbers of examples of each class or with each label, `num_examples` that of all. `mean` and `std`
    are those of continuous targets. `classes` are the names of the classes while a task is built, and not stored here.
    """

    kind: Kind
    num_examples: int
    counts: tuple[int, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    classes: tuple[str, ...] = ()


class Dataset(NamedTuple):
    """Disjoint splits; `validation` or `test` is None if there is none.

    `notes` are lines about the data that training and `dataset_report` print: where each split comes from, what was
    left out.
    """

    train: Split
    validation: Split | None
    test: Split | None
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()


Init = Callable[[Array, Array], tuple[Tree, Tree]]  # (key, inputs) -> (params, state)


class Apply(Protocol):
    def __call__(
        self, params: Tree, state: Tree, inputs: Array, /, *, train: bool, key: Array | None
    ) -> tuple[Array, Tree]: ...


class Features(Protocol):
    def __call__(
        self, params: Tree, state: Tree, inputs: Array, /, *, add: Mapping[str, Array] = ..., attention: bool = ...
    ) -> dict[str, Array]: ...


Adapt = Callable[[Tree, Tree, Array], tuple[Tree, Tree]]  # (params, state, inputs) -> (params, state)


class Model(NamedTuple):
    """Pure functions. `init` returns (params, state), `apply` returns (outputs, state).

    `features` returns named feature maps, among them "pooled", and the "outputs" of evaluation. add[name] is added to a
    map, so that the gradient with respect to it is the gradient with respect to the map. With attention=True it also
    returns the attention of each block, "block1_attention" [B, heads, N, N] and so on, if the model has attention.

    `head` is the key of the last layer in params. `parts` are models that a task calls by name.

    Three fields return a variant that differs only in training. They can be combined in any order; code that replaces
    `apply` must replace them too. `freeze(modules)`: the modules at those paths use their stored statistics.
    `synchronize(axis)`: batch statistics are computed over all devices of that axis. `remat()`: feature maps of
    repeated blocks are recomputed in the backward pass; None if the model has no blocks.

    `adapt` fits (params, state) to training images before the first step (data-dependent initialization).
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
    """A task's training loss for one model: the values of each example by name, and the new model state."""

    def __call__(
        self, params: Tree, model_state: Tree, batch: Batch, key: Array | None, /
    ) -> tuple[dict[str, Array], Tree]: ...


Microbatch = Callable[[ExampleLoss, Tree, Tree, Batch, Array | None], tuple[Tree, dict[str, Array], Tree]]


class Gradient(NamedTuple):
    """A gradient rule. `microbatch(loss, params, state, batch, key)` returns the summed gradients, the masked sum of
    each value, and the new model state.

    `finish` computes the gradients for the optimizer from the sums over all microbatches and devices, the number of
    examples without padding, and a key; what it samples is sampled once per step. Gradients of frozen parameters are
    None. Under `pmap`, `microbatch` sees the part of the batch on one device, and `axis_name` is the name of the device
    axis.
    """

    microbatch: Microbatch
    finish: Callable[[Tree, Array, Array], Tree]


class Describe(Protocol):
    def __call__(
        self, prediction: np.ndarray, predicted: Any, /, *, classes: Sequence[str], top: int
    ) -> dict[str, Any]: ...


class Monitor(NamedTuple):
    """The metric that selects checkpoints and configurations, and whether larger or smaller is better."""

    name: str
    mode: Literal["max", "min"]

    def key(self, value: float) -> float:
        """Return a number that is larger for better values; -inf for values that are not finite.

        >>> Monitor("rmse", "min").key(2.0), Monitor("accuracy", "max").key(math.nan)
        (-2.0, -inf)
        """
        if not math.isfinite(value):
            return -math.inf
        return value if self.mode == "max" else -value


class Outputs(NamedTuple):
    """What evaluation keeps of each example: its prediction, its loss, and the task's `logits`, if it has them."""

    predictions: Any
    loss: Any
    logits: Any = None


class Task(NamedTuple):
    """What is learned. `loss` returns one number per example by name, "loss" among them, and the new model state.

    `predict` returns probabilities [B, C] or numbers [B] for a batch, in which only "inputs" is guaranteed.
    `predict_labels` returns the labels of predictions (class indices [B], 0/1 labels [B, T]). `describe` returns one
    prediction as a dict of plain values.

    `score` computes the metrics of (targets, predictions) that every evaluation logs, `report` further ones, by class.

    `logits` returns the log odds of predicted probabilities [B, T], or of the second of two classes [B]. They rank
    examples whose probabilities round to 0 or 1. Evaluation passes them to `score` and `report` if these name `logits`.

    `monitor` selects the checkpoint; None keeps the last one. `headline` names the metric that a command prints last, a
    key of the values of `loss`, `score` or `report`; None stands for the last of them.

    `baseline` returns the name of a trivial baseline and its constant prediction, computed from the training targets.

    `fit_thresholds` returns the best thresholds for (targets, predictions) of validation; None if the task fits none.
    """

    output_size: int
    loss: Loss
    predict: Callable[[Model, Tree, Tree, Batch], Array]
    predict_labels: Callable[[np.ndarray], np.ndarray]
    describe: Describe
    score: Callable[[np.ndarray, np.ndarray], dict[str, float]]
    report: Callable[[np.ndarray, np.ndarray, Sequence[str]], dict[str, Any]]
    monitor: Monitor | None = None
    baseline: Callable[[np.ndarray], tuple[str, np.ndarray]] | None = None
    fit_thresholds: Callable[[np.ndarray, np.ndarray], tuple[float, ...]] | None = None
    headline: str | None = None
    logits: Callable[[Model, Tree, Tree, Batch], Array] | None = None


class TrainState(NamedTuple):
    """All that a training step reads and updates; saved as a whole. `ema` is None if the config has no EMA."""

    step: Array
    params: Tree
    model_state: Tree
    opt_state: Tree
    ema: Tree
    key: Array
