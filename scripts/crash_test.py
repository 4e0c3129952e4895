"""Killing a run again and again: does it end as one that was left alone, bit for bit?

A run is watched from outside alone: what it shows on a terminal, and the temporary folders in its checkpoints.
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

from jaxvision.cli.errors import run_command
from jaxvision.cli.flags import parse, require_no_words
from jaxvision.cli.training import define_launch
from jaxvision.engine import logs

LAUNCH = (sys.executable, "-c", "from jaxvision.cli import main; main()", "launch")
SMALL = (  # all that a checkpoint must hold: momentum, means of batches, keys of dropout and augments; saves all along
    "--dataset=synthetic(num_examples=4000, num_classes=10, image_size=24, noise=0.8)",
    "--model=cnn(channels=(16, 32), dense=(32,), padding='SAME', batch_norm=True, dropout=0.2)",
    *("--optimizer=sgd", "--augment=flip, crop(padding=2)", "--schedule=cosine(warmup=0.2)", "--batch_size=64"),
    *("--validation_fraction=0.3", "--eval_batch_size=8", "--learning_rate=0.01"),
    *("--steps=1200", "--eval_every=80", "--save_every=25"),
)
PHASES = ("steps", "save", "evaluation", "start-up")  # where kills are aimed at, in turn; the last of many at the test
TICK = 0.005  # seconds between two looks
PAUSE = 0.05  # seconds, at most, from seeing a phase to the kill, so that it is not always the phase's first moment


TIMED = {  # of a checkpoint: no two runs have the same
    "['report']['sums']['seconds']",
    "['report']['sums']['waiting']",
    "['report']['digest']",
}


class Failure(Exception):
    """What a crash test found: runs that ended differently, or a run that ended with an error."""


class Watched:
    """A launch in a process of its own, with a terminal that we read."""

    def __init__(self, flags: Sequence[str], workdir: Path):
        self.workdir, self.text, self._began = workdir, "", time.time()
        self._terminal, inside = pty.openpty()
        termios.tcsetwinsize(inside, (24, 200))  # the bars need a width
        environment = {**os.environ, "JAXVISION_CACHE": f"{workdir}-cache"}  # its own: kills may hit its writing too
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
        """Reads what it shows for some time, or until it ends."""
        end = time.monotonic() + seconds
        while select.select([self._terminal], [], [], max(end - time.monotonic(), 0))[0]:
            try:
                shown = os.read(self._terminal, 1 << 16)
            except OSError:  # how Linux says that nobody is at the other end any more
                shown = b""
            if not shown:
                self.process.wait()
                return
            self.text += shown.decode(errors="replace")

    def phase(self) -> str:
        """Says what it does, as far as was seen."""
        is_finished = "finished already" in self.text or re.search(r"step (\d+)/\1 epoch", self.text)
        if not is_finished and "loss=" not in self.text:  # the bar shows that with the first step
            return "start-up"
        if self._is_saving():
            return "save"
        if is_finished:
            return "test"
        return "evaluation" if self.text.rfind("evaluate:") > self.text.rfind("train:") else "steps"

    def _is_saving(self) -> bool:
        for making in (self.workdir / "checkpoints").glob("*-tmp"):
            with contextlib.suppress(FileNotFoundError):  # saved meanwhile
                if making.stat().st_mtime > self._began:  # else a killed run left it
                    return True
        return False

    def share(self) -> float:
        """Says how much of its steps is done."""
        shown = re.match(r"\s*(\d+)%", self.text.rpartition("train:")[2])
        return int(shown[1]) / 100 if shown else 0.0

    def story(self) -> str:
        """Says from where it went on."""
        found = re.search(r"(?:resumes|finished already,) at (step \d+)|: begins, of", self.text)
        return f"went on from {found[1] or 'step 0'}" if found else "had not come to its state"

    def last_lines(self) -> str:
        """Gives the end of what it showed, without the bars."""
        lines = [line.strip() for line in re.split(r"[\r\n]|\x1b\[A", self.text)]
        return "\n".join([line for line in lines if line and not re.match(r"(train|evaluate):", line)][-8:])

    def finish(self) -> Counter[str]:
        """Waits for its end; gives the seconds it spent in each phase. Raises Failure where it ends with an error."""
        spent: Counter[str] = Counter()
        while self.process.poll() is None:
            began = time.monotonic()
            self.watch(TICK)
            spent[self.phase()] += time.monotonic() - began  # pyright: ignore[reportArgumentType]
        self.watch(0)
        if self.process.returncode:
            raise Failure(f"a run ended with status {self.process.returncode}; it said\n{self.last_lines()}")
        return spent

    def kill(self, wanted: str, *, share: float, pause: float) -> str:
        """Kills it in the phase wanted, beyond a share of its steps, a pause after the phase was seen; gives the phase.

        Waits for the next where the phase ended in the pause, but for start-up: there is no other. Raises Failure where
        the run ends before.
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
                pause /= 2  # it was longer than the phase
        self.finish()
        raise Failure("the run ended before all kills: give it more --steps, or fewer --kills")

    def _stop(self) -> str | None:
        """Stops it, so that its phase cannot change between look and kill; gives the phase, None where it ended."""
        self.process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self.process.returncode = os.waitstatus_to_exitcode(status)
            return None
        self.watch(0)
        return self.phase()


def contents(folder: Path) -> dict[str, Any]:
    """Return what the newest checkpoint of a folder holds, by name: type, shape and bytes of arrays, and figures."""
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
    """Says in one line what differs first between two workdirs, times left out; None where all is equal."""
    rows = [
        [
            {k: v for k, v in row.items() if k not in ("seconds", "waiting")}
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
    """Runs the launch; gives the seconds in each phase. Raises ValueError with what it told where it was refused."""
    with Watched(flags, workdir) as run:
        try:
            return run.finish()
        except Failure:
            if run.process.returncode != 2:
                raise
            raise ValueError(run.last_lines().rpartition("jaxvision: ")[2]) from None


def _aims(kills: int, has_test: bool, chance: random.Random) -> list[str]:
    """Draws what to aim at, each phase as often as the others; the test comes last, as no step follows it."""
    at_test = ["test"] if has_test and kills > len(PHASES) else []
    aims = list(itertools.islice(itertools.cycle(PHASES), kills - len(at_test)))
    chance.shuffle(aims)
    return aims + at_test


def _kills(flags: Sequence[str], workdir: Path, aims: list[str], spent: Counter[str], chance: random.Random):
    """Runs the launch once for each aim, each further on in the run; kills it there and gives the phase it was in."""
    pauses = {"start-up": spent["start-up"] / 2, "test": spent["test"] / 2}  # programs are compiled by now: half of it
    for number, aim in enumerate(aims):
        share = 0.9 * (number + chance.random()) / len(aims)
        with Watched(flags, workdir) as run:
            phase = run.kill(aim, share=share, pause=chance.uniform(0, pauses.get(aim, PAUSE)))
            print(f"kill {number + 1} of {len(aims)}: in {phase}; the run {run.story()}", flush=True)
        yield phase


def crash_test(flags: Sequence[str], folder: str | Path, *, kills: int, seed: int) -> None:
    """Runs a launch undisturbed, and once more with kills at moments drawn from the seed. Raises Failure."""
    folder = Path(folder).expanduser()
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{str(folder)!r} is not empty; give a new folder as --workdir")
    folder.mkdir(parents=True, exist_ok=True)
    whole, killed = folder / "undisturbed", folder / "killed"
    spent = _undisturbed(flags, whole)
    print(f"undisturbed: {', '.join(f'{name} {spent[name]:.1f} s' for name in spent)}", flush=True)
    chance = random.Random(seed)
    aims = _aims(kills, (whole / "report").exists(), chance)
    hit = Counter(_kills(flags, killed, aims, spent, chance))
    with Watched(flags, killed) as run:
        run.finish()
        print(f"left alone at last, the run {run.story()}")
    print(f"{hit.total()} kills: {', '.join(f'{number} in {name}' for name, number in hit.most_common())}")
    found = difference(whole, killed)
    if found:
        raise Failure(f"{str(whole)!r} and {str(killed)!r} differ: {found}")
    print("the run that was killed equals the undisturbed one: checkpoint, rows and report")


def main(argv: Sequence[str]) -> None:
    """Kills a run at many moments and sees that it ends as one left alone: python scripts/crash_test.py [--kills=20]"""

    def define(values):
        define_launch(values)
        flags.DEFINE_integer("kills", 20, "how often the run is killed", lower_bound=1, flag_values=values)

    values, rest = parse("scripts/crash_test.py", main.__doc__ or "", define, argv)
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
