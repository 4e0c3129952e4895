"""The command list."""

from __future__ import annotations

import fnmatch

from jaxvision.cli.command import command
from jaxvision.cli.errors import UsageError, require
from jaxvision.cli.experiments import experiment_summaries
from jaxvision.registry import REGISTRIES, Registry
from jaxvision.specs import nearest

EXPERIMENTS = "experiments"
FACTS = ("num_parameters", "input_size", "num_classes", "weights")  # shown if the registration states them


@command("list", group="Other", prints=True)
def list_registered(*kind_and_pattern: str) -> None:
    """List the registered models, datasets, tasks, losses, optimizers and so on, or the experiments.

    Args:
        kind_and_pattern: a kind, in singular or plural, and a pattern that names must match

    Examples:
        jaxvision list
        jaxvision list models 'resnet*'
        jaxvision list losses --plugins=my_loss.py
        jaxvision list experiments
    """
    require(
        len(kind_and_pattern) < 3,
        f"list accepts a kind and a pattern, as in list models 'resnet*', not {len(kind_and_pattern)} words",
    )
    kind, pattern = (*kind_and_pattern, None, None)[:2]
    kind = next((plural for plural, each in REGISTRIES.items() if kind == each.kind), kind)
    if kind in ("experiment", EXPERIMENTS):
        return _list_experiments(pattern or "*")
    kinds = [*REGISTRIES, EXPERIMENTS]
    if kind is not None and kind not in kinds:
        raise UsageError(f"unknown kind {kind!r}{nearest(kind, kinds)}; the kinds are {', '.join(kinds)}")
    for plural in [kind] if kind else REGISTRIES:
        registry = REGISTRIES[plural]
        names = registry.names(pattern or "*")
        if not names:
            raise UsageError(f"no name in {plural} matches {pattern!r}{nearest(str(pattern), registry.names())}")
        if not kind:
            print(f"{plural}:")
        for name in names:
            print(f"  {registry.signature(name)}\n      {registry.entry(name).summary}{_metadata(registry, name)}")


def _list_experiments(pattern: str) -> None:
    """Print the names of the experiments that match a pattern, with their first lines."""
    summaries = experiment_summaries()
    names = fnmatch.filter(sorted(summaries), pattern)
    if not names:
        raise UsageError(f"no name in {EXPERIMENTS} matches {pattern!r}{nearest(pattern, summaries)}")
    for name in names:
        print(f"  {name}\n      {summaries[name]}")


def _metadata(registry: Registry, name: str) -> str:
    """Return the metadata of an entry in brackets, or nothing if there are none."""
    metadata = {k: v for k, v in registry.entry(name).metadata.items() if k in FACTS}
    rate = registry.default(name, "learning_rate")
    if rate is not None:
        metadata["learning_rate"] = rate
    shown = ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in metadata.items())
    return f" [{shown}]" if shown else ""
