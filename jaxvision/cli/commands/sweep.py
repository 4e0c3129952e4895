"""The command sweep."""

from __future__ import annotations

import shlex
from typing import Literal

from jaxvision.cli.command import command
from jaxvision.cli.errors import require
from jaxvision.cli.experiments import Experiment
from jaxvision.cli.flags import SETTINGS
from jaxvision.cli.tables import print_rows
from jaxvision.distributed import multihost


@command(group="Train", fields=tuple(name for name in SETTINGS if name != "fold"), is_distributed=True)
def sweep(
    experiment: Experiment,
    *,
    search: Literal["grid", "random"] = "grid",
    num_trials: int | None = None,
    seeds: int = 1,
    folds: int | None = None,
    workdir: str | None = None,
    data_dir: str | None = None,
) -> None:
    """Train an experiment with each configuration of its SEARCH_SPACE, and rank them on validation.

    Args:
        search: try all configurations of the grid, or random ones
        num_trials: number of random configurations, drawn with --seed
        seeds: runs of each configuration, with seeds from --seed on
        folds: cross-validate on this many folds of train and validation
        workdir: folder of the sweep; a sweep in it is resumed (default: a new one in workdirs/)
        data_dir: folder of TensorFlow Datasets (default: ~/tensorflow_datasets)

    Examples:
        jaxvision sweep --experiment=digits --workdir=runs/sweep
        jaxvision sweep --experiment=digits --search=random --num_trials=20 --seeds=3
    """
    from jaxvision.sweep import sweep as run_sweep
    from jaxvision.sweep import table

    require(experiment.name, "sweep needs --experiment, a file that defines CONFIG and SEARCH_SPACE")
    hint = "has no SEARCH_SPACE = {field: (value, …)}, as in {'learning_rate': (1e-3, 1e-2)}"
    require(experiment.space is not None, f"the experiment {experiment.name!r} {hint}")
    result = run_sweep(
        experiment.config,
        experiment.space,
        execution=experiment.execution,
        search=search,
        num_trials=num_trials,
        seeds=seeds,
        folds=folds,
        workdir=workdir,
        data_dir=data_dir,
        plugins=experiment.plugins,
    )
    if multihost.is_main_process():
        print()
        print_rows(table(result))
        print(f"\ntable and plot: sweep.json and sweep.png in {result.workdir}")
        print(f"best: {_command(experiment._replace(config=result.best), data_dir)}")


def _command(experiment: Experiment, data_dir: str | None) -> str:
    """Return the command line that trains an experiment whose settings were changed."""
    base = experiment.base
    changes = experiment.config.differences(base.config) | experiment.execution.differences(base.execution)
    words = [f"--experiment={experiment.name}"]
    words += [f"--{name}={value}" for name, (value, _) in changes.items()]
    words += [f"--data_dir={data_dir}"] if data_dir else []
    plugins = [plugin for plugin in experiment.plugins if plugin not in base.plugins]
    words += [f"--plugins={','.join(plugins)}"] if plugins else []
    return shlex.join(["jaxvision", "train", *words])
