"""Fields <-> absl flags, and the commands: launch, sweep, evaluate, predict, preview, list, convert, parity, …"""

from __future__ import annotations

import csv
import difflib
import json
import linecache
import os
import re
import shlex
import signal
import sys
import time
import typing
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import Field
from typing import Any, NamedTuple

from absl import flags

from jaxvision import hosts, registry
from jaxvision.config import FIELDS, HINTS, Config, describe

Argv = Sequence[str]


PARSERS = {int: flags.IntegerParser(), float: flags.FloatParser(), str: flags.ArgumentParser()}
DEFINE = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string, bool: flags.DEFINE_bool}


class UsageError(ValueError):
    """What was typed cannot be carried out; the message says why and what to do."""


class _OrNone(flags.ArgumentParser):
    """Reads a value, or None: what an experiment sets can be taken back."""

    def __init__(self, parser: flags.ArgumentParser):
        super().__init__()
        self._parser = parser

    def parse(self, argument: Any) -> Any:
        return None if argument == "None" else self._parser.parse(argument)

    def flag_type(self) -> str:
        return self._parser.flag_type()


def _define_fields(values: flags.FlagValues, fields: dict[str, Field] = FIELDS, hints: dict[str, Any] = HINTS) -> None:
    """Defines one flag for each field, of Config where not said otherwise, of the field's type."""
    for name, field in fields.items():
        default = field.default
        help = f"{field.metadata['help']} (default: {default if default not in (None, '') else 'none'})"
        kinds = [kind for kind in typing.get_args(hints[name]) or (hints[name],) if kind is not type(None)]
        if typing.get_origin(hints[name]) is typing.Literal:
            flags.DEFINE_enum(name, None, list(kinds), help, flag_values=values)
        elif type(None) in typing.get_args(hints[name]):
            parser = _OrNone(PARSERS[kinds[0]])
            flags.DEFINE(parser, name, None, help, values, flags.ArgumentSerializer())
        else:
            define = DEFINE[kinds[0]]
            define(name, None, help, flag_values=values)


def _define_places(values: flags.FlagValues) -> None:
    flags.DEFINE_string("data_dir", None, "where TensorFlow Datasets are kept (default: its own)", flag_values=values)
    flags.DEFINE_list("plugins", [], "modules or .py files that register more, by commas", flag_values=values)


def _define_hosts(values: flags.FlagValues) -> None:
    help = "of a run of several processes; found by itself under SLURM, Open MPI, Kubernetes and on TPU pods"
    flags.DEFINE_string("coordinator", None, f"host:port of process 0 {help}", flag_values=values)
    flags.DEFINE_integer("num_processes", None, f"how many there are, {help}", flag_values=values)
    flags.DEFINE_integer("process_id", None, f"which this is, from 0, {help}", flag_values=values)
    flags.DEFINE_bool("deterministic", False, "repeatable on GPUs too, which is slower", flag_values=values)


def _given(values: flags.FlagValues, fields: Iterable[str] = FIELDS) -> dict[str, Any]:
    return {name: values[name].value for name in fields if values[name].present}


def _parse(verb: str, usage: str, define: Callable[[flags.FlagValues], None], argv: Argv) -> tuple[Any, list[str]]:
    """Parses a command line: (flags, the rest). Prints help and ends for --help."""
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "print this help", flag_values=values, short_name="h", allow_override=True)
    define(values)
    try:
        rest = values([verb, *argv])[1:]
    except flags.UnrecognizedFlagError as error:
        known = [name for name in values if len(name) > 1]
        close = difflib.get_close_matches(error.flagname, known, n=1)
        hint = f"; did you mean --{close[0]}?" if close else ""
        raise UsageError(f"unknown flag --{error.flagname}{hint} (jaxvision {verb} --help lists all)") from None
    except flags.IllegalFlagValueError as error:
        wrong = re.match(r"flag --(\w+)=(.*?): ", str(error), re.DOTALL)
        if not wrong or wrong[1] not in FIELDS:
            raise UsageError(" ".join(str(error).split())) from None
        hint = HINTS[wrong[1]]
        near = registry.nearest(wrong[2], registry.literals(hint))
        raise UsageError(f"--{wrong[1]}={wrong[2]} is not {describe(hint)}{near}") from None
    except flags.Error as error:
        raise UsageError(" ".join(str(error).split())) from None
    if values["help"].value:
        print(f"{usage}\n")
        for name in sorted(name for name in values if len(name) > 1):
            print(f"  --{name:20} {values[name].help}")
        raise SystemExit(0)
    return values, rest


def _no_arguments(verb: str, rest: Sequence[str]) -> None:
    if rest:
        raise UsageError(f"jaxvision {verb} takes flags alone, as in --model=cnn; what is {rest[0]!r}?")


def find_experiment(place: str) -> str:
    """Finds an experiment: a .py file, a name in experiments/ here or in the clone, or a module by its dotted name."""
    clone = os.path.join(os.path.dirname(os.path.dirname(__file__)), "experiments")
    names = [place, f"{place}.py", os.path.join("experiments", f"{place}.py"), os.path.join(clone, f"{place}.py")]
    found = next((name for name in names if name.endswith(".py") and os.path.isfile(name)), None)
    if found:
        return found
    if "." in place and not place.endswith(".py"):
        return place
    folders = [folder for folder in ("experiments", clone) if os.path.isdir(folder)]
    known = {file[:-3] for folder in folders for file in os.listdir(folder) if file.endswith(".py")}
    near = registry.nearest(place, known) or ": neither a file nor in experiments/ of this folder or the clone"
    raise UsageError(f"no experiment {place!r}{near}")


class Experiment(NamedTuple):
    """What an experiment's file defines: CONFIG, maybe SPACE, and itself as a plug-in where it registers something."""

    config: Config
    space: Any = None
    plugins: Sequence[str] = ()


def load_experiment(place: str) -> Experiment:
    """Imports an experiment. Raises UsageError where it has no CONFIG."""
    found = find_experiment(place)
    before = registry.num_registered()
    try:
        module = registry.import_plugin(found)
    except SyntaxError as error:
        raise UsageError(f"{error.filename}, line {error.lineno}: {error.msg}") from None
    except TypeError as error:
        unknown = re.search(r"^Config\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
        if not unknown:
            raise
        Config().replace(**{unknown[1]: None})  # raises the error that teaches
        raise
    config = getattr(module, "CONFIG", None)
    if not isinstance(config, Config):
        raise UsageError(f"the experiment {place!r} has no CONFIG = jaxvision.Config(…)")
    return Experiment(config, getattr(module, "SPACE", None), [found] if registry.num_registered() > before else [])


def _define_launch(values: flags.FlagValues) -> None:
    _define_fields(values)
    _define_places(values)
    flags.DEFINE_string("workdir", None, "folder of the run; resumes what is there", flag_values=values)
    flags.DEFINE_string("experiment", None, "file or name of an experiment; flags change it", flag_values=values)
    _define_hosts(values)
    flags.DEFINE_bool("profile", False, "write a JAX profile of a few steps to the workdir", flag_values=values)


def launch(argv: Argv) -> None:
    """Trains: jaxvision launch --model=cnn --dataset=cifar10 --workdir=runs/first"""
    from jaxvision import reports
    from jaxvision.train import train

    values, rest = _parse("launch", launch.__doc__ or "", _define_launch, argv)
    _no_arguments("launch", rest)
    if values.deterministic:
        hosts.make_deterministic()
    hosts.start(values.coordinator, values.num_processes, values.process_id)

    def configured():
        registry.load_plugins(values.plugins)  # before an experiment's own module may need them
        experiment = load_experiment(values.experiment) if values.experiment else Experiment(Config())
        return experiment.config.replace(**_given(values)), experiment.plugins

    config, registering = hosts.together(configured)
    result = train(
        config,
        workdir=values.workdir,
        data_dir=values.data_dir,
        plugins=[*values.plugins, *registering],
        profile=values.profile,
    )
    if result.test is not None and hosts.is_first():
        print(f"\n{reports.text(result.test)}\nreport and pictures in {result.workdir / 'report'}")
        print(f"test {reports.headline(result.test)}")


def sweep(argv: Argv) -> None:
    """Tries the SPACE of an experiment: jaxvision sweep --experiment=digits [--search=random --num_trials=20]"""
    from jaxvision.sweep import sweep as run_sweep
    from jaxvision.sweep import table

    fields = {name: field for name, field in FIELDS.items() if name != "fold"}

    def define(values):
        _define_fields(values, fields)
        _define_places(values)
        _define_hosts(values)
        flags.DEFINE_string("workdir", None, "folder of the sweep; goes on with what is there", flag_values=values)
        flags.DEFINE_string("experiment", None, "file or name of one with a SPACE; flags change it", flag_values=values)
        flags.DEFINE_enum("search", "grid", ["grid", "random"], "all settings, or some at random", flag_values=values)
        flags.DEFINE_integer("num_trials", None, "settings that are drawn by --seed", lower_bound=1, flag_values=values)
        flags.DEFINE_integer("seeds", 1, "runs of each setting, from --seed on", lower_bound=1, flag_values=values)
        flags.DEFINE_integer(
            "folds", None, "judge on so many folds of all but test, each in turn", lower_bound=2, flag_values=values
        )

    values, rest = _parse("sweep", sweep.__doc__ or "", define, argv)
    _no_arguments("sweep", rest)
    _require(values.experiment, "sweep needs --experiment=…, a file with CONFIG and SPACE")
    if values.deterministic:
        hosts.make_deterministic()
    hosts.start(values.coordinator, values.num_processes, values.process_id)

    def opened():
        registry.load_plugins(values.plugins)
        experiment = load_experiment(values.experiment)
        hint = "has no SPACE = {field: (value, …), …}, as {'learning_rate': (1e-3, 1e-2)}"
        _require(experiment.space is not None, f"the experiment {values.experiment!r} {hint}")
        return experiment

    experiment = hosts.together(opened)
    found = run_sweep(
        experiment.config.replace(**_given(values, fields)),
        experiment.space,
        search=values.search,
        num_trials=values.num_trials,
        seeds=values.seeds,
        folds=values.folds,
        workdir=values.workdir,
        data_dir=values.data_dir,
        plugins=[*values.plugins, *experiment.plugins],
    )
    if hosts.is_first():
        print()
        _print_rows(table(found), "table")
        print(f"\nrows and picture: sweep.json and sweep.png in {found.workdir}")
        print(f"the best: {_launching(found.best, experiment.config, values)}")


def _launching(config: Config, base: Config, values: flags.FlagValues) -> str:
    """Writes the command that trains a config, which changes that of the experiment that the flags name."""
    words = [f"--experiment={values.experiment}"]
    words += [f"--{name}={value}" for name, (value, _) in config.differences(base).items()]
    words += [f"--data_dir={values.data_dir}"] if values.data_dir else []
    words += [f"--plugins={','.join(values.plugins)}"] if values.plugins else []
    return shlex.join(["jaxvision", "launch", *words])


def evaluate(argv: Argv) -> None:
    """Judges a trained run, or the mean of several: jaxvision evaluate --workdir=runs/first[,…] [--split=validation]"""
    from jaxvision import reports
    from jaxvision.ensemble import ensemble as run_ensemble
    from jaxvision.evaluate import evaluate as run_evaluate

    def define(values):
        _define_places(values)
        flags.DEFINE_list(
            "workdir", [], "folder of the trained run; of several, by commas, the mean", flag_values=values
        )
        flags.DEFINE_string("split", "test", "train, validation or test", flag_values=values)
        flags.DEFINE_string("judge", None, "workdir of a classifier that judges made images", flag_values=values)

    values, rest = _parse("evaluate", evaluate.__doc__ or "", define, argv)
    _no_arguments("evaluate", rest)
    _require(values.workdir, "evaluate needs --workdir=…, the folder of a trained run")
    options = {"split": values.split, "data_dir": values.data_dir, "plugins": values.plugins}
    if len(values.workdir) > 1:
        _require(values.judge is None, "evaluate --judge=… judges what one run makes, not several: give one --workdir")
        report = run_ensemble(values.workdir, **options)
    else:
        report = run_evaluate(values.workdir[0], **options, judge=values.judge)
    print(reports.text(report))


def predict(argv: Argv) -> None:
    """Predicts images or series: jaxvision predict --workdir=runs/one IMAGE|FOLDER|GLOB|TABLE … [--format=json|csv]"""
    from jaxvision.advice import advise
    from jaxvision.predict import predict as run_predict

    def define(values):
        _define_places(values)
        flags.DEFINE_string("workdir", None, "folder of the trained run", flag_values=values)
        flags.DEFINE_enum("format", "table", ["table", "json", "csv"], "how the rows are printed", flag_values=values)
        flags.DEFINE_integer("top", 3, "classes shown for each image", lower_bound=1, flag_values=values)
        flags.DEFINE_integer("batch_size", None, "images at once", lower_bound=1, flag_values=values)
        help = "say beside it which images are blurred, dark, bright or flat, by simple measures"
        flags.DEFINE_bool("advice", False, help, flag_values=values)
        flags.DEFINE_enum(
            "on_bad_image", "error", ["error", "skip"], FIELDS["on_bad_image"].metadata["help"], flag_values=values
        )

    values, files = _parse("predict", predict.__doc__ or "", define, argv)
    _require(values.workdir, "predict needs --workdir=…, the folder of a trained run")
    needed = "image files, folders or patterns, as in predict --workdir=… photos/*.jpg, or tables of a series"
    _require(files, f"predict needs {needed}")
    found = run_predict(
        values.workdir, files, batch_size=values.batch_size, on_bad_image="skip", plugins=values.plugins
    )
    rows = found.rows(top=values.top)
    _require(not (values.advice and found.after), "--advice is about images, and this run reads series; leave it out")
    if values.advice:
        rows = [{**row, "advice": ", ".join(advise(row["file"]))} for row in rows]
    _print_rows(rows, values.format)
    errors = list(found.errors.values())
    if errors and values.on_bad_image == "skip":
        print(f"jaxvision: skipped {len(errors)} unreadable images, the first: {errors[0]}", file=sys.stderr)
    elif errors:
        more = f" (and {len(errors) - 1} more; --on_bad_image=skip counts them)" if len(errors) > 1 else ""
        raise UsageError(f"{errors[0]}{more}")


def _cells(row: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Gives the columns of a row: what it holds itself, tags in one, and what runners-up hold, numbered from 2 on."""
    for name, value in row.items():
        if "tags" in row and isinstance(value, list):
            yield name, ", ".join(f"{each['tag']} {each['probability']:.2f}" for each in value)
        elif isinstance(value, list):
            for number, other in enumerate(value, 2):
                yield from ((f"{what}_{number}", text) for what, text in _cells(other))
        else:
            yield name, value if isinstance(value, str) else f"{value:.4f}"


def _print_rows(rows: list[dict[str, Any]], format: str) -> None:
    if format == "json":
        print(json.dumps(rows, indent=2))
        return
    shown = [dict(_cells(row)) for row in rows]
    head = list(dict.fromkeys(name for cells in shown for name in cells))
    flat = [[cells.get(name, "") for name in head] for cells in shown]
    if format == "csv":
        csv.writer(sys.stdout).writerows([head, *flat])
        return
    widths = [max(len(row[i]) for row in [head, *flat]) for i in range(len(head))]
    for row in [head, *flat] if flat else []:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


PREVIEWED = ("dataset", "augment", "seed", "split_seed", "on_bad_image")  # the fields that decide what is shown


def preview(argv: Argv) -> None:
    """Shows what augments do: jaxvision preview --dataset=cifar10 --augment='flip, crop' [--out=preview.png]"""
    from jaxvision.preview import preview as run_preview

    def define(values):
        _define_fields(values, {name: FIELDS[name] for name in PREVIEWED})
        _define_places(values)
        flags.DEFINE_string("experiment", None, "file or name of an experiment; flags change it", flag_values=values)
        flags.DEFINE_integer("num_images", 6, "rows: examples of train", lower_bound=1, flag_values=values)
        flags.DEFINE_integer("num_versions", 7, "augmented versions of each", lower_bound=1, flag_values=values)
        flags.DEFINE_string("out", "preview.png", "where the picture is written", flag_values=values)

    values, rest = _parse("preview", preview.__doc__ or "", define, argv)
    _no_arguments("preview", rest)
    registry.load_plugins(values.plugins)
    base = load_experiment(values.experiment).config if values.experiment else Config()
    file = run_preview(
        base.replace(**_given(values, PREVIEWED)),
        file=values.out,
        num_images=values.num_images,
        num_versions=values.num_versions,
        data_dir=values.data_dir,
    )
    print(f"wrote {file}")


REPORTED = ("dataset", "split_seed", "validation_fraction")


def dataset_report(argv: Argv) -> None:
    """Looks at data before training: jaxvision dataset_report --dataset="folder(path='photos')" [--out=FOLDER]"""
    from jaxvision.dataset_report import dataset_report as run_report
    from jaxvision.dataset_report import text

    def define(values):
        _define_fields(values, {name: FIELDS[name] for name in REPORTED})
        _define_places(values)
        flags.DEFINE_string("out", "dataset_report", "folder for report.json and pictures", flag_values=values)

    values, rest = _parse("dataset_report", dataset_report.__doc__ or "", define, argv)
    _no_arguments("dataset_report", rest)
    _require("dataset" in _given(values, REPORTED), "dataset_report needs --dataset=…, as for launch")
    registry.load_plugins(values.plugins)
    config = Config().replace(**_given(values, REPORTED))
    print(text(run_report(config, folder=values.out, data_dir=values.data_dir)))
    print(f"report and pictures in {values.out}")


def list_registered(argv: Argv) -> None:
    """Lists what can be named: jaxvision list [models|datasets|tasks|optimizers|schedules|augments] [PATTERN]"""
    values, rest = _parse("list", list_registered.__doc__ or "", _define_places, argv)
    registry.load_plugins(values.plugins)
    kinds = list(registry.REGISTRIES)
    kind, pattern = (rest[0] if rest else None), (rest[1] if len(rest) > 1 else "*")
    _require(len(rest) < 3, f"list takes a kind and one pattern, as in list models 'resnet*', not {len(rest)} words")
    if kind is not None and kind not in kinds:
        raise UsageError(f"unknown kind {kind!r}{registry.nearest(kind, kinds)}; the kinds are {', '.join(kinds)}")
    for each in [kind] if kind else kinds:
        listed = registry.REGISTRIES[each]
        names = listed.names(pattern)
        if not names:
            raise UsageError(f"none of the {each} matches {pattern!r}{registry.nearest(pattern, listed.names())}")
        if not kind:
            print(f"{each}:")
        for name in names:
            print(f"  {listed.signature(name)}\n      {listed.entry(name).summary}{_facts(listed, name)}")


def torture(argv: Argv) -> None:
    """Kills a run at many moments and sees that it ends as one left alone: jaxvision torture [--kills=20]"""
    from jaxvision import torture as tortures

    def define(values):
        _define_launch(values)
        flags.DEFINE_integer("kills", 20, "how often the run is killed", lower_bound=1, flag_values=values)

    values, rest = _parse("torture", torture.__doc__ or "", define, argv)
    _no_arguments("torture", rest)
    own = ("kills", "workdir")
    given = [
        values[name].serialize() or f"--{name}=None" for name in values if values[name].present and name not in own
    ]
    folder = values.workdir or os.path.join("workdirs", time.strftime("torture-%Y%m%d-%H%M%S"))
    try:
        tortures.torture(
            [*(() if values.experiment else tortures.SMALL), *given], folder, kills=values.kills, seed=values.seed or 0
        )
    except tortures.Failure as failure:
        print(f"jaxvision: {failure}", file=sys.stderr)
        raise SystemExit(1) from None


def convert(argv: Argv) -> None:
    """Writes a run's weights as timm's: jaxvision convert --workdir=runs/first --folder=FOLDER"""
    from jaxvision.convert import convert as run_convert

    def define(values):
        _define_places(values)
        flags.DEFINE_string("workdir", None, "folder of the trained run", flag_values=values)
        flags.DEFINE_string("folder", None, "where model.safetensors and config.json are written", flag_values=values)

    values, rest = _parse("convert", convert.__doc__ or "", define, argv)
    _no_arguments("convert", rest)
    _require(values.workdir, "convert needs --workdir=…, the folder of a trained run")
    _require(values.folder, "convert needs --folder=…, where to write")
    place = run_convert(values.workdir, values.folder, plugins=values.plugins)
    print(f"wrote {place / 'model.safetensors'} and config.json")
    print(f"timm.create_model({f'local-dir:{place}'!r}, pretrained=True) loads them")


def parity(argv: Argv) -> None:
    """Compares models with their originals in torchvision and timm: jaxvision parity [PATTERN] [--gradients]"""
    from jaxvision.parity import compare_all

    def define(values):
        help = "compare the gradients by the inputs too, for all and not for the smallest of each family alone"
        flags.DEFINE_bool("gradients", False, help, flag_values=values)

    values, rest = _parse("parity", parity.__doc__ or "", define, argv)
    _require(len(rest) < 2, f"parity takes one pattern, as 'resnet*', not {len(rest)}")
    compare_all(rest[0] if rest else "*", gradients=values.gradients)


SHOWN = ("num_parameters", "input_size", "num_classes", "weights")  # of the facts that registrations state


def _facts(listed: registry.Registry, name: str) -> str:
    facts = {k: v for k, v in listed.entry(name).facts.items() if k in SHOWN}
    rate = listed.default(name, "learning_rate")
    if rate is not None:
        facts["learning_rate"] = rate
    shown = ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in facts.items())
    return f" [{shown}]" if shown else ""


def scaling(argv: Argv) -> None:
    """Predicts throughput as devices grow: jaxvision scaling [--mode=data|fsdp|hybrid] [--scaling=weak|strong]"""
    from jaxvision import scaling as model

    def define(values):
        _define_fields(values, model.FIELDS, model.HINTS)

    values, rest = _parse("scaling", scaling.__doc__ or "", define, argv)
    _no_arguments("scaling", rest)
    print(model.report(model.Setup(**_given(values, model.FIELDS))))


def benchmark(argv: Argv) -> None:
    """Measures our speed beside PyTorch's and Keras's: jaxvision benchmark [--quick] [--only=train,epoch]"""
    from jaxvision.benchmarks import table
    from jaxvision.benchmarks.measure import SECTIONS, measure

    def define(values):
        flags.DEFINE_bool("quick", False, "two networks and few rounds, minutes in all", flag_values=values)
        flags.DEFINE_list("only", list(SECTIONS), "which sections, by commas", flag_values=values)
        flags.DEFINE_string("json", None, "file for the rows", flag_values=values)
        help = "file that gets the table, between its marks where it has them"
        flags.DEFINE_string("markdown", None, help, flag_values=values)
        help = "where TensorFlow Datasets has prepared cifar10 (default: its own)"
        flags.DEFINE_string("data_dir", None, help, flag_values=values)
        flags.DEFINE_string("images", None, "folder of photographs, train/<class>/…, to read", flag_values=values)

    values, rest = _parse("benchmark", benchmark.__doc__ or "", define, argv)
    _no_arguments("benchmark", rest)
    for name in values.only or [""]:
        if name not in SECTIONS:
            near = registry.nearest(name, SECTIONS)
            raise UsageError(f"unknown section {name!r}{near}; the sections are {', '.join(SECTIONS)}")
    table.check_files(values.json, values.markdown)
    options = {"data_dir": values.data_dir, "images": values.images}
    found = measure(quick=values.quick, sections=values.only, **options)
    print("\n".join(found.notes))
    if values.json:
        table.write_json(found, values.json)
    if values.markdown:
        table.write_markdown(found, values.markdown, command=shlex.join(["jaxvision", "benchmark", *argv]))


def _require(value: Any, message: str) -> None:
    if not value:
        raise UsageError(message)


COMMANDS: dict[str, Callable[[Argv], None]] = {
    "launch": launch,
    "sweep": sweep,
    "evaluate": evaluate,
    "predict": predict,
    "preview": preview,
    "dataset_report": dataset_report,
    "list": list_registered,
    "convert": convert,
    "parity": parity,
    "scaling": scaling,
    "torture": torture,
    "benchmark": benchmark,
}


def _is_told(error: BaseException) -> bool:
    """Says whether an error speaks to the user: raised by a `raise` of this package or of a factory's module.

    What a library raises for a bug in somebody's code, ours included, is not: it keeps its traceback.
    """
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace is None:
        return False
    module = trace.tb_frame.f_globals.get("__name__", "")
    known = set().union(*(each.modules() for each in registry.REGISTRIES.values()))
    line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    return (module.partition(".")[0] == "jaxvision" or module in known) and line.lstrip().startswith("raise ")


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {os.fspath(error.filename)!r}"
    return " ".join(str(error).split())


def _again(command: str, argv: Argv, workdir: str) -> str:
    """Writes the command that goes on where an interrupted one stopped."""
    named = [word for word in argv if word.lstrip("-").startswith("workdir")]
    return shlex.join(["jaxvision", command, *argv, *([] if named else [f"--workdir={workdir}"])])


def run(command: str, argv: Argv) -> int:
    """Runs a command and gives its exit status: 2 after bad input, told in one line on stderr."""
    warnings.showwarning = lambda message, *_, **__: print(f"jaxvision: warning: {message}", file=sys.stderr)
    from jaxvision.interrupts import Interrupted, before_runs

    try:
        with before_runs():
            COMMANDS[command](argv)
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Interrupted as stop:
        print(f"jaxvision: {stop}; to go on: {_again(command, argv, str(stop.workdir))}", file=sys.stderr)
        return stop.exit_status
    except KeyboardInterrupt:
        print("jaxvision: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, FloatingPointError, OSError) as error:
        if not (isinstance(error, OSError) or _is_told(error)):
            raise
        print(f"jaxvision: {_in_one_line(error)}", file=sys.stderr)
        return 2


def main() -> None:
    """The installed command: jaxvision launch|sweep|evaluate|predict|preview|list|convert|parity|scaling|benchmark …"""
    command, argv = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if command in ("--help", "-h", "help"):
        print("\n".join(f"{(function.__doc__ or '').strip()}" for function in COMMANDS.values()))
        sys.exit(0)
    if command == "--version":
        import jaxvision

        print(f"jaxvision {jaxvision.__version__}")
        sys.exit(0)
    if command not in COMMANDS:
        near = registry.nearest(command, COMMANDS)
        print(f"jaxvision: unknown command {command!r}{near}; the commands are {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(run(command, argv))
