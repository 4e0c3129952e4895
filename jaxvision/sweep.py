"""Hyperparameter sweep: train configurations of a search space in a workdir each, and rank them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxvision import run as runs
from jaxvision import schemas, storage
from jaxvision import search_space as spaces
from jaxvision import workdir as workdirs
from jaxvision.config import DEFAULT_EXECUTION, Config, Execution, is_same
from jaxvision.distributed import multihost
from jaxvision.engine.signals import Interrupted
from jaxvision.new_workdir import new_workdir
from jaxvision.plugins import load_plugins
from jaxvision.ranking import Row, Sweep, rank, table
from jaxvision.reports import chosen_evaluation, plots
from jaxvision.search_space import Space
from jaxvision.spec_check import check_specs
from jaxvision.train import train
from jaxvision.trials import Order, Search, Trial, plan
from jaxvision.upgrades import upgrade

__all__ = ["Sweep", "sweep", "table"]

FILE = "sweep.json"
ROW = {  # types of the values of a trial's row
    "trial": str,
    "setting": dict[str, Any],
    "seed": int,
    "name": str,
    "value": float,
    "steps": int,
    "seconds": float,
    "error": str,
}


def sweep(
    config: Config,
    space: Space,
    *,
    execution: Execution = DEFAULT_EXECUTION,
    search: Order = "grid",
    num_trials: int | None = None,
    seeds: int = 1,
    folds: int | None = None,
    workdir: str | Path | None = None,
    data_dir: str | None = None,
    dataset: Any = None,
    plugins: Sequence[str] = (),
) -> Sweep:
    """Train configurations of a search space, a grid or random draws, and rank them on validation.

    Each configuration is trained with `seeds` seeds, starting at the config's, and on `folds` folds of all data outside
    test. Trials are ranked by their checkpoints that count; the test split is not used. A failed trial is reported in
    its row. Finished trials in the workdir are not run again unless their folder is deleted; an interrupted trial is
    resumed.
    Writes sweep.json and sweep.png.

    Args:
        config: the base config.
        space: maps fields of Config to values, or to a `Uniform` or `LogUniform` distribution.
        execution: how to run; the same for all trials.
        search: "grid" for all configurations, "random" for num_trials random draws.
        num_trials: number of random configurations.
        seeds: number of seeds per configuration.
        folds: number of cross-validation folds; None uses the validation split.
        workdir: folder of the sweep; by default a new one.
        data_dir: folder of the datasets.
        dataset: a dataset that replaces the config's.
        plugins: plug-in files to load.

    Returns:
        The ranked rows, the best config, and the workdir.

    Raises:
        ValueError: before training, if the config or space is invalid or the workdir is of another sweep; after
            training, if all trials failed.
        Interrupted: after a signal, with all results saved.
    """
    load_plugins(plugins)
    search_plan = Search(space, search, num_trials, seeds, folds)
    config = config.replace(checkpoint_rule=_rule(storage.to_path(workdir), config)) if workdir else config
    trials = plan(config, search_plan)
    multihost.run_on_all_hosts(
        lambda: [check_specs(trial.config, execution, is_dataset_named=dataset is None) for trial in trials]
    )
    folder = storage.to_path(workdir) if workdir else new_workdir(config, prefix="sweep-")
    path = storage.to_path(multihost.broadcast_from_main(str(folder)))
    evaluation = {"tta": execution.tta, "on_nonfinite": execution.on_nonfinite}  # these change the results
    request = {**dataclasses.asdict(config), **evaluation, **search_plan.as_json()}
    options = {"execution": execution, "data_dir": data_dir, "dataset": dataset, "plugins": plugins}
    with _entered(path, request) as rows:
        _run_all(trials, path, request, rows, **options)
        ranked = rank([rows[trial.name] for trial in trials])
        if multihost.is_main_process():
            _write(path, request, rows, settings=ranked)
            finished = [row for row in ranked if row["value"] is not None]
            columns = ([row[name] for row in finished] for name in ("setting", "value", "deviation"))
            plots.choices(*columns, ranked[0]["name"], path / "sweep.png")
    best = next(trial for trial in trials if trial.setting == ranked[0]["setting"])
    return Sweep(ranked, best.config.replace(fold=config.fold), path)


def _rule(path: Path, config: Config) -> Any:
    """Return the checkpoint rule of a sweep: best for one that a version before 0.5 began, which knew no other."""
    is_old = (path / FILE).exists() and "checkpoint_rule" not in storage.read_json(
        path / FILE, lambda content: content["asked"]
    )
    return "best" if is_old and config.checkpoint_rule == "auto" else config.checkpoint_rule


def _run_all(trials: Sequence[Trial], path: Path, request: Row, rows: dict[str, Row], **options: Any) -> None:
    """Run the trials that are not finished, and record each row in `rows` and in the file."""
    ended = {trial.name for trial in trials if trial.name in rows and (path / trial.name).exists()}
    _say(f"{path}: {len(trials)} trials" + f", {len(ended)} of them ended before" * bool(ended))
    for number, trial in enumerate(trials, 1):
        if trial.name in ended:
            continue
        _say(f"trial {number} of {len(trials)}: {trial.name}, {spaces.describe(trial.setting)}")
        try:
            rows[trial.name] = _run(trial, path, **options)
        except Interrupted as stop:
            stop.workdir = path  # the workdir that the same command resumes
            raise
        if multihost.is_main_process():
            _write(path, request, rows)


def _say(line: str) -> None:
    if multihost.is_main_process():
        print(line, flush=True)


def _run(trial: Trial, path: Path, **options: Any) -> Row:
    """Train or resume a trial; return its row, with the value of the checkpoint that counts, or its error."""
    row = {"trial": trial.name, "setting": trial.setting, "seed": trial.config.seed, "fold": trial.config.fold}
    try:
        result = train(trial.config, workdir=path / trial.name, is_trial=True, **options)
    except (ValueError, FloatingPointError, jax.errors.JaxRuntimeError) as error:
        row["error"] = " ".join(str(error).split())
        _say(f"failed: {row['error']}")
        return row
    config, _, signature = workdirs.read(result.workdir)
    task = runs.build_task(trial.config, signature)
    assert task.monitor is not None  # train would have raised
    row |= {"name": task.monitor.name, "direction": task.monitor.mode, "steps": result.history[-1]["step"]}
    row["seconds"] = sum(evaluation.get("seconds", 0.0) for evaluation in result.history)
    best = chosen_evaluation(result.history, task.monitor, runs.checkpoint_rule(config, signature))
    if best is None:
        return {**row, "error": f"{task.monitor.name} was never finite"}
    row["value"], row["step"] = best
    return row


@contextlib.contextmanager
def _entered(path: Path, request: Row) -> Iterator[dict[str, Row]]:
    """Create or check the sweep's folder, lock it, and yield the rows of finished trials."""
    with contextlib.ExitStack() as stack:

        def enter() -> dict[str, Row]:
            _read(path, request)
            if multihost.is_main_process():
                path.mkdir(parents=True, exist_ok=True)
                storage.refuse_links_out(path)
                stack.enter_context(storage.locked(path))
            rows = _read(path, request)  # again, because another process may have run in between
            if multihost.is_main_process() and not (path / FILE).exists():
                _write(path, request, rows)  # before the first trial, which a signal or a kill may stop
            return rows

        yield multihost.run_on_all_hosts(enter)


def _read(path: Path, request: Row) -> dict[str, Row]:
    """Read the rows of trials by name. Raises ValueError if the folder does not hold this sweep."""
    file = path / FILE
    if not file.exists():
        if storage.foreign_files(path, (storage.LOCK, FILE)):
            raise ValueError(f"{str(path)!r} holds other files than a sweep; give a new or empty folder as workdir")
        return {}
    before, rows = storage.read_json(file, lambda content: (upgrade(content["asked"]), _by_name(content["trials"])))
    before.setdefault("checkpoint_rule", "best")  # that of versions before 0.5
    before = {**dataclasses.asdict(Config()), **before}
    pairs = {name: (before.get(name), value) for name, value in request.items()}
    pairs = {name: pair for name, pair in pairs.items() if not is_same(name, *pair)}
    if pairs:
        listed = ", ".join(f"{name} {old!r} there, {new!r} here" for name, (old, new) in pairs.items())
        raise ValueError(
            f"the workdir {str(path)!r} holds another sweep: {listed}; use the same options or another --workdir"
        )
    return rows


def _by_name(rows: Sequence[Row]) -> dict[str, Row]:
    return {row["trial"]: {**row, "setting": upgrade(row["setting"])} for row in map(_checked, rows)}


def _checked(row: Row) -> Row:
    """Return the row of a trial. Raises ValueError if it has no result and no error, or values of other types."""
    if "error" not in row and not {"name", "value", "steps", "seconds"} <= row.keys():
        raise ValueError(f"the trial {row.get('trial')!r} has neither a result nor an error")
    for name, kind in ROW.items():
        if name in row:
            schemas.parse(kind, row[name], name)
    return row


def _write(path: Path, request: Row, rows: dict[str, Row], *, settings: Sequence[Row] = ()) -> None:
    storage.write_json(
        path / FILE, {"asked": request, "trials": list(rows.values()), "settings": settings}, has_digest=True
    )
