"""The training loss of a task, built from its spec."""

from __future__ import annotations

from typing import Annotated, Any

from jaxvision import registry, specs
from jaxvision.interfaces import TargetStats
from jaxvision.registry import SpecOf

LossSpec = Annotated[str, SpecOf("loss")]


def training_loss(spec: str, *, activation: str, num_classes: int, targets: TargetStats | None) -> Any:
    """Build the loss that a spec names. Raises ValueError if it is for another activation than the task's."""
    entries = {name: registry.losses.entry(name) for name in registry.losses.names()}
    name = specs.parse(spec).name
    required = registry.losses.entry(name).metadata.get("activation", activation)
    if required != activation:
        fitting = [
            loss_name
            for loss_name, entry in entries.items()
            if entry.metadata.get("activation", activation) == activation
        ]
        raise ValueError(
            f"the loss {name!r} is for {required} outputs, but this task has {activation} outputs; "
            f"use {' or '.join(fitting)}"
        )
    return registry.losses.build(spec, activation=activation, num_classes=num_classes, targets=targets)
