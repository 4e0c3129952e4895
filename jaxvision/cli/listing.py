"""The command list: what can be named, by kind."""

from __future__ import annotations

from jaxvision.cli.errors import UsageError, require
from jaxvision.cli.flags import Argv, define_places, parse
from jaxvision.plugins import load_plugins
from jaxvision.registry import REGISTRIES, Registry
from jaxvision.specs import nearest

SHOWN = ("num_parameters", "input_size", "num_classes", "weights")  # of the facts that registrations state


def list_registered(argv: Argv) -> None:
    """List names: jaxvision list [models|datasets|tasks|losses|gradients|optimizers|schedules|augments] [PATTERN]"""
    values, rest = parse("list", list_registered.__doc__ or "", define_places, argv)
    load_plugins(values.plugins)
    kind, pattern = (rest[0] if rest else None), (rest[1] if len(rest) > 1 else "*")
    require(len(rest) < 3, f"list takes a kind and one pattern, as in list models 'resnet*', not {len(rest)} words")
    if kind is not None and kind not in REGISTRIES:
        raise UsageError(f"unknown kind {kind!r}{nearest(kind, REGISTRIES)}; the kinds are {', '.join(REGISTRIES)}")
    for each in [kind] if kind else REGISTRIES:
        listed = REGISTRIES[each]
        names = listed.names(pattern)
        if not names:
            raise UsageError(f"none of the {each} matches {pattern!r}{nearest(pattern, listed.names())}")
        if not kind:
            print(f"{each}:")
        for name in names:
            print(f"  {listed.signature(name)}\n      {listed.entry(name).summary}{_facts(listed, name)}")


def _facts(listed: Registry, name: str) -> str:
    """Write the facts of an entry in brackets, or nothing where there are none."""
    facts = {k: v for k, v in listed.entry(name).facts.items() if k in SHOWN}
    rate = listed.default(name, "learning_rate")
    if rate is not None:
        facts["learning_rate"] = rate
    shown = ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in facts.items())
    return f" [{shown}]" if shown else ""
