"""Settings that an older version wrote, read under today's names."""

from __future__ import annotations

from typing import Any

from jaxvision import specs

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


def upgrade(values: dict[str, Any], *, since: int, now: int) -> dict[str, Any]:
    """Return fields of version `since` under the names of version `now`, without those that moved to the other file."""
    for version in range(since, now):
        names = {name: RENAMES[version].get(name, name) for name in values}
        values = {new: values[old] for old, new in names.items() if new is not None}
    if since < 2 and isinstance(values.get("task"), str):
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
