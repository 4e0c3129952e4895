"""What a run learns (`Config`) and where and how it runs (`Execution`): flat, frozen dataclasses, to and from JSON."""

from __future__ import annotations

import dataclasses
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from jaxvision import storage
from jaxvision.specs import nearest, parse_list

VERSION = 2  # of config.json and execution.json; files of 0.1 state none, and are of version 1


def _field(default: Any, help: str, *, may_change: bool = False, **limits: Any) -> Any:
    """Defines a field. `limits` are `least`, `above`, `below` and `most`: the bounds of its number."""
    return field(default=default, metadata={"help": help, "may_change": may_change, "limits": limits})


Settings = TypeVar("Settings", bound="_Settings")


@dataclass(frozen=True)
class _Settings:
    """What both kinds share: checks by types and limits, copies, differences."""

    def __post_init__(self) -> None:
        import typeguard

        hints = hints_of(type(self))
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            try:
                typeguard.check_type(value, hints[each.name])
            except typeguard.TypeCheckError:
                raise TypeError(f"{each.name}={value!r} is not {describe(hints[each.name])}") from None
            if value is not None and not _is_within(value, **each.metadata["limits"]):
                raise ValueError(f"{each.name}={value} must be {_limits(**each.metadata['limits'])}")

    def replace(self: Settings, **changes: Any) -> Settings:
        """Gives a copy with other values. Raises ValueError for a field that does not exist."""
        name, known = type(self).__name__, [each.name for each in dataclasses.fields(self)]
        for change in changes:
            if change not in known:
                other = Execution if isinstance(self, Config) else Config
                if change in fields_of(other):
                    raise ValueError(f"{name} has no field {change!r}: it is one of {other.__name__}")
                raise ValueError(f"{name} has no field {change!r}{nearest(change, known)}; it has {', '.join(known)}")
        return dataclasses.replace(self, **changes)

    def differences(self: Settings, other: Settings) -> dict[str, tuple[Any, Any]]:
        """Lists the fields that differ: name -> (ours, the other's)."""
        pairs = {each.name: (getattr(self, each.name), getattr(other, each.name)) for each in dataclasses.fields(self)}
        return {name: pair for name, pair in pairs.items() if not is_same(name, *pair)}

    def save(self, path: Path) -> None:
        """Writes the fields as JSON, with the version of the file."""
        storage.write_json(path, {"version": VERSION, **dataclasses.asdict(self)})


@dataclass(frozen=True)
class Config(_Settings):
    """All that decides what is learned. Specs are strings such as `cnn(channels=(64, 128), dropout=0.2)`."""

    model: str = _field("cnn", "model spec")
    dataset: str = _field("digits", "dataset spec")
    task: str = _field("multiclass", "task spec")
    init_from: str | None = _field(
        None, "weights to begin with: pretrained, a workdir, a folder, a .safetensors or .pth file, hf://owner/name"
    )
    freeze: str = _field("", "what is not trained: backbone (all but the head), or paths as 'stem_*, stage1_*'")
    cache_features: bool = _field(False, "where all but the head is frozen: compute the features of all images once")
    gradient: str = _field("mean", "gradient rule spec")
    optimizer: str = _field("adam", "optimizer spec")
    schedule: str = _field("cosine", "learning-rate schedule spec")
    learning_rate: float | None = _field(None, "peak learning rate; by default the optimizer's own", above=0)
    layer_decay: float | None = _field(
        None, "factor of the learning rate from each layer to the one below it", above=0, most=1, example=0.75
    )
    clip_norm: float | None = _field(None, "largest global norm of the gradient; none by default", above=0)
    augment: str = _field("", "comma-separated augment specs, in order")
    sampling: Literal["shuffled", "balanced"] = _field(
        "shuffled", "each example once an epoch, or each class equally often"
    )
    batch_size: int = _field(128, "examples at once, over all devices", least=1)
    accumulate: int = _field(1, "batches whose gradients make one step: as one batch so many times as large", least=1)
    epochs: int = _field(10, "passes over the training split", may_change=True, least=1)
    steps: int | None = _field(None, "training steps; beats epochs", may_change=True, least=1)
    precision: Literal["f32", "bf16", "f64"] = _field("f32", "of computation; f64 is for comparing numbers")
    ema: float | None = _field(
        None, "decay of an average of the parameters, which is then what is judged", above=0, below=1, example=0.999
    )
    seed: int = _field(0, "seed of parameters, data order, augmentation and dropout", least=0, below=2**32)
    split_seed: int = _field(0, "seed of the cuts between train, validation and test", least=0, below=2**32)
    validation_fraction: float = _field(
        0.1, "share of train that is cut off where a set has no validation split", least=0, below=1
    )
    fold: str = _field("", "as 2/5: validation is the second of five equal parts of train, and of validation if any")
    eval_every: int | None = _field(
        None, "steps between evaluations on validation; by default an epoch", may_change=True, least=1
    )
    patience: int | None = _field(
        None, "evaluations without a better one after which training ends early", may_change=True, least=1
    )
    on_bad_image: Literal["error", "skip"] = _field("error", "what an unreadable image file does")

    def __post_init__(self) -> None:
        super().__post_init__()
        fold = re.fullmatch(r"(\d{1,6})/(\d{1,6})", self.fold)
        if self.fold and not (fold and 1 <= int(fold[1]) <= int(fold[2]) and int(fold[2]) > 1):
            raise ValueError(f"fold={self.fold!r} must be a number of how many, as 2/5, or empty")
        if self.cache_features and (not self.freeze or self.augment):
            why = (
                f"augment={self.augment!r} makes them new each time" if self.augment else "freeze='backbone' is wanted"
            )
            raise ValueError(f"cache_features=True keeps the features of a frozen backbone: {why}")

    @property
    def step_size(self) -> int:
        """Examples that one step learns from: the batches it accumulates, together."""
        return self.batch_size * self.accumulate

    @staticmethod
    def load(path: Path) -> Config:
        """Reads what `save` wrote, now or in an older version. Raises ValueError where it is damaged."""
        return Config().replace(**read_settings(path))


@dataclass(frozen=True)
class Execution(_Settings):
    """Where and how a run is carried out: saved with it, and free to change when it is resumed."""

    mesh: str = _field("", "devices by axis, as data=2,fsdp=4; by default all on data", may_change=True)
    parallel: Literal["jit", "pmap"] = _field("jit", "what compiles the step for many devices", may_change=True)
    remat: bool = _field(
        False, "compute maps of deep models again in the backward pass to save memory", may_change=True
    )
    views: Literal["one", "mirrored", "mirrored_shifted"] = _field(
        "one", "versions of an image whose outputs evaluation and prediction average", may_change=True
    )
    eval_batch_size: int = _field(256, "examples a step in evaluation and prediction", may_change=True, least=1)
    save_every: int | None = _field(
        None, "steps between further saves; each evaluation saves too", may_change=True, least=1
    )
    keep: int = _field(2, "newest checkpoints that are kept beside the best", may_change=True, least=1)
    on_nonfinite: Literal["stop", "skip"] = _field(
        "stop", "what a step does whose loss or gradient is not finite", may_change=True
    )

    @staticmethod
    def load(path: Path) -> Execution:
        """Reads what `save` wrote. In a workdir of version 1, these fields stand in config.json beside the path."""
        if path.exists():
            return Execution().replace(**read_settings(path))
        values = storage.read_json(path.with_name("config.json"))
        if values.get("version", 1) != 1:
            raise ValueError(
                f"no {path.name} in {str(path.parent)!r}, which says how its run was carried out: copy it too"
            )
        return Execution().replace(**{name: values[name] for name in fields_of(Execution) if name in values})


def read_settings(path: Path) -> dict[str, Any]:
    """Return the fields in a file, under today's names where an older version wrote it.

    Raise ValueError where it is damaged, or of a version that is not known yet.
    """
    values = storage.read_json(path)
    version = values.pop("version", 1)
    if not isinstance(version, int) or version > VERSION:
        raise ValueError(f"{path} has version {version!r}, and this jaxvision reads up to {VERSION}: use a newer one")
    if version == VERSION:
        return values
    from jaxvision.upgrades import upgrade

    return upgrade(values, since=version, now=VERSION)


SPECS = ("model", "dataset", "task", "gradient", "optimizer", "schedule", "augment")


def is_same(name: str, one: Any, other: Any) -> bool:
    """Say whether two values of a field mean the same: specs may differ in blanks and quotes."""
    if name not in SPECS or not isinstance(one, str) or not isinstance(other, str):
        return one == other
    return one == other or parse_list(one) == parse_list(other)


def _is_within(value: Any, *, least=None, above=None, below=None, most=None, example=None) -> bool:
    return (
        (least is None or value >= least)
        and (above is None or value > above)
        and (below is None or value < below)
        and (most is None or value <= most)
    )


def _limits(*, least=None, above=None, below=None, most=None, example=None) -> str:
    """Says what a number must be: "above 0 and below 1, as 0.999"."""
    bounds = {"at least": least, "above": above, "below": below, "up to": most}
    words = [f"{word} {'2**32' if bound == 2**32 else bound}" for word, bound in bounds.items() if bound is not None]
    return " and ".join(words) + (f", as {example}" if example is not None else "")


def fields_of(kind: type) -> dict[str, dataclasses.Field]:
    """The fields of Config or Execution, by name."""
    return {each.name: each for each in dataclasses.fields(kind)}


def hints_of(kind: type) -> dict[str, Any]:
    """The types of the fields of Config or Execution, by name."""
    return typing.get_type_hints(kind)


DEFAULT_EXECUTION = Execution()
FIELDS = fields_of(Config)
HINTS = hints_of(Config)


def describe(hint: Any) -> str:
    """Return in words what a field accepts."""
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(typing.get_args(hint))
    names = {int: "a whole number", float: "a number", str: "a string", bool: "True or False", type(None): "None"}
    return " or ".join(names[kind] for kind in typing.get_args(hint) or (hint,))
