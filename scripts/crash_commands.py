"""Kill a sweep, the first filling of the image cache, an export and an evaluation many times, and compare the results.

`crash_test.py` does so for training. Each command runs once undisturbed and, in another folder, is then killed at times
spread over its duration. The same command must then end with the same result, and an export must never be partial.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from PIL import Image
from script_flags import parse

from jaxvision.cli.errors import run_command

PROGRAM = (sys.executable, "-c", "from jaxvision.cli import main; main()")
TIMED = {"seconds", "data_wait_fraction", "workdir", "digest"}  # keys of JSON that differ between runs
SMALL = ("--model=cnn(channels=(8,), dense=(16,))", "--batch_size=32", "--schedule=constant", "--learning_rate=0.01")
EXPERIMENT = """\"\"\"A small search.\"\"\"

from jaxvision import Config

SEARCH_SPACE = {"seed": [0, 1], "learning_rate": [0.01, 0.02]}
CONFIG = Config(
    dataset="digits", model="cnn(channels=(8,), dense=(16,))", schedule="constant", batch_size=32, steps=60,
    eval_every=20,
)
"""
EARLIEST = 0.3  # of a command's duration: before, it only imports

Result = dict[str, Any]


class Failure(Exception):
    """A command that was killed ended with another result, or with an error."""


class Scenario(NamedTuple):
    """A command, run in a folder: its words, and what it leaves there, without times.

    `outputs` are what it writes. `check` raises Failure for what a kill must never leave.
    """

    words: tuple[str, ...]
    result: Callable[[Path], Result]
    outputs: tuple[str, ...]
    check: Callable[[Path, Result], None] = lambda folder, whole: None


def untimed(value: Any) -> Any:
    """Return a value of JSON without the keys that differ between runs."""
    if isinstance(value, dict):
        return {key: untimed(each) for key, each in value.items() if key not in TIMED}
    return [untimed(each) for each in value] if isinstance(value, list) else value


def files(folder: Path, *patterns: str) -> Result:
    """Return what the files below a folder hold, by path: JSON without times, and of others the SHA-256."""
    paths = sorted(path for pattern in patterns for path in folder.rglob(pattern) if path.is_file())
    return {
        str(path.relative_to(folder)): untimed(json.loads(path.read_text()))
        if path.suffix == ".json"
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def _cache(folder: Path) -> Result:
    """Return the arrays in the image cache, and the temporary folders in it, by the position of their entry."""
    entries = sorted((folder / "cache" / "arrays").iterdir())
    return {
        f"{number} {name}": value for number, entry in enumerate(entries) for name, value in files(entry, "*").items()
    }


def _check_export(folder: Path, whole: Result) -> None:
    if (folder / "exported").exists() and files(folder / "exported", "*") != whole:
        raise Failure("a killed export left a partial folder")


def scenarios(common: Path) -> dict[str, Scenario]:
    """Return what is killed, by name. `common` holds photographs and a trained workdir."""
    photos = f"--dataset=folder(path={str(common / 'photos')!r}, image_size=48)"
    return {
        "sweep": Scenario(
            ("sweep", f"--experiment={common / 'small_sweep.py'}", "--workdir=swept"),
            lambda folder: files(folder / "swept", "sweep.json"),
            ("swept",),
        ),
        "cache": Scenario(("train", photos, *SMALL, "--steps=2", "--workdir=run"), _cache, ("cache", "run")),
        "export": Scenario(
            ("export", f"--workdir={common / 'resnet'}", "--folder=exported"),
            lambda folder: files(folder / "exported", "*"),
            ("exported",),
            _check_export,
        ),
        "evaluation": Scenario(
            ("evaluate", "run"),
            lambda folder: files(folder / "run", "report.json", "predictions.csv"),
            ("run/report",),
        ),
    }


def _environment(folder: Path, name: str) -> dict[str, str]:
    """Return the environment of a command. Compiled programs are cached apart, so that kills come at its own work."""
    cache = folder / "cache" if name == "cache" else folder.parent / "compiled"
    return {**os.environ, "JAXVISION_CACHE": str(cache), "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled")}


def _started(scenario: Scenario, folder: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        (*PROGRAM, *scenario.words),
        cwd=folder,
        env=_environment(folder, name),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _finish(scenario: Scenario, folder: Path, name: str) -> float:
    """Run a command to its end and return the seconds it took. Raises Failure if it fails."""
    began = time.monotonic()
    process = _started(scenario, folder, name)
    _, errors = process.communicate()
    if process.returncode:
        raise Failure(f"{name} ended with status {process.returncode}: {errors.strip()[-500:]}")
    return time.monotonic() - began


def _kills(
    scenario: Scenario, folder: Path, name: str, wanted: Result, *, count: int, seconds: float, seed: int
) -> Iterator[float]:
    """Kill a command `count` times, and yield after how many seconds. A run that ends before its kill is repeated."""
    number, chance = 0, random.Random(seed)
    while number < count:
        delay = seconds * (EARLIEST + (1 - EARLIEST) * (number + chance.random()) / count)
        process = _started(scenario, folder, name)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            number += 1
            yield delay
            continue
        errors = process.communicate()[1]
        is_complete = name == "export" and "is not empty" in errors  # the last kill came after its end
        if process.returncode and not is_complete:
            raise Failure(f"{name} ended with status {process.returncode}: {errors.strip()[-500:]}")
        _compare(scenario, folder, name, wanted)
        seconds *= 0.95
        for output in scenario.outputs:
            shutil.rmtree(folder / output, ignore_errors=True)


def _compare(scenario: Scenario, folder: Path, name: str, wanted: Result) -> None:
    found = scenario.result(folder)
    if found != wanted:
        different = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
        raise Failure(f"{name}, killed, left another result: {', '.join(different[:5])} differ")


def prepare(common: Path) -> None:
    """Write an experiment and photographs, and train the workdirs that are exported and evaluated."""
    (common / "small_sweep.py").write_text(EXPERIMENT)
    rng = np.random.default_rng(0)
    for index in range(1_200):
        path = common / "photos" / f"class{index % 3}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (160, 160, 3), dtype=np.uint8)).save(path, compress_level=1)
    digits = ("--dataset=digits", "--batch_size=32", "--steps=2")
    _finish(Scenario(("train", *digits, "--model=resnet18", "--workdir=resnet"), files, ()), common, "training")
    _finish(Scenario(("train", *digits, *SMALL, "--workdir=run"), files, ()), common, "training")


def _folder(common: Path, name: str, suffix: str) -> Path:
    """Return a new folder in which a command runs; evaluation has a trained workdir in it."""
    folder = common / f"{name}-{suffix}"
    folder.mkdir()
    if name == "evaluation":
        shutil.copytree(common / "run", folder / "run")
        shutil.rmtree(folder / "run" / "report")  # that training wrote
    return folder


def kill_often(name: str, scenario: Scenario, common: Path, *, kills: int, seed: int) -> None:
    """Compare the result of a command that is killed many times with an undisturbed one. Raises Failure."""
    whole, again, killed = (_folder(common, name, suffix) for suffix in ("whole", "again", "killed"))
    _finish(scenario, whole, name)
    wanted = scenario.result(whole)
    if not wanted:
        raise Failure(f"{name} left nothing to compare")
    seconds = _finish(scenario, again, name)  # its programs are compiled by now
    delays = []
    for delay in _kills(scenario, killed, name, wanted, count=kills, seconds=seconds, seed=seed):
        scenario.check(killed, wanted)
        delays.append(delay)
    if not (name == "export" and (killed / "exported").exists()):
        _finish(scenario, killed, name)
    _compare(scenario, killed, name, wanted)
    span = f"{min(delays):.1f} to {max(delays):.1f} of {seconds:.1f} s"
    print(f"{name}: {len(delays)} kills after {span}; {len(wanted)} files are equal", flush=True)


def main(argv: Sequence[str]) -> None:
    """Kill commands many times and compare their results: python scripts/crash_commands.py [--kills=20] [NAME ...]"""

    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_integer("kills", 20, "number of kills of each command", lower_bound=1, flag_values=values)
        flags.DEFINE_integer("seed", 0, "seed of the times of the kills", flag_values=values)

    values, names = parse("scripts/crash_commands.py", main.__doc__ or "", define, argv)
    with tempfile.TemporaryDirectory(prefix="crash-commands-") as folder:
        common = Path(folder)
        every = scenarios(common)
        unknown = sorted(set(names) - set(every))
        if unknown:
            raise ValueError(f"no command {unknown[0]!r}; expected some of {', '.join(every)}")
        try:
            prepare(common)
            for name in names or every:
                kill_often(name, every[name], common, kills=values.kills, seed=values.seed)
        except Failure as failure:
            print(f"jaxvision: {failure}", file=sys.stderr)
            raise SystemExit(1) from None


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], "scripts/crash_commands.py"))
