"""Fields of dataclasses <-> absl flags, the flags that several commands share, and the parsing of a command line."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field
from typing import Any

from absl import flags

from jaxvision.cli.errors import UsageError, words_of
from jaxvision.config import Config, Execution, describe, fields_of, hints_of
from jaxvision.specs import literals, nearest

Argv = Sequence[str]
Fields = type | Mapping[str, Field]

PARSERS = {int: flags.IntegerParser(), float: flags.FloatParser(), str: flags.ArgumentParser()}
DEFINE = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string, bool: flags.DEFINE_bool}
HINTS = {**hints_of(Config), **hints_of(Execution)}


class _OrNone(flags.ArgumentParser):
    """A parser of a value or of None: what an experiment sets can be taken back."""

    def __init__(self, parser: flags.ArgumentParser):
        super().__init__()
        self._parser = parser

    def parse(self, argument: Any) -> Any:
        return None if argument == "None" else self._parser.parse(argument)

    def flag_type(self) -> str:
        return self._parser.flag_type()


def define_fields(values: flags.FlagValues, fields: Fields, hints: Mapping[str, Any] | None = None) -> None:
    """Define one flag for each field, of the field's type.

    `fields` is a dataclass, all of whose fields become flags, or some fields by name, of Config and Execution or else
    of the dataclass whose types `hints` gives.
    """
    if isinstance(fields, type):
        fields, hints = fields_of(fields), hints_of(fields)
    for name, field in fields.items():
        hint = (hints or HINTS)[name]
        shown = "none" if field.default in (None, "") else field.default
        help = f"{field.metadata['help']} (default: {shown})"
        kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)]
        if typing.get_origin(hint) is typing.Literal:
            flags.DEFINE_enum(name, None, list(kinds), help, flag_values=values)
        elif type(None) in typing.get_args(hint):
            parser = _OrNone(PARSERS[kinds[0]])
            flags.DEFINE(parser, name, None, help, values, flags.ArgumentSerializer())
        else:
            DEFINE[kinds[0]](name, None, help, flag_values=values)


def define_settings(values: flags.FlagValues, *, without: Iterable[str] = ()) -> None:
    """Define the flags of all fields of Config and of Execution, but for those named."""
    fields = {**fields_of(Config), **fields_of(Execution)}
    define_fields(values, {name: field for name, field in fields.items() if name not in without})


def define_places(values: flags.FlagValues) -> None:
    """Define the flags that say where data are and which modules register more."""
    flags.DEFINE_string("data_dir", None, "where TensorFlow Datasets are kept (default: its own)", flag_values=values)
    flags.DEFINE_list("plugins", [], "modules or .py files that register more, by commas", flag_values=values)


def define_processes(values: flags.FlagValues) -> None:
    """Define the flags by which the processes of a run find each other, and `deterministic`."""
    help = "of a run of several processes; found by itself under SLURM, Open MPI, Kubernetes and on TPU pods"
    flags.DEFINE_string("coordinator", None, f"host:port of process 0 {help}", flag_values=values)
    flags.DEFINE_integer("num_processes", None, f"how many there are, {help}", flag_values=values)
    flags.DEFINE_integer("process_id", None, f"which this is, from 0, {help}", flag_values=values)
    flags.DEFINE_bool("deterministic", False, "repeatable on GPUs too, which is slower", flag_values=values)


def given(values: flags.FlagValues, fields: type | Iterable[str]) -> dict[str, Any]:
    """Return the values of those fields, of a dataclass or by name, that the command line sets."""
    names = fields_of(fields) if isinstance(fields, type) else fields
    return {name: values[name].value for name in names if name in values and values[name].present}


def parse(
    verb: str, usage: str, define: Callable[[flags.FlagValues], None], argv: Argv
) -> tuple[flags.FlagValues, list[str]]:
    """Parse a command line and return (flags, the other words). Print help and end for --help.

    Raise UsageError for a flag that does not exist, with the nearest, and for a value of the wrong type.
    """
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "print this help", flag_values=values, short_name="h", allow_override=True)
    define(values)
    try:
        rest = values([verb, *argv])[1:]
    except flags.UnrecognizedFlagError as error:
        close = difflib.get_close_matches(error.flagname, _names(values), n=1)
        hint = f"; did you mean --{close[0]}?" if close else ""
        command = " ".join(words_of(verb))
        raise UsageError(f"unknown flag --{error.flagname}{hint} ({command} --help lists all)") from None
    except flags.Error as error:
        raise UsageError(_what_is_wrong(error)) from None
    if values["help"].value:
        print(f"{usage}\n")
        for name in sorted(_names(values)):
            print(f"  --{name:20} {values[name].help}")
        raise SystemExit(0)
    return values, rest


def _names(values: flags.FlagValues) -> list[str]:
    return [name for name in values if len(name) > 1]


def _what_is_wrong(error: flags.Error) -> str:
    """Say what a value is not, for a field of Config or Execution in its own words."""
    wrong = re.match(r"flag --(\w+)=(.*?): ", str(error), re.DOTALL)
    if not isinstance(error, flags.IllegalFlagValueError) or not wrong or wrong[1] not in HINTS:
        return " ".join(str(error).split())
    hint = HINTS[wrong[1]]
    return f"--{wrong[1]}={wrong[2]} is not {describe(hint)}{nearest(wrong[2], literals(hint))}"


def require_no_words(verb: str, rest: Sequence[str]) -> None:
    """Raise UsageError where a command that takes flags alone was given other words."""
    if rest:
        command = " ".join(words_of(verb))
        raise UsageError(f"{command} takes flags alone, as in --model=cnn; what is {rest[0]!r}?")
