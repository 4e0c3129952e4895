"""What a run is: one flat, frozen dataclass, to and from JSON. Where and how it runs is not part of it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jaxvision.registry import nearest


def write_json(path: Path, values: Any) -> None:
    """Writes values as JSON; a kill leaves the file as it was, or whole."""
    making = path.with_name(f".{path.name}.tmp")
    making.write_text(json.dumps(values, indent=2) + "\n")
    os.replace(making, path)


def _field(default: Any, help: str, *, may_change: bool = False) -> Any:
    return field(default=default, metadata={"help": help, "may_change": may_change})


@dataclass(frozen=True)
class Config:
    """All that decides what is learned. Specs are strings such as `cnn(channels=(64, 128), dropout=0.2)`."""

    model: str = _field("cnn", "model spec")
    dataset: str = _field("digits", "dataset spec")
    task: str = _field("multiclass", "task spec")
    init_from: str | None = _field(
        None, "weights to begin with: pretrained, a workdir, a folder, a .safetensors or .pth file, hf://owner/name"
    )
    freeze: str = _field("", "what is not trained: backbone (all but the head), or paths as 'stem_*, stage1_*'")
    cache_features: bool = _field(False, "where all but the head is frozen: compute the features of all images once")
    optimizer: str = _field("adam", "optimizer spec")
    schedule: str = _field("cosine", "learning-rate schedule spec")
    learning_rate: float | None = _field(None, "peak learning rate; by default the optimizer's own")
    layer_decay: float | None = _field(None, "factor of the learning rate from each layer to the one below it")
    clip_norm: float | None = _field(None, "largest global norm of the gradient; none by default")
    augment: str = _field("", "comma-separated augment specs, in order")
    sampling: Literal["shuffled", "balanced"] = _field(
        "shuffled", "each example once an epoch, or each class equally often"
    )
    batch_size: int = _field(128, "examples at once, over all devices")
    accumulate: int = _field(1, "batches whose gradients make one step: as one batch so many times as large")
    epochs: int = _field(10, "passes over the training split", may_change=True)
    steps: int | None = _field(None, "training steps; beats epochs", may_change=True)
    precision: Literal["f32", "bf16", "f64"] = _field("f32", "of computation; f64 is for comparing numbers")
    ema: float | None = _field(None, "decay of an average of the parameters, which is then what is judged")
    seed: int = _field(0, "seed of parameters, data order, augmentation and dropout")
    split_seed: int = _field(0, "seed of the cuts between train, validation and test")
    validation_fraction: float = _field(0.1, "share of train that is cut off where a set has no validation split")
    fold: str = _field("", "as 2/5: validation is the second of five equal parts of train, and of validation if any")
    eval_every: int | None = _field(
        None, "steps between evaluations on validation; by default an epoch", may_change=True
    )
    patience: int | None = _field(
        None, "evaluations without a better one after which training ends early", may_change=True
    )
    views: Literal["one", "mirrored", "mirrored_shifted"] = _field(
        "one", "versions of an image whose outputs evaluation and prediction average", may_change=True
    )
    eval_batch_size: int = _field(256, "examples a step in evaluation and prediction", may_change=True)
    save_every: int | None = _field(None, "steps between further saves; each evaluation saves too", may_change=True)
    keep: int = _field(2, "newest checkpoints that are kept beside the best", may_change=True)
    on_nonfinite: Literal["stop", "skip"] = _field(
        "stop", "what a step does whose loss or gradient is not finite", may_change=True
    )
    on_bad_image: Literal["error", "skip"] = _field("error", "what an unreadable image file does")
    mesh: str = _field("", "devices by axis, as data=2,fsdp=4; by default all on data", may_change=True)
    parallel: Literal["jit", "pmap"] = _field("jit", "what compiles the step for many devices", may_change=True)
    remat: bool = _field(
        False, "compute maps of deep models again in the backward pass to save memory", may_change=True
    )

    def __post_init__(self) -> None:
        import typeguard

        for name, hint in typing.get_type_hints(Config).items():
            value = getattr(self, name)
            try:
                typeguard.check_type(value, hint)
            except typeguard.TypeCheckError:
                raise TypeError(f"{name}={value!r} is not {describe(hint)}") from None
        for name in (
            "batch_size",
            "accumulate",
            "epochs",
            "steps",
            "eval_every",
            "eval_batch_size",
            "save_every",
            "keep",
            "patience",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        for name in ("seed", "split_seed"):
            if not 0 <= getattr(self, name) < 2**32:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and below 2**32")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction={self.validation_fraction} must be at least 0 and below 1")
        fold = re.fullmatch(r"(\d{1,6})/(\d{1,6})", self.fold)
        if self.fold and not (fold and 1 <= int(fold[1]) <= int(fold[2]) and int(fold[2]) > 1):
            raise ValueError(f"fold={self.fold!r} must be a number of how many, as 2/5, or empty")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema={self.ema} must be above 0 and below 1, as 0.999")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay={self.layer_decay} must be above 0 and up to 1, as 0.75")
        if self.cache_features and (not self.freeze or self.augment):
            why = (
                f"augment={self.augment!r} makes them new each time" if self.augment else "freeze='backbone' is wanted"
            )
            raise ValueError(f"cache_features=True keeps the features of a frozen backbone: {why}")
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value} must be above 0")

    def replace(self, **changes: Any) -> Config:
        """Gives a copy with other values. Raises ValueError for a field that does not exist."""
        for name in changes:
            if name not in FIELDS:
                raise ValueError(f"Config has no field {name!r}{nearest(name, FIELDS)}; it has {', '.join(FIELDS)}")
        return dataclasses.replace(self, **changes)

    @property
    def step_size(self) -> int:
        """Examples that one step learns from: the batches it accumulates, together."""
        return self.batch_size * self.accumulate

    def differences(self, other: Config) -> dict[str, tuple[Any, Any]]:
        """Lists the fields that differ: name -> (ours, the other's)."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in FIELDS}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def save(self, path: Path) -> None:
        """Writes the fields as JSON."""
        write_json(path, dataclasses.asdict(self))

    @staticmethod
    def load(path: Path) -> Config:
        """Reads what `save` wrote. Raises ValueError where it is damaged or has unknown fields."""
        try:
            values = dict(json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        return Config().replace(**values)


FIELDS = {f.name: f for f in dataclasses.fields(Config)}
HINTS = typing.get_type_hints(Config)


def describe(hint: Any) -> str:
    """Says in words what a field accepts."""
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(typing.get_args(hint))
    names = {int: "a whole number", float: "a number", str: "a string", bool: "True or False", type(None): "None"}
    return " or ".join(names[kind] for kind in typing.get_args(hint) or (hint,))
