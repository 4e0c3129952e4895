"""Settings that an older version wrote, read under today's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxvision import specs, storage

VERSION = 2  # of config.json and execution.json; files of 0.1 state none, and are of version 1
RENAMES: dict[int, dict[str, str | None]] = {  # of fields since a version; None: it moved to the other file
    1: dict.fromkeys(
        ("views", "eval_batch_size", "save_every", "keep", "on_nonfinite", "mesh", "parallel", "remat"), None
    )
}
OPTIONS_OF_0_1 = {  # by task, all by name as the losses have them, but for focal, which was the exponent
    "multiclass": ("label_smoothing", "class_weights", "beta", "focal", "logit_adjustment"),
    "binary": ("label_smoothing", "class_weights", "beta", "focal"),
    "multilabel": ("positive_weight", "focal"),
}


def read_settings(path: Path) -> dict[str, Any]:
    """Return the fields in a file under today's names, without those that moved to the other file.

    Raise ValueError where it is damaged, or of a version that is not known yet.
    """
    values = storage.read_json(path)
    version = values.pop("version", 1)
    if not isinstance(version, int) or version > VERSION:
        raise ValueError(f"{path} has version {version!r}, and this jaxvision reads up to {VERSION}: use a newer one")
    for since in range(version, VERSION):
        names = {name: RENAMES[since].get(name, name) for name in values}
        values = {new: values[old] for old, new in names.items() if new is not None}
    if version < 2 and isinstance(values.get("task"), str):
        values["task"] = upgrade_task_spec(values["task"])
    return values


def upgrade_task_spec(spec: str) -> str:
    """Return a task spec of version 0.1 as it is written now: what belongs to the loss moves into it.

    >>> upgrade_task_spec("multiclass(focal=2.0, label_smoothing=0.1, best='loss')")
    "multiclass(best='loss', loss='focal(gamma=2.0, label_smoothing=0.1)')"
    >>> upgrade_task_spec("regression(loss='huber')")
    "regression(loss='huber')"
    """
    name, arguments = specs.parse(spec)
    moved = {key: value for key, value in arguments.items() if key in OPTIONS_OF_0_1.get(name, ())}
    if not moved:
        return spec
    kept = {key: value for key, value in arguments.items() if key not in moved}
    gamma = moved.pop("focal", 0.0)
    loss = specs.Spec("focal", {"gamma": gamma, **moved}) if gamma else specs.Spec("cross_entropy", moved)
    return str(specs.Spec(name, {**kept, "loss": str(loss)} if loss.arguments else kept))
