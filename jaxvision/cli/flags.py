"""Flags: definition from a command's arguments and the settings, parsing, and the help."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import textwrap
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from jaxvision import hints
from jaxvision.cli import environment
from jaxvision.cli.command import Command
from jaxvision.cli.errors import UsageError, words_of
from jaxvision.cli.experiments import Experiment, load_experiment, load_run
from jaxvision.config import Config, Execution, fields_of, hints_of
from jaxvision.distributed import cluster, multihost, runtime
from jaxvision.plugins import load_plugins
from jaxvision.specs import nearest
from jaxvision.trust import trusting

Argv = Sequence[str]

SETTINGS = {**fields_of(Config), **fields_of(Execution)}
TYPES = {**hints_of(Config), **hints_of(Execution)}
GROUPS = {
    "Model": ("model", "task", "init_from", "head_init", "freeze", "cache_features"),
    "Data": (
        "dataset",
        "augmentations",
        "sampling",
        "validation_fraction",
        "fold",
        "split_seed",
        "on_bad_image",
        "max_image_pixels",
    ),
    "Optimization": (
        *("optimizer", "learning_rate", "schedule", "layer_decay", "gradient", "grad_clip_norm", "batch_size"),
        *("grad_accum_steps", "epochs", "steps", "ema", "ema_warmup", "precision", "seed"),
    ),
    "Evaluation": ("eval_every", "checkpoint_rule", "patience", "tta", "eval_batch_size", "no_images"),
    "Execution": ("mesh", "parallel", "remat", "save_every", "max_to_keep", "on_nonfinite", "loggers"),
}
PARSERS = {int: flags.IntegerParser(), float: flags.FloatParser(), str: flags.ArgumentParser()}
NONE = ("None", "none")
EXPERIMENT = "file or name of an experiment, whose settings the flags change"
PLUGINS = "modules or .py files that register further models, datasets and so on, separated by commas"
TRUST = "run the plug-ins that a workdir names even if you did not train there with them; plug-ins are code"

_BY_ITSELF = "detected automatically under SLURM, Open MPI, Kubernetes and on TPU pods"
PROCESSES = {
    "coordinator": (str, None, f"host:port of process 0 of a run of several processes; {_BY_ITSELF}"),
    "num_processes": (int, None, f"number of processes; {_BY_ITSELF}"),
    "process_id": (int, None, f"number of this process, from 0; {_BY_ITSELF}"),
    "deterministic": (bool, False, "use only deterministic operations, which are slower on GPUs"),
}


class _OrNone(flags.ArgumentParser):
    """Parse a value or one of the words that remove it, which resets what an experiment sets."""

    def __init__(self, parser: flags.ArgumentParser, *, words: Sequence[str] = ("None",), removed: str | None = None):
        super().__init__()
        self._parser, self._words, self._removed = parser, words, removed

    def parse(self, argument: Any) -> Any:
        return self._removed if argument in self._words else self._parser.parse(argument)

    def flag_type(self) -> str:
        return self._parser.flag_type()


def define_flag(values: flags.FlagValues, name: str, hint: Any, default: Any, help: str) -> None:
    """Define a flag of a type; a flag that can be None also accepts the word None."""
    kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)]
    if typing.get_origin(hint) is tuple:
        flags.DEFINE_multi_string(name, list(default or ()), help, flag_values=values)
    elif typing.get_origin(hint) is typing.Literal:
        flags.DEFINE_enum(name, default, list(kinds), help, flag_values=values)
    elif kinds[0] is bool:
        flags.DEFINE_bool(name, default, help, flag_values=values)
    else:
        parser = PARSERS[kinds[0]]
        for word in hints.literals(hint):  # a number, or a word in its place
            parser = _OrNone(parser, words=(word,), removed=word)
        if type(None) in typing.get_args(hint):
            parser = _OrNone(parser, words=NONE if name in SETTINGS else ("None",))
        elif name in SETTINGS and SETTINGS[name].default == "":  # the empty text means none
            parser = _OrNone(parser, words=NONE, removed="")
        flags.DEFINE(parser, name, default, help, values, flags.ArgumentSerializer())


def define(command: Command, values: flags.FlagValues) -> None:
    """Define the flags of a command: its arguments, the settings that it takes, and --plugins."""
    for argument in command.arguments:
        if not argument.is_positional:
            define_flag(values, argument.name, argument.kind, argument.default, argument.help)
    flags.DEFINE_list("plugins", [], PLUGINS, flag_values=values)
    flags.DEFINE_bool("trust_plugins", False, TRUST, flag_values=values)
    for name, (kind, default, help) in PROCESSES.items() if command.is_distributed else ():
        define_flag(values, name, kind, default, help)
    if command.takes_settings:
        flags.DEFINE_string("experiment", None, EXPERIMENT, flag_values=values)
        for name in SETTINGS if command.fields is None else command.fields:
            define_flag(values, name, TYPES[name], None, SETTINGS[name].metadata["help"])


def parse_flags(name: str, values: flags.FlagValues, argv: Argv) -> list[str]:
    """Parse a command line into flags, and return the other words.

    Raises UsageError for an unknown flag, with the nearest one, and for a value of the wrong type.
    """
    try:
        return values([name, *argv])[1:]
    except flags.UnrecognizedFlagError as error:
        known = [flag for flag in values if len(flag) > 1]
        spec = next((word.partition("=")[2] for word in argv if word.lstrip("-").startswith("dataset=")), "")
        hint = hints.for_flag(error.flagname, known, value=str(error.flagvalue).partition("=")[2], dataset=spec)
        raise UsageError(f"unknown flag --{error.flagname}{hint} ({' '.join(words_of(name))} --help)") from None
    except flags.Error as error:
        raise UsageError(_explain(error)) from None


def _explain(error: flags.Error) -> str:
    """Return what is wrong with a value, with the wording of the settings."""
    wrong = re.match(r"flag --(\w+)=(.*?): ", str(error), re.DOTALL)
    if not isinstance(error, flags.IllegalFlagValueError) or not wrong or wrong[1] not in TYPES:
        return " ".join(str(error).split())
    hint = TYPES[wrong[1]]
    return f"--{wrong[1]}={wrong[2]} is not {hints.describe(hint)}{nearest(wrong[2], hints.literals(hint))}"


def given(values: flags.FlagValues, names: Iterable[str]) -> dict[str, Any]:
    """Return the values of those flags that the command line sets."""
    return {name: values[name].value for name in names if name in values and values[name].present}


def experiment_of(command: Command, values: flags.FlagValues) -> Experiment:
    """Return the experiment that a command line names, with the settings that it changes.

    Without --experiment, it is the run in --workdir if the command resumes one, or else the defaults.
    """
    load_plugins(values.plugins)  # before the experiment, which may need them
    place = values["workdir"].value if command.resumes else None
    changes = given(values, SETTINGS)
    run = load_run(place, plugins=values.plugins) if place and not values.experiment else None
    base = load_experiment(values.experiment) if values.experiment else run or Experiment(Config())
    if run is None and not values.experiment and place and not changes:
        near = nearest(os.path.basename(place), _siblings(place))
        raise UsageError(f"there is no run in {place!r} to resume{near}; give --model and --dataset to start one there")
    if os.path.exists(str(changes.get("dataset", ""))):
        raise UsageError(f"--dataset={changes['dataset']} is a path: write {_dataset_of(changes['dataset'])}")
    missing = [name for name in command.required if name not in changes and not values.experiment]
    if missing:
        raise UsageError(f"{command.name} needs --{missing[0]}, as for train")
    config = base.config.replace(**{name: changes[name] for name in changes if name in fields_of(Config)})
    execution = base.execution.replace(**{name: changes[name] for name in changes if name in fields_of(Execution)})
    plugins = [*values.plugins, *(plugin for plugin in base.plugins if plugin not in values.plugins)]
    return base._replace(config=config, execution=execution, plugins=plugins, base=base, changes=changes)


def _siblings(place: str) -> list[str]:
    """Return the names in the folder of a local path."""
    folder = os.path.dirname(os.path.expanduser(place)) or "."
    return os.listdir(folder) if os.path.isdir(folder) else []


def _dataset_of(path: str) -> str:
    """Return the flag for a dataset in a folder or file."""
    suffix = Path(path).suffix
    if suffix in (".csv", ".parquet"):
        return f"--dataset=\"table(path='{path}', image='COLUMN', target='COLUMN')\""
    return f"--dataset=\"{'arrays' if suffix == '.npz' else 'folder'}(path='{path}')\""


# ── help ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def help_text(command: Command) -> str:
    """Return the help of a command: usage, examples, and its flags by group with their defaults."""
    words = "".join(f" [{argument.name.upper()} ...]" for argument in command.arguments if argument.is_positional)
    lines = [textwrap.fill(command.summary, _width()), "", f"Usage: jaxvision {command.name}{words} [--flags]", ""]
    if command.examples:
        lines += ["Examples:", *(f"  {line}" for line in command.examples), ""]
    own = [entry(each.name, each.help, each.default, is_positional=each.is_positional) for each in command.arguments]
    own += [entry("plugins", PLUGINS, ()), entry("trust_plugins", TRUST, None)]
    own += [entry("experiment", EXPERIMENT, None)] if command.takes_settings else []
    lines += [f"Flags of {command.name}:", *own]
    names = SETTINGS if command.fields is None else command.fields
    for group, members in GROUPS.items() if command.takes_settings else ():
        listed = [name for name in members if name in names]
        if listed:
            lines += ["", f"{group}:"]
            lines += [_setting_entry(command, name) for name in listed]
    if command.is_distributed:
        lines += [
            "",
            "Several processes:",
            *(entry(name, text, default) for name, (_, default, text) in PROCESSES.items()),
        ]
    return "\n".join(lines)


def _setting_entry(command: Command, name: str) -> str:
    """Return the lines of a setting in the help of a command."""
    text, default = SETTINGS[name].metadata["help"], SETTINGS[name].default
    return entry(name, *((f"{text} (required)", None) if name in command.required else (text, default)), TYPES[name])


def _width() -> int:
    """Return the width of the help: that of the terminal, within limits."""
    return min(max(shutil.get_terminal_size().columns, 60), 120)


def entry(name: str, text: str, default: Any, hint: Any = None, *, is_positional: bool = False) -> str:
    """Return the lines of a flag in the help, at most as wide as the terminal."""
    if typing.get_origin(hint) is typing.Literal:
        text = f"{text} [{'|'.join(map(str, typing.get_args(hint)))}]"
    shown = "" if default in (None, "", ()) or is_positional else f" (default: {default})"
    head = f"  {name.upper() if is_positional else f'--{name}'}"
    return textwrap.fill(
        f"{text}{shown}",
        _width(),
        initial_indent=f"{head:24} " if len(head) < 24 else f"{head}\n{'':25}",
        subsequent_indent=" " * 25,
        break_on_hyphens=False,
    )


def summaries(commands: Mapping[str, Command]) -> str:
    """Return the list of all commands, by group."""
    lines = ["Train and use image classifiers with JAX.", "", "Usage: jaxvision COMMAND [--flags]"]
    group = ""
    for command in commands.values():
        if command.group != group:
            group = command.group
            lines += ["", f"{group}:"]
        original = next(other.name for other in commands.values() if other.function is command.function)
        lines.append(f"  {command.name:16} {command.summary if original == command.name else f'Alias of {original}.'}")
    return "\n".join([*lines, "", "`jaxvision COMMAND --help` shows flags and examples."])


def call(command: Command, argv: Argv) -> None:
    """Parse a command line and call the command with it."""
    values = flags.FlagValues()
    if any(word in ("--help", "-h", "--help=true") for word in argv):
        print(help_text(command))
        return
    define(command, values)
    variadic = next((argument for argument in command.arguments if argument.is_positional), None)
    words = parse_flags(command.name, values, _with_files(argv, values) if variadic else argv)
    if words and variadic is None:
        flag = f"--dataset=\"folder(path='{words[0]}')\"" if os.path.isdir(words[0]) else "--model=cnn"
        raise UsageError(f"{' '.join(words_of(command.name))} accepts only flags, as in {flag}, not {words[0]!r}")
    arguments = {
        argument.name: values[argument.name].value for argument in command.arguments if not argument.is_positional
    }
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}
    if command.is_distributed:
        _join(values)
    if command.takes_plugins:
        arguments["plugins"] = tuple(values.plugins)
    output = contextlib.nullcontext() if command.prints else environment.without_reader()
    with trusting(values.trust_plugins), output:
        if command.takes_settings:
            words = [multihost.run_on_all_hosts(lambda: experiment_of(command, values)), *words]
        else:
            load_plugins(values.plugins)
        command.function(*words, **arguments)


def _with_files(argv: Argv, values: flags.FlagValues) -> list[str]:
    """Return the words of a command line, with ./ before files like -1.jpg, which are no flags."""
    end = argv.index("--") if "--" in argv else len(argv)
    names = {word: word.lstrip("-").partition("=")[0] for word in argv[:end] if word.startswith("-") and word != "-"}
    files = {word for word, name in names.items() if name not in values and os.path.exists(word)}
    return [f"./{word}" if word in files and place < end else word for place, word in enumerate(argv)]


def _join(values: flags.FlagValues) -> None:
    """Join the other processes of a run, if there are any, before JAX uses its devices."""
    if values.deterministic:
        runtime.make_deterministic()
    cluster.start(values.coordinator, values.num_processes, values.process_id)
