"""The verb sweep: a config and a space of values -> a workdir for each trial, rows, a picture and the best config."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import statistics
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from jaxvision import hosts, pictures, registry
from jaxvision import run as runs
from jaxvision import space as spaces
from jaxvision import workdir as workdirs
from jaxvision.config import Config, write_json
from jaxvision.interrupts import Interrupted
from jaxvision.job import check_specs
from jaxvision.space import Setting, Space
from jaxvision.train import train

FILE = "sweep.json"
Row = dict[str, Any]


class Trial(NamedTuple):
    """One training run of a sweep: its folder's name, the setting that it tries, and its whole config."""

    name: str
    setting: Setting
    config: Config


class Sweep(NamedTuple):
    """What a sweep gives: a row for each setting, the best first, the config of the best, the workdir."""

    rows: list[Row]
    best: Config
    workdir: Path

    def __repr__(self) -> str:
        told = f"{self.rows[0]['name']} {self.rows[0]['value']:.4f} by {_told(self.rows[0]['setting'])}"
        return f"Sweep(workdir={str(self.workdir)!r}, {len(self.rows)} settings, best {told})"


def plan(
    config: Config,
    space: Space,
    *,
    search: Literal["grid", "random"] = "grid",
    num_trials: int | None = None,
    seeds: int = 1,
    folds: int | None = None,
) -> list[Trial]:
    """Lists the trials of a sweep: for each setting each seed, and for each of these each fold.

    Values for `seed` in the space are the seeds. Raises ValueError or TypeError for what Config does not take.
    """
    spaces.check(space)
    numbers = space.get("seed", range(config.seed, config.seed + seeds))
    if isinstance(numbers, spaces.Range) or ("seed" in space and seeds != 1) or seeds < 1:
        raise ValueError(f"seeds={seeds}; wanted 1 or more, or values for seed in SPACE, as (0, 1, 2)")
    if (search == "random") != (num_trials is not None):
        raise ValueError(f"num_trials={num_trials}; wanted a number with --search=random, and none with --search=grid")
    chosen = {name: values for name, values in space.items() if name != "seed"}
    settings = spaces.grid(chosen) if num_trials is None else spaces.draw(chosen, num_trials, seed=config.seed)
    trials = []
    for index, setting in enumerate(settings):
        for seed in numbers:
            for fold in range(1, folds + 1) if folds else (None,):
                name = f"{index:04}-seed{seed}" + (f"-fold{fold}" if fold else "")
                place = {"fold": f"{fold}/{folds}"} if fold else {}
                trials.append(Trial(name, setting, config.replace(**setting, seed=seed, **place)))
    return trials


def sweep(
    config: Config,
    space: Space,
    *,
    search: Literal["grid", "random"] = "grid",
    num_trials: int | None = None,
    seeds: int = 1,
    folds: int | None = None,
    workdir: str | Path | None = None,
    data_dir: str | None = None,
    dataset: Any = None,
    plugins: Sequence[str] = (),
) -> Sweep:
    """Trains a config with each setting of a space, a grid or drawn at random, and ranks them on validation.

    `space` maps fields to values to choose from, or to a Range to draw from. Each setting is trained with so many
    seeds, from the config's on, and on so many folds of all that is not test. The best checkpoint of each trial counts;
    the test split is left alone. A trial that fails is told in its row. Trials that have ended in the workdir are not
    run again, unless their folder is deleted; one that was stopped goes on. Writes sweep.json and sweep.png.

    Raises ValueError before anything is trained for what cannot be, or where the workdir is of another sweep, and after
    all for failures of all trials; Interrupted after a signal, saved.
    """
    registry.load_plugins(plugins)
    trials = plan(config, space, search=search, num_trials=num_trials, seeds=seeds, folds=folds)
    hosts.together(lambda: [check_specs(trial.config, dataset is None) for trial in trials])
    path = Path(
        hosts.from_first(str(Path(workdir).expanduser() if workdir else workdirs.fresh(config, prefix="sweep-")))
    )
    asked = {**dataclasses.asdict(config), "SPACE": spaces.plain(space), "search": search, "folds": folds}
    with _entered(path, asked) as rows:
        ended = {trial.name for trial in trials if trial.name in rows and (path / trial.name).exists()}
        _say(f"{path}: {len(trials)} trials" + f", {len(ended)} of them ended before" * bool(ended))
        for number, trial in enumerate(trials, 1):
            if trial.name not in ended:
                _say(f"trial {number} of {len(trials)}: {trial.name}, {_told(trial.setting)}")
                try:
                    rows[trial.name] = _run(trial, path, data_dir=data_dir, dataset=dataset, plugins=plugins)
                except Interrupted as stop:
                    stop.workdir = path  # of what goes on by the same command
                    raise
                if hosts.is_first():
                    _write(path, asked, rows)
        ranked = rank([rows[trial.name] for trial in trials])
        best = next(trial for trial in trials if trial.setting == ranked[0]["setting"])
        if hosts.is_first():
            _write(path, asked, rows, settings=ranked)
            judged = [row for row in ranked if row["value"] is not None]
            columns = ([row[name] for row in judged] for name in ("setting", "value", "deviation"))
            pictures.choices(*columns, ranked[0]["name"], path / "sweep.png")
    return Sweep(ranked, best.config.replace(fold=config.fold), path)


def _say(line: str) -> None:
    if hosts.is_first():
        print(line, flush=True)


def _told(setting: Setting) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in setting.items())


def _run(trial: Trial, path: Path, **options: Any) -> Row:
    """Trains a trial, or goes on with it: its row, with the value of its best checkpoint or with what went wrong."""
    row = {"trial": trial.name, "setting": trial.setting, "seed": trial.config.seed, "fold": trial.config.fold}
    try:
        result = train(trial.config, workdir=path / trial.name, choosing=True, **options)
    except (ValueError, FloatingPointError, jax.errors.JaxRuntimeError) as error:
        row["error"] = " ".join(str(error).split())
        _say(f"failed: {row['error']}")
        return row
    task = runs.build_task(trial.config, workdirs.Signature.load(result.workdir / "signature.json"))
    assert task.best is not None  # train would have raised
    name, direction = task.best
    row |= {"name": name, "direction": direction, "steps": result.history[-1]["step"]}
    row["seconds"] = sum(each.get("seconds", 0.0) for each in result.history)
    values = [(each.get(name, math.nan), each["step"]) for each in result.history if each["split"] == "validation"]
    values = [(value, step) for value, step in values if math.isfinite(value)]
    if not values:
        return {**row, "error": f"{name} was never finite"}
    row["value"], row["step"] = max(values, key=lambda each: (_sign(direction) * each[0], each[1]))
    return row


def _sign(direction: str) -> int:
    return 1 if direction == "max" else -1


def rank(rows: Sequence[Row]) -> list[Row]:
    """Gathers the rows of trials by setting, and sorts these, the best mean first and last those where a trial failed.

    Raises ValueError where all trials failed, or are judged by values of different names.
    """
    judged = {(row["name"], row["direction"]) for row in rows if "error" not in row}
    if not judged:
        raise ValueError(f"all {len(rows)} trials failed; the first: {rows[0]['error']}")
    if len(judged) > 1:
        raise ValueError(f"no ranking by {' and '.join(sorted(name for name, _ in judged))}: sweep the tasks apart")
    ((name, direction),) = judged
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(json.dumps(row["setting"]), []).append(row)
    gathered = [_gathered(group, name) for group in groups.values()]
    worst = -math.inf

    def order(row: Row) -> tuple[bool, float]:
        return row["error"] is None, worst if row["value"] is None else _sign(direction) * row["value"]

    return sorted(gathered, key=order, reverse=True)


def _gathered(group: list[Row], name: str) -> Row:
    """Gives the row of a setting: mean and standard deviation over its trials, and what they took together."""
    good = [row for row in group if "error" not in row]
    errors = [row["error"] for row in group if "error" in row]
    values = [row["value"] for row in good]
    share = f"{len(errors)} of {len(group)}: " if len(group) > 1 else ""
    return {
        "setting": group[0]["setting"],
        "name": name,
        "value": statistics.mean(values) if values else None,
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "steps": round(statistics.mean(row["steps"] for row in good)) if good else None,
        "seconds": sum(row["seconds"] for row in good),
        "error": f"{share}{errors[0]}" if errors else None,
        "trials": [row["trial"] for row in group],
    }


def table(found: Sweep) -> list[dict[str, str]]:
    """Gives the cells of a table: a row for each setting, with those fields that vary."""
    settings = [row["setting"] for row in found.rows]
    varied = [name for name in settings[0] if len({repr(setting[name]) for setting in settings}) > 1]
    failed = any(row["error"] for row in found.rows)
    return [
        {
            row["name"]: _figure(row["value"], row["deviation"]),
            **{name: repr(row["setting"][name]) for name in varied},
            "steps": "" if row["steps"] is None else str(row["steps"]),
            "seconds": f"{row['seconds']:.1f}",
            **({"failed": textwrap.shorten(row["error"] or "", 80, placeholder=" …")} if failed else {}),
        }
        for row in found.rows
    ]


def _figure(value: float | None, deviation: float | None) -> str:
    spread = "" if deviation is None else f" ± {deviation:.4f}"
    return "" if value is None else f"{value:.4f}{spread}"


@contextlib.contextmanager
def _entered(path: Path, asked: Row) -> Iterator[dict[str, Row]]:
    """Makes the folder the sweep's, or checks that it is, keeps others out, and gives the rows of trials that ended."""
    with contextlib.ExitStack() as held:

        def enter() -> dict[str, Row]:
            _read(path, asked)
            if hosts.is_first():
                path.mkdir(parents=True, exist_ok=True)
                held.enter_context(workdirs.locked(path))
            return _read(path, asked)  # once more: another may have begun and ended since

        yield hosts.together(enter)


def _read(path: Path, asked: Row) -> dict[str, Row]:
    """Reads the rows of trials, by name. Raises ValueError where the folder holds something else than this sweep."""
    file = path / FILE
    if not file.exists():
        if path.exists() and (not path.is_dir() or any(p.name not in ("lock", f".{FILE}.tmp") for p in path.iterdir())):
            raise ValueError(f"{str(path)!r} holds other things than a sweep; give a new or empty folder as workdir")
        return {}
    try:
        content = json.loads(file.read_text())
        before, rows = dict(content["asked"]), {row["trial"]: row for row in content["trials"]}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is damaged: {type(error).__name__}: {error}") from None
    pairs = {name: (before.get(name), value) for name, value in asked.items() if before.get(name) != value}
    if pairs:
        listed = ", ".join(f"{name} {old!r} there, {new!r} here" for name, (old, new) in pairs.items())
        raise ValueError(f"the workdir {str(path)!r} is of another sweep: {listed}; give the same or another --workdir")
    return rows


def _write(path: Path, asked: Row, rows: dict[str, Row], *, settings: Sequence[Row] = ()) -> None:
    write_json(path / FILE, {"asked": asked, "trials": list(rows.values()), "settings": settings})
