"""Check the specs of a run before its data are opened."""

from __future__ import annotations

import importlib.util

from jaxvision import failures, registry, specs
from jaxvision.config import Config, Execution
from jaxvision.data import is_in_memory
from jaxvision.distributed import mesh as meshes


def check_specs(config: Config, execution: Execution, *, is_dataset_named: bool) -> None:
    """Raise ValueError or TypeError for unknown names, wrong arguments, missing packages and meshes."""
    meshes.make_mesh(execution.mesh)
    for kind in (registry.models, registry.tasks, registry.gradients, registry.optimizers, registry.schedules):
        kind.check(getattr(config, kind.kind))
    for kind, text in ((registry.augmentations, config.augmentations), (registry.loggers, execution.loggers)):
        for spec in specs.parse_list(text):
            kind.check(spec)
            needed = kind.entry(spec.name).metadata
            if "package" in needed and not importlib.util.find_spec(needed["package"]):
                raise ValueError(failures.missing_package(kind.kind, spec.name, **needed))
    if is_dataset_named and not is_in_memory(config.dataset):
        registry.datasets.check(config.dataset)
