"""The commands that train: launch and sweep."""

from __future__ import annotations

import shlex

from absl import flags

from jaxvision.cli.errors import require
from jaxvision.cli.experiments import Experiment, chosen
from jaxvision.cli.flags import Argv, define_places, define_processes, define_settings, parse, require_no_words
from jaxvision.cli.tables import print_rows
from jaxvision.distributed import cluster, multihost, runtime


def define_launch(values: flags.FlagValues) -> None:
    """Define the flags of launch."""
    define_settings(values)
    define_places(values)
    define_processes(values)
    flags.DEFINE_string("workdir", None, "folder of the run; resumes what is there", flag_values=values)
    flags.DEFINE_string("experiment", None, "file or name of an experiment; flags change it", flag_values=values)
    flags.DEFINE_bool("profile", False, "write a JAX profile of a few steps to the workdir", flag_values=values)


def _join(values: flags.FlagValues) -> None:
    """Join the other processes of a run, if there are any, before JAX uses its devices."""
    if values.deterministic:
        runtime.make_deterministic()
    cluster.start(values.coordinator, values.num_processes, values.process_id)


def launch(argv: Argv) -> None:
    """Train: jaxvision launch --model=cnn --dataset=cifar10 --workdir=runs/first"""
    from jaxvision import reports
    from jaxvision.train import train

    values, rest = parse("launch", launch.__doc__ or "", define_launch, argv)
    require_no_words("launch", rest)
    _join(values)
    experiment = multihost.together(lambda: chosen(values).changed(values))
    result = train(
        experiment.config,
        execution=experiment.execution,
        workdir=values.workdir,
        data_dir=values.data_dir,
        plugins=[*values.plugins, *experiment.plugins],
        profile=values.profile,
    )
    if result.test is not None and multihost.is_first():
        print(f"\n{reports.text(result.test)}\nreport and pictures in {result.workdir / 'report'}")
        print(f"test {reports.headline(result.test)}")


def _define_sweep(values: flags.FlagValues) -> None:
    define_settings(values, without=["fold"])
    define_places(values)
    define_processes(values)
    flags.DEFINE_string("workdir", None, "folder of the sweep; goes on with what is there", flag_values=values)
    flags.DEFINE_string("experiment", None, "file or name of one with a SPACE; flags change it", flag_values=values)
    flags.DEFINE_enum("search", "grid", ["grid", "random"], "all settings, or some at random", flag_values=values)
    flags.DEFINE_integer("num_trials", None, "settings that are drawn by --seed", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("seeds", 1, "runs of each setting, from --seed on", lower_bound=1, flag_values=values)
    help = "judge on so many folds of all but test, each in turn"
    flags.DEFINE_integer("folds", None, help, lower_bound=2, flag_values=values)


def sweep(argv: Argv) -> None:
    """Try the SPACE of an experiment: jaxvision sweep --experiment=digits [--search=random --num_trials=20]"""
    from jaxvision.sweep import sweep as run_sweep
    from jaxvision.sweep import table

    values, rest = parse("sweep", sweep.__doc__ or "", _define_sweep, argv)
    require_no_words("sweep", rest)
    require(values.experiment, "sweep needs --experiment=…, a file with CONFIG and SPACE")
    _join(values)

    def opened() -> tuple[Experiment, Experiment]:
        base = chosen(values)
        hint = "has no SPACE = {field: (value, …), …}, as {'learning_rate': (1e-3, 1e-2)}"
        require(base.space is not None, f"the experiment {values.experiment!r} {hint}")
        return base, base.changed(values)

    base, wanted = multihost.together(opened)
    found = run_sweep(
        wanted.config,
        wanted.space,
        execution=wanted.execution,
        search=values.search,
        num_trials=values.num_trials,
        seeds=values.seeds,
        folds=values.folds,
        workdir=values.workdir,
        data_dir=values.data_dir,
        plugins=[*values.plugins, *wanted.plugins],
    )
    if multihost.is_first():
        print()
        print_rows(table(found))
        print(f"\nrows and picture: sweep.json and sweep.png in {found.workdir}")
        print(f"the best: {_launching(wanted._replace(config=found.best), base, values)}")


def _launching(wanted: Experiment, base: Experiment, values: flags.FlagValues) -> str:
    """Write the command that trains what is wanted, which changes the experiment that the flags name."""
    changes = wanted.config.differences(base.config) | wanted.execution.differences(base.execution)
    words = [f"--experiment={values.experiment}"]
    words += [f"--{name}={value}" for name, (value, _) in changes.items()]
    words += [f"--data_dir={values.data_dir}"] if values.data_dir else []
    words += [f"--plugins={','.join(values.plugins)}"] if values.plugins else []
    return shlex.join(["jaxvision", "launch", *words])
