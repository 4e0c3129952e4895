"""The command list."""

from __future__ import annotations

from jaxvision.cli.command import command
from jaxvision.cli.errors import UsageError, require
from jaxvision.registry import REGISTRIES, Registry
from jaxvision.specs import nearest

FACTS = ("num_parameters", "input_size", "num_classes", "weights")  # shown if the registration states them


@command("list", group="Other")
def list_registered(*kind_and_pattern: str) -> None:
    """List the registered models, datasets, tasks, losses, optimizers and so on.

    Args:
        kind_and_pattern: a kind, and a pattern that names must match

    Examples:
        jaxvision list
        jaxvision list models 'resnet*'
        jaxvision list losses --plugins=my_loss.py
    """
    require(
        len(kind_and_pattern) < 3,
        f"list accepts a kind and a pattern, as in list models 'resnet*', not {len(kind_and_pattern)} words",
    )
    kind, pattern = (*kind_and_pattern, None, None)[:2]
    if kind is not None and kind not in REGISTRIES:
        raise UsageError(f"unknown kind {kind!r}{nearest(kind, REGISTRIES)}; the kinds are {', '.join(REGISTRIES)}")
    for plural in [kind] if kind else REGISTRIES:
        registry = REGISTRIES[plural]
        names = registry.names(pattern or "*")
        if not names:
            raise UsageError(f"no name in {plural} matches {pattern!r}{nearest(str(pattern), registry.names())}")
        if not kind:
            print(f"{plural}:")
        for name in names:
            print(f"  {registry.signature(name)}\n      {registry.entry(name).summary}{_metadata(registry, name)}")


def _metadata(registry: Registry, name: str) -> str:
    """Return the metadata of an entry in brackets, or nothing if there are none."""
    metadata = {k: v for k, v in registry.entry(name).metadata.items() if k in FACTS}
    rate = registry.default(name, "learning_rate")
    if rate is not None:
        metadata["learning_rate"] = rate
    shown = ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in metadata.items())
    return f" [{shown}]" if shown else ""
