"""Flags of the scripts: defined by a function or by the fields of a dataclass, parsed like those of a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field
from typing import Any

from absl import flags

from jaxvision.cli.errors import UsageError
from jaxvision.cli.flags import define_flag, entry, parse_flags


def parse(
    name: str, usage: str, define: Callable[[flags.FlagValues], None], argv: Sequence[str]
) -> tuple[flags.FlagValues, list[str]]:
    """Parse a command line and return (flags, other words). Prints the help and exits for --help."""
    values = flags.FlagValues()
    define(values)
    if any(word in ("--help", "-h") for word in argv):
        print("\n".join([usage, "", *(entry(each, values[each].help, values[each].default) for each in values)]))
        raise SystemExit(0)
    return values, parse_flags(name, values, argv)


def require_no_words(name: str, rest: Sequence[str]) -> None:
    """Raise UsageError if a script that accepts only flags gets other words."""
    if rest:
        raise UsageError(f"python {name} accepts only flags, as in --quick, not {rest[0]!r}")


def define_fields(values: flags.FlagValues, fields: Mapping[str, Field], hints: Mapping[str, Any]) -> None:
    """Define a flag for each field of a dataclass, with its type and help."""
    for name, field in fields.items():
        define_flag(values, name, hints[name], None, f"{field.metadata['help']} (default: {field.default})")
