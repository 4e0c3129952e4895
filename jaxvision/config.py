"""The settings of a run, as flat, frozen dataclasses: `Config`, what is learned, and `Execution`, where and how."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from jaxvision import schemas, storage

VERSION = 5  # of config.json and execution.json; version 0.1 wrote one file without a version, which counts as 1


def _field(default: Any, help: str, *, may_change: bool = False, **limits: Any) -> Any:
    """Define a field. `limits` are its bounds (`least`, `above`, `below`, `most`) and an `example` for messages."""
    limits = {"below": 2**31 if "least" in limits else math.inf, **limits} if limits else limits
    return field(default=default, metadata={"help": help, "may_change": may_change, "limits": limits})


Settings = TypeVar("Settings", bound="_Settings")


def _names_are_checked(cls: type) -> type:
    """Make the constructor raise ValueError for an unknown field, with the nearest name."""
    construct = cls.__init__

    @functools.wraps(construct)
    def init(self: Any, *values: Any, **named: Any) -> None:
        _check_names(cls, named)
        construct(self, *values, **named)

    cls.__init__ = init
    return cls


def _check_names(cls: type, names: Iterable[str]) -> None:
    for name in names:
        if name not in fields_of(cls):
            from jaxvision import hints

            raise ValueError(f"{cls.__name__} has no field {name!r}{hints.for_field(cls, name)}")


@dataclass(frozen=True)
class _Settings:
    """What both kinds share: checks by types and limits, copies, differences."""

    def __post_init__(self) -> None:
        types = hints_of(type(self))
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            try:
                schemas.check_type(value, types[each.name])
            except TypeError:
                from jaxvision import hints

                raise TypeError(f"{each.name}={value!r} is not {hints.describe(types[each.name])}") from None
            if value not in (None, "auto") and not _is_within(value, **each.metadata["limits"]):
                from jaxvision import hints

                raise ValueError(f"{each.name}={value} must be {hints.limits(each.metadata['limits'])}")

    def replace(self: Settings, **changes: Any) -> Settings:
        """Return a copy with other values. Raises ValueError for a field that does not exist."""
        _check_names(type(self), changes)
        return dataclasses.replace(self, **changes)

    def differences(self: Settings, other: Settings) -> dict[str, tuple[Any, Any]]:
        """Return the fields that differ: name -> (this value, the other's)."""
        pairs = {each.name: (getattr(self, each.name), getattr(other, each.name)) for each in dataclasses.fields(self)}
        return {name: pair for name, pair in pairs.items() if not is_same(name, *pair)}

    def save(self, path: Path) -> None:
        """Write the fields as JSON, with the version of the file format."""
        storage.write_json(path, {"version": VERSION, **dataclasses.asdict(self)}, has_digest=True)


@_names_are_checked
@dataclass(frozen=True)
class Config(_Settings):
    """What is learned. Specs are strings such as `cnn(channels=(64, 128), dropout=0.2)`."""

    model: str = _field("cnn", "model spec")
    dataset: str = _field("digits", "dataset spec")
    task: str = _field("multiclass", "task spec, with its loss: multiclass(loss='focal(gamma=2)')")
    init_from: str | None = _field(
        None, "initial weights: pretrained, workdir, folder, .safetensors or .pth file, hf://owner/name or package:NAME"
    )
    head_init: Literal["new", "probe"] = _field("new", "first head: new, or probe, a logistic regression on features")
    freeze: str = _field("", "what to freeze: backbone (all but the head), batch_norm, or patterns, 'stem_*, stage1_*'")
    cache_features: bool = _field(False, "with a frozen backbone: compute the features of all images once")
    gradient: str = _field("mean", "gradient rule spec, mean or sam")
    optimizer: str = _field("adam", "optimizer spec")
    schedule: str = _field("cosine", "learning-rate schedule spec")
    learning_rate: float | Literal["auto"] | None = _field(
        None, "peak learning rate; if unset, the optimizer's default; auto: by a range test before training", above=0
    )
    layer_decay: float | None = _field(
        None, "layer-wise learning-rate decay, from the last layer down", above=0, most=1, example=0.75
    )
    grad_clip_norm: float | None = _field(None, "maximum global norm of the gradient", above=0)
    augmentations: str = _field("", "comma-separated augmentation specs, applied in order")
    sampling: Literal["shuffled", "balanced"] = _field(
        "shuffled", "each example once an epoch, or all classes equally often"
    )
    batch_size: int = _field(128, "examples in a batch, over all devices", least=1)
    grad_accum_steps: int = _field(1, "microbatches of batch_size per optimizer step", least=1)
    epochs: int = _field(10, "passes over the training split", may_change=True, least=1)
    steps: int | None = _field(None, "optimizer steps; overrides epochs", may_change=True, least=1)
    precision: Literal["f32", "bf16", "f64"] = _field("f32", "precision of the computation; f64 is for tests")
    ema: float | None = _field(
        None, "decay of the parameters' moving average (EMA), which is evaluated", above=0, below=1, example=0.999
    )
    ema_warmup: Literal["tensorflow", "timm", "none"] = _field("tensorflow", "rise of the EMA's decay")
    seed: int = _field(0, "seed of initialization, data order, augmentation and dropout", least=0, below=2**32)
    split_seed: int = _field(0, "seed of the train/validation/test split", least=0, below=2**32)
    validation_fraction: float = _field(0.1, "fraction of train held out as validation", least=0, below=1)
    fold: str = _field("", "cross-validation: 2/5 validates on the second of five folds of train and validation")
    eval_every: int | None = _field(None, "steps between evaluations; if unset, each epoch", may_change=True, least=1)
    checkpoint_rule: Literal["auto", "best", "last"] = _field(
        "auto", "checkpoint that counts: best on validation, last, or auto, by the size of validation", may_change=True
    )
    patience: int | None = _field(None, "early stopping: evaluations without improvement", may_change=True, least=1)
    on_bad_image: Literal["error", "skip"] = _field("error", "what to do with an unreadable image file")
    max_image_pixels: int = _field(100_000_000, "pixels that an image file may have, a limit on memory", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        fold = re.fullmatch(r"(\d{1,6})/(\d{1,6})", self.fold)
        if self.fold and not (fold and 1 <= int(fold[1]) <= int(fold[2]) and int(fold[2]) > 1):
            raise ValueError(f"fold={self.fold!r} must be a fold and the number of folds, as in 2/5, or empty")
        if self.head_init == "probe" and self.init_from is None:
            raise ValueError("head_init='probe' fits the head to pretrained features: set init_from")
        if self.cache_features and (not self.freeze or self.augmentations):
            why = f"augmentations={self.augmentations!r} change them" if self.augmentations else "set freeze='backbone'"
            raise ValueError(f"cache_features=True needs features that never change: {why}")

    @property
    def effective_batch_size(self) -> int:
        """The number of examples of one step: batch_size times grad_accum_steps."""
        return self.batch_size * self.grad_accum_steps

    @staticmethod
    def load(path: Path) -> Config:
        """Read what this or an older version saved. Raises ValueError if the file is damaged."""
        values, version = _read_settings(path)
        if version == 1:
            values = {name: value for name, value in values.items() if name not in fields_of(Execution)}
        return _construct(Config, values, path)


@_names_are_checked
@dataclass(frozen=True)
class Execution(_Settings):
    """Where and how a run is carried out: saved with it, and free to change on resume, except `tta`."""

    mesh: str = _field("", "devices per mesh axis: data=2,fsdp=4; if unset, all on data", may_change=True)
    parallel: Literal["jit", "pmap"] = _field("jit", "how a step is parallelized over devices", may_change=True)
    remat: bool = _field(
        False, "recompute activations of repeated blocks in the backward pass to save memory", may_change=True
    )
    tta: Literal["none", "flip", "flip_shift"] = _field(
        "none", "test-time augmentation: average the outputs of flipped and shifted copies"
    )
    eval_batch_size: int = _field(256, "batch size of evaluation and prediction", may_change=True, least=1)
    save_every: int | None = _field(
        None, "steps between checkpoints, in addition to those of evaluations", may_change=True, least=1
    )
    max_to_keep: int = _field(2, "latest checkpoints to keep, in addition to the best", may_change=True, least=1)
    on_nonfinite: Literal["stop", "skip"] = _field("stop", "if a loss or gradient is not finite", may_change=True)
    no_images: bool = _field(False, "leave images out of the report, as photographs of people", may_change=True)
    loggers: str = _field("", "loggers beside metrics.jsonl; if unset, TensorBoard where installed", may_change=True)

    @staticmethod
    def load(path: Path) -> Execution:
        """Read what was saved. In a workdir of version 0.1, the fields are in config.json beside the path."""
        if path.exists():
            return _construct(Execution, _read_settings(path)[0], path)
        from jaxvision.upgrades import execution_beside

        return _construct(Execution, execution_beside(path, *_read_settings(path.with_name("config.json"))), path)


def _read_settings(path: Path) -> tuple[dict[str, Any], int]:
    """Return the fields in a file, under today's names, and the version of the file.

    Raises ValueError if the file is damaged, or of a version that this package does not know.
    """
    values, version = storage.read_json(path, _under_todays_names)
    if type(version) is not int or not 1 <= version <= VERSION:
        from jaxvision import hints

        raise ValueError(hints.other_version(path, version, VERSION))
    return values, version


def _under_todays_names(values: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    version = values.pop("version", 1)
    if version not in range(1, VERSION):
        return values, version
    from jaxvision.upgrades import upgrade_saved

    return upgrade_saved(values, version), version


def _construct(kind: type[Settings], values: dict[str, Any], path: Path) -> Settings:
    """Return settings with the values of a file. Raises ValueError that names the file and the first wrong value."""
    try:
        return kind().replace(**values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


SPECS = ("model", "dataset", "task", "gradient", "optimizer", "schedule", "augmentations")


def is_same(name: str, one: Any, other: Any) -> bool:
    """Return whether two values of a field mean the same: specs may differ in spaces, quotes and order."""
    if one == other or name not in SPECS or not isinstance(one, str) or not isinstance(other, str):
        return one == other
    from jaxvision.spec_equality import normalize

    return normalize(one) == normalize(other)


def _is_within(value: Any, *, least=None, above=None, below=None, most=None, example=None) -> bool:
    return (
        (not isinstance(value, float) or math.isfinite(value))
        and (least is None or value >= least)
        and (above is None or value > above)
        and (below is None or value < below)
        and (most is None or value <= most)
    )


def fields_of(kind: type) -> dict[str, dataclasses.Field]:
    """Return the fields of Config or Execution, by name."""
    return {each.name: each for each in dataclasses.fields(kind)}


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
    """Return the types of the fields of Config or Execution, by name."""
    return typing.get_type_hints(kind)


DEFAULT_EXECUTION = Execution()
FIELDS = fields_of(Config)
HINTS = hints_of(Config)
