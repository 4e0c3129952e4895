"""Kill a run many times and check that it ends bitwise equal to an undisturbed one.

A run is observed only from outside: its terminal output, and the temporary folders in its checkpoints.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import flags
from script_flags import parse, require_no_words

from jaxvision.cli.command import commands
from jaxvision.cli.errors import run_command
from jaxvision.cli.flags import define
from jaxvision.engine import logs

LAUNCH = (sys.executable, "-c", "from jaxvision.cli import main; main()", "launch")
SMALL = (  # with momentum, batch statistics, dropout, augmentations and frequent saves in each checkpoint
    "--dataset=synthetic(num_examples=4000, num_classes=10, image_size=24, noise=0.8)",
    "--model=cnn(channels=(16, 32), dense=(32,), padding='SAME', batch_norm=True, dropout=0.2)",
    *(
        "--optimizer=sgd",
        "--augmentations=horizontal_flip, random_crop(padding=2)",
        "--schedule=cosine(warmup=0.2)",
        "--batch_size=64",
    ),
    *("--validation_fraction=0.3", "--eval_batch_size=8", "--learning_rate=0.01"),
    *("--steps=1200", "--eval_every=80", "--save_every=25"),
)
PHASES = (
    "steps",
    "save",
    "evaluation",
    "start-up",
)  # the phases to kill, in turn; with many kills, the last is in the test
TICK = 0.005  # seconds between polls
PAUSE = 0.05  # seconds, at most, between detecting a phase and the kill, so that kills vary within a phase


TIMED = {  # of a checkpoint: these differ between runs
    "['report']['sums']['seconds']",
    "['report']['sums']['waiting']",
    "['report']['digest']",
}


class Failure(Exception):
    """A failed crash test: the runs differ, or a run ended with an error."""


class Watched:
    """A training run in its own process, whose terminal is read."""

    def __init__(self, flags: Sequence[str], workdir: Path):
        self.workdir, self.text, self._began = workdir, "", time.time()
        self._terminal, inside = pty.openpty()
        termios.tcsetwinsize(inside, (24, 200))  # progress bars need a width
        environment = {
            **os.environ,
            "JAXVISION_CACHE": f"{workdir}-cache",
        }  # separate, as kills may interrupt writes to it
        words = [*LAUNCH, *flags, f"--workdir={workdir}"]
        self.process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=inside, stderr=inside)
        os.close(inside)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)

    def watch(self, seconds: float) -> None:
        """Read the output for some time, or until the process ends."""
        end = time.monotonic() + seconds
        while select.select([self._terminal], [], [], max(end - time.monotonic(), 0))[0]:
            try:
                shown = os.read(self._terminal, 1 << 16)
            except OSError:  # raised on Linux when the other end is closed
                shown = b""
            if not shown:
                self.process.wait()
                return
            self.text += shown.decode(errors="replace")

    def phase(self) -> str:
        """Return the current phase, as far as the output shows it."""
        is_finished = "already finished" in self.text or re.search(r"step (\d+)/\1 epoch", self.text)
        if not is_finished and "loss=" not in self.text:  # shown by the bar from the first step on
            return "start-up"
        if self._is_saving():
            return "save"
        if is_finished:
            return "test"
        return "evaluation" if self.text.rfind("evaluate:") > self.text.rfind("train:") else "steps"

    def _is_saving(self) -> bool:
        for making in (self.workdir / "checkpoints").glob("*-tmp"):
            with contextlib.suppress(FileNotFoundError):  # saved in the meantime
                if making.stat().st_mtime > self._began:  # otherwise left by a killed run
                    return True
        return False

    def share(self) -> float:
        """Return the completed fraction of its steps."""
        shown = re.match(r"\s*(\d+)%", self.text.rpartition("train:")[2])
        return int(shown[1]) / 100 if shown else 0.0

    def story(self) -> str:
        """Return the step that it resumed from."""
        found = re.search(r"(?:resumes|already finished,) at (step \d+)|: begins, of", self.text)
        return f"went on from {found[1] or 'step 0'}" if found else "had not come to its state"

    def last_lines(self) -> str:
        """Return the last lines of the output, without progress bars."""
        lines = [line.strip() for line in re.split(r"[\r\n]|\x1b\[A", self.text)]
        return "\n".join([line for line in lines if line and not re.match(r"(train|evaluate):", line)][-8:])

    def finish(self) -> Counter[str]:
        """Wait for its end and return the seconds in each phase. Raises Failure if it ends with an error."""
        spent: Counter[str] = Counter()
        while self.process.poll() is None:
            began = time.monotonic()
            self.watch(TICK)
            spent[self.phase()] += time.monotonic() - began  # pyright: ignore[reportArgumentType]
        self.watch(0)
        if self.process.returncode:
            raise Failure(f"a run ended with status {self.process.returncode}; its last lines:\n{self.last_lines()}")
        return spent

    def kill(self, wanted: str, *, share: float, pause: float) -> str:
        """Kill it in phase `wanted`, after a fraction of its steps and a pause, and return the phase in which it was
        killed.

        If the phase ends during the pause, wait for the next one, except for start-up, which occurs once. Raises
        Failure if the run ends first.
        """
        while self.process.poll() is None:
            self.watch(TICK)
            if self.phase() == wanted and (self.share() >= share or wanted == "start-up"):
                self.watch(pause)
                phase = self._stop()
                if phase and wanted in (phase, "start-up"):
                    self.process.kill()
                    return phase
                self.process.send_signal(signal.SIGCONT)
                pause /= 2  # longer than the phase
        self.finish()
        raise Failure("the run ended before all kills: use more --steps or fewer --kills")

    def _stop(self) -> str | None:
        """Stop it, so that its phase cannot change before it is killed; return the phase, or None if it has ended."""
        self.process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self.process.returncode = os.waitstatus_to_exitcode(status)
            return None
        self.watch(0)
        return self.phase()


def contents(folder: Path) -> dict[str, Any]:
    """Return the content of the newest checkpoint in a folder by name: type, shape and bytes of arrays, and values."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    items = {
        "model": ocp.args.StandardRestore(),
        "training": ocp.args.StandardRestore(),
        "report": ocp.args.JsonRestore(),
    }
    options = ocp.CheckpointManagerOptions(read_only=True)
    with jax.enable_x64(True), ocp.CheckpointManager(folder.absolute(), options=options) as manager:
        found = manager.restore(manager.latest_step(), args=ocp.args.Composite(**items))
    leaves, _ = jax.tree_util.tree_flatten_with_path(dict(found.items()))
    return {
        jax.tree_util.keystr(path): (str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes())
        if isinstance(leaf, jax.Array)
        else leaf
        for path, leaf in leaves
    }


def difference(one: Path, other: Path) -> str | None:
    """Return in one line the first difference between two workdirs except times, or None if they are equal."""
    rows = [
        [
            {k: v for k, v in row.items() if k not in ("seconds", "data_wait_fraction")}
            for row in logs.read_rows(each / "metrics.jsonl")
        ]
        for each in (one, other)
    ]
    for index, (left, right) in enumerate(itertools.zip_longest(*rows), start=1):
        if left != right:
            return f"line {index} of metrics.jsonl is {json.dumps(left)} and {json.dumps(right)}"
    saved = [contents(each / "checkpoints") for each in (one, other)]
    for name in sorted((saved[0].keys() | saved[1].keys()) - TIMED):
        if saved[0].get(name) != saved[1].get(name):
            return f"{name} of the last checkpoint differs"
    reports = [each.read_text() if (each := path / "report" / "report.json").exists() else "" for path in (one, other)]
    return None if reports[0] == reports[1] else "report.json differs"


def _undisturbed(flags: Sequence[str], workdir: Path) -> Counter[str]:
    """Run the command; return the seconds in each phase. Raises ValueError with its message if it was refused."""
    with Watched(flags, workdir) as run:
        try:
            return run.finish()
        except Failure:
            if run.process.returncode != 2:
                raise
            raise ValueError(run.last_lines().rpartition("jaxvision: ")[2]) from None


def _aims(kills: int, has_test: bool, chance: random.Random) -> list[str]:
    """Sample the kills, equally many in each phase; the test comes last, as no step follows it."""
    at_test = ["test"] if has_test and kills > len(PHASES) else []
    aims = list(itertools.islice(itertools.cycle(PHASES), kills - len(at_test)))
    chance.shuffle(aims)
    return aims + at_test


def _kills(flags: Sequence[str], workdir: Path, aims: list[str], spent: Counter[str], chance: random.Random):
    """Run the command once per kill, each later in the run; return the phases in which it was killed."""
    pauses = {"start-up": spent["start-up"] / 2, "test": spent["test"] / 2}  # half, as programs are compiled by now
    for number, aim in enumerate(aims):
        share = 0.9 * (number + chance.random()) / len(aims)
        with Watched(flags, workdir) as run:
            phase = run.kill(aim, share=share, pause=chance.uniform(0, pauses.get(aim, PAUSE)))
            print(f"kill {number + 1} of {len(aims)}: in {phase}; the run {run.story()}", flush=True)
        yield phase


def crash_test(flags: Sequence[str], folder: str | Path, *, kills: int, seed: int) -> None:
    """Run a command undisturbed, and again with kills at times sampled from the seed. Raises Failure."""
    folder = Path(folder).expanduser()
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{str(folder)!r} is not empty; use a new folder as --workdir")
    folder.mkdir(parents=True, exist_ok=True)
    whole, killed = folder / "undisturbed", folder / "killed"
    spent = _undisturbed(flags, whole)
    print(f"undisturbed: {', '.join(f'{name} {spent[name]:.1f} s' for name in spent)}", flush=True)
    chance = random.Random(seed)
    aims = _aims(kills, (whole / "report").exists(), chance)
    hit = Counter(_kills(flags, killed, aims, spent, chance))
    with Watched(flags, killed) as run:
        run.finish()
        print(f"finally undisturbed, the run {run.story()}")
    print(f"{hit.total()} kills: {', '.join(f'{number} in {name}' for name, number in hit.most_common())}")
    found = difference(whole, killed)
    if found:
        raise Failure(f"{str(whole)!r} and {str(killed)!r} differ: {found}")
    print("the run that was killed equals the undisturbed one: checkpoint, rows and report")


def main(argv: Sequence[str]) -> None:
    """Kill a run many times and check that it ends undamaged: python scripts/crash_test.py [--kills=20]"""

    def define_all(values):
        define(commands()["train"], values)
        flags.DEFINE_integer("kills", 20, "number of kills", lower_bound=1, flag_values=values)

    values, rest = parse("scripts/crash_test.py", main.__doc__ or "", define_all, argv)
    require_no_words("scripts/crash_test.py", rest)
    own = ("kills", "workdir")
    given = [
        values[name].serialize() or f"--{name}=None" for name in values if values[name].present and name not in own
    ]
    folder = values.workdir or os.path.join("workdirs", time.strftime("crash_test-%Y%m%d-%H%M%S"))
    try:
        crash_test([*(() if values.experiment else SMALL), *given], folder, kills=values.kills, seed=values.seed or 0)
    except Failure as failure:
        print(f"jaxvision: {failure}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], "scripts/crash_test.py"))
