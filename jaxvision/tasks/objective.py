"""The loss that a task trains on, by its spec."""

from __future__ import annotations

from typing import Annotated, Any

from jaxvision import registry, specs
from jaxvision.interfaces import Targets
from jaxvision.registry import SpecOf

LossSpec = Annotated[str, SpecOf("loss")]


def training_loss(spec: str, *, activation: str, num_classes: int, targets: Targets | None) -> Any:
    """Build the loss that a spec names. Raises ValueError where it is for other outputs than those of the task."""
    entries = {name: registry.losses.entry(name) for name in registry.losses.names()}
    name = specs.parse(spec).name
    wanted = registry.losses.entry(name).facts.get("activation", activation)
    if wanted != activation:
        fitting = [each for each, entry in entries.items() if entry.facts.get("activation", activation) == activation]
        raise ValueError(
            f"the loss {name!r} is for outputs of a {wanted}, and this task's are of a {activation}: "
            f"use {' or '.join(fitting)}"
        )
    return registry.losses.build(spec, activation=activation, num_classes=num_classes, targets=targets)
