"""Commands: functions whose arguments become flags and whose docstring becomes the help.

A function with `@command()` in a file of `jaxvision/cli/commands/`, or in a plugin, is a command.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import typing
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxvision.cli.experiments import Experiment

GROUPS = ("Train", "Use a trained run", "Look at data", "Other")


class Argument(NamedTuple):
    """An argument of a command: its type without None, its default, and its help from the docstring."""

    name: str
    kind: Any
    default: Any
    help: str
    is_positional: bool  # without --


class Command(NamedTuple):
    """A function that the command line can call.

    `fields` names the settings of Config and Execution that are its flags; None for all. If `resumes`, the settings of
    the run in --workdir are the defaults. If `is_distributed`, several processes can run it together. `required` are
    settings without which, or an experiment, the command is refused. If `prints`, its product is what it prints: it
    ends when the reader of that has gone, as after `| head`, where others drop it and finish their files.
    """

    name: str
    function: Callable[..., Any]
    group: str
    fields: tuple[str, ...] | None
    resumes: bool
    is_distributed: bool
    required: tuple[str, ...] = ()
    prints: bool = False

    @property
    def summary(self) -> str:
        """Return the first sentence of the docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def examples(self) -> list[str]:
        """Return the lines of the section Examples."""
        return [line for line in _sections(self.function).get("Examples", "").splitlines() if line.strip()]

    @property
    def takes_settings(self) -> bool:
        """Whether the command takes an experiment, and therefore the settings as flags."""
        return any(hint is Experiment for hint in _hints(self.function).values())

    @property
    def arguments(self) -> list[Argument]:
        """Return the arguments that are flags or words, in order."""
        hints, texts = _hints(self.function), _argument_texts(_sections(self.function).get("Args", ""))
        return [
            Argument(p.name, _without_none(hints[p.name]), p.default, texts[p.name], p.kind is p.VAR_POSITIONAL)
            for p in inspect.signature(self.function).parameters.values()
            if hints[p.name] is not Experiment and p.name != "plugins"
        ]

    @property
    def takes_plugins(self) -> bool:
        """Whether the function has the argument plugins; all commands have the flag."""
        return "plugins" in inspect.signature(self.function).parameters


_commands: dict[str, Command] = {}


def command(
    name: str | None = None,
    *,
    group: str = "Other",
    fields: tuple[str, ...] | None = (),
    resumes: bool = False,
    is_distributed: bool = False,
    required: tuple[str, ...] = (),
    prints: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a command.

    Its keyword-only arguments are flags, `*names` are words. An argument of the type `Experiment` receives the
    experiment with all settings that the command line changes.

    Args:
        name: The name of the command; by default that of the function.
        group: The heading of the command in the list of commands.
        fields: The settings of Config and Execution that are flags; None for all.
        resumes: Whether the settings of the run in --workdir are the defaults.
        is_distributed: Whether several processes can run it together.
        required: The settings that the command line must set, unless it names an experiment.
        prints: Whether its product is what it prints, without whose reader it ends.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        settings = {"fields": fields, "resumes": resumes, "is_distributed": is_distributed, "required": required}
        new_command = Command(name or function.__name__, function, group, **settings, prints=prints)
        missing = [argument.name for argument in new_command.arguments if not argument.help]
        if missing or not new_command.summary:
            raise ValueError(
                f"the command {new_command.name!r} needs a docstring with help for {', '.join(missing) or 'itself'}"
            )
        _commands[new_command.name] = new_command
        return function

    return decorate


def registered() -> list[Command]:
    """Return the commands that are registered so far."""
    return [*_commands.values()]


def commands() -> dict[str, Command]:
    """Return all commands by name, in the order of their groups."""
    home = importlib.import_module("jaxvision.cli.commands")
    for module in pkgutil.iter_modules(home.__path__):
        importlib.import_module(f"{home.__name__}.{module.name}")
    order = {group: number for number, group in enumerate(GROUPS)}
    return dict(sorted(_commands.items(), key=lambda each: order.get(each[1].group, len(order))))


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(function)


def _without_none(hint: Any) -> Any:
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    return kinds[0] if type(None) in typing.get_args(hint) else hint


def _sections(function: Callable[..., Any]) -> dict[str, str]:
    """Return the sections of a docstring in Google's style, by heading, with their indentation removed."""
    parts = re.split(r"^(Args|Examples|Returns|Raises):\n", inspect.getdoc(function) or "", flags=re.MULTILINE)
    return {head: inspect.cleandoc(body) for head, body in zip(parts[1::2], parts[2::2], strict=True)}


def _argument_texts(section: str) -> defaultdict[str, str]:
    """Return the text of each argument in a section Args, joined to one line; "" for others."""
    texts: dict[str, str] = defaultdict(str)
    name = ""
    for line in section.splitlines():
        named = re.match(r"(\w+): (.*)", line)
        name, text = (named[1], named[2]) if named else (name, line.strip())
        texts[name] = f"{texts[name]} {text}".strip()
    return texts


def option(function: Callable[..., Any], name: str) -> Any:
    """Return the default of an argument in the signature of a function, where it is written once.

    >>> from jaxvision import preview
    >>> option(preview, "num_images")
    6
    """
    return inspect.signature(function).parameters[name].default
