"""The verb sweep: a config and a space of values -> a workdir for each trial, rows, a picture and the best config."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxvision import run as runs
from jaxvision import space as spaces
from jaxvision import storage
from jaxvision import workdir as workdirs
from jaxvision.config import DEFAULT_EXECUTION, Config, Execution, is_same
from jaxvision.distributed import multihost
from jaxvision.engine.signals import Interrupted
from jaxvision.plugins import load_plugins
from jaxvision.ranking import Row, Sweep, best_evaluation, rank, table
from jaxvision.reports import plots
from jaxvision.space import Space
from jaxvision.train import train
from jaxvision.training_setup import check_specs
from jaxvision.trials import Order, Search, Trial, plan
from jaxvision.upgrades import upgrade_task_spec

__all__ = ["Sweep", "sweep", "table"]

FILE = "sweep.json"


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
    """Train a config with each setting of a space, a grid or drawn at random, and rank them on validation.

    `space` maps fields to values to choose from, or to a Range to draw from. Each setting is trained with so many
    seeds, from the config's on, and on so many folds of all that is not test. The best checkpoint of each trial counts;
    the test split is left alone. A trial that fails is told in its row. Trials that have ended in the workdir are not
    run again, unless their folder is deleted; one that was stopped goes on. Writes sweep.json and sweep.png.

    Raise ValueError before anything is trained for what cannot be, or where the workdir is of another sweep, and after
    all for failures of all trials; Interrupted after a signal, saved.
    """
    load_plugins(plugins)
    wanted = Search(space, search, num_trials, seeds, folds)
    trials = plan(config, wanted)
    multihost.together(
        lambda: [check_specs(trial.config, execution, is_dataset_named=dataset is None) for trial in trials]
    )
    place = storage.to_path(workdir) if workdir else workdirs.fresh(config, prefix="sweep-")
    path = storage.to_path(multihost.from_first(str(place)))
    judging = {"views": execution.views, "on_nonfinite": execution.on_nonfinite}  # they make trials unlike
    asked = {**dataclasses.asdict(config), **judging, **wanted.as_json()}
    options = {"execution": execution, "data_dir": data_dir, "dataset": dataset, "plugins": plugins}
    with _entered(path, asked) as rows:
        _run_all(trials, path, asked, rows, **options)
        ranked = rank([rows[trial.name] for trial in trials])
        if multihost.is_first():
            _write(path, asked, rows, settings=ranked)
            judged = [row for row in ranked if row["value"] is not None]
            columns = ([row[name] for row in judged] for name in ("setting", "value", "deviation"))
            plots.choices(*columns, ranked[0]["name"], path / "sweep.png")
    best = next(trial for trial in trials if trial.setting == ranked[0]["setting"])
    return Sweep(ranked, best.config.replace(fold=config.fold), path)


def _run_all(trials: Sequence[Trial], path: Path, asked: Row, rows: dict[str, Row], **options: Any) -> None:
    """Run the trials that have not ended before, and add each one's row to the rows and the file."""
    ended = {trial.name for trial in trials if trial.name in rows and (path / trial.name).exists()}
    _say(f"{path}: {len(trials)} trials" + f", {len(ended)} of them ended before" * bool(ended))
    for number, trial in enumerate(trials, 1):
        if trial.name in ended:
            continue
        _say(f"trial {number} of {len(trials)}: {trial.name}, {spaces.describe(trial.setting)}")
        try:
            rows[trial.name] = _run(trial, path, **options)
        except Interrupted as stop:
            stop.workdir = path  # of what goes on by the same command
            raise
        if multihost.is_first():
            _write(path, asked, rows)


def _say(line: str) -> None:
    if multihost.is_first():
        print(line, flush=True)


def _run(trial: Trial, path: Path, **options: Any) -> Row:
    """Train a trial, or go on with it: its row, with the value of its best checkpoint or with what went wrong."""
    row = {"trial": trial.name, "setting": trial.setting, "seed": trial.config.seed, "fold": trial.config.fold}
    try:
        result = train(trial.config, workdir=path / trial.name, choosing=True, **options)
    except (ValueError, FloatingPointError, jax.errors.JaxRuntimeError) as error:
        row["error"] = " ".join(str(error).split())
        _say(f"failed: {row['error']}")
        return row
    task = runs.build_task(trial.config, workdirs.Signature.load(result.workdir / "signature.json"))
    assert task.monitor is not None  # train would have raised
    row |= {"name": task.monitor.name, "direction": task.monitor.mode, "steps": result.history[-1]["step"]}
    row["seconds"] = sum(each.get("seconds", 0.0) for each in result.history)
    best = best_evaluation(result.history, task.monitor)
    if best is None:
        return {**row, "error": f"{task.monitor.name} was never finite"}
    row["value"], row["step"] = best
    return row


@contextlib.contextmanager
def _entered(path: Path, asked: Row) -> Iterator[dict[str, Row]]:
    """Make the folder the sweep's, or check that it is, keep others out, and give the rows of trials that ended."""
    with contextlib.ExitStack() as held:

        def enter() -> dict[str, Row]:
            _read(path, asked)
            if multihost.is_first():
                path.mkdir(parents=True, exist_ok=True)
                held.enter_context(storage.locked(path))
            return _read(path, asked)  # once more: another may have begun and ended since

        yield multihost.together(enter)


def _read(path: Path, asked: Row) -> dict[str, Row]:
    """Read the rows of trials, by name. Raise ValueError where the folder holds something else than this sweep."""
    file = path / FILE
    if not file.exists():
        if storage.foreign_files(path, (storage.LOCK, FILE)):
            raise ValueError(f"{str(path)!r} holds other things than a sweep; give a new or empty folder as workdir")
        return {}
    before, rows = storage.read_json(file, lambda content: (dict(content["asked"]), _by_name(content["trials"])))
    before = {**dataclasses.asdict(Config()), **before, "task": upgrade_task_spec(before["task"])}
    pairs = {name: (before.get(name), value) for name, value in asked.items()}
    pairs = {name: pair for name, pair in pairs.items() if not is_same(name, *pair)}
    if pairs:
        listed = ", ".join(f"{name} {old!r} there, {new!r} here" for name, (old, new) in pairs.items())
        raise ValueError(f"the workdir {str(path)!r} is of another sweep: {listed}; give the same or another --workdir")
    return rows


def _by_name(rows: Sequence[Row]) -> dict[str, Row]:
    return {row["trial"]: row for row in rows}


def _write(path: Path, asked: Row, rows: dict[str, Row], *, settings: Sequence[Row] = ()) -> None:
    storage.write_json(path / FILE, {"asked": asked, "trials": list(rows.values()), "settings": settings})
