"""Startup: from command to the first and last step, in new processes; and the training loop against its bare step."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.entrant import ENVIRONMENT, entered, with_scripts
from benchmarks.races import take_turns
from benchmarks.works import WORKS

BATCH_SIZE, NUM_EXAMPLES = 128, 12_800


class Start(NamedTuple):
    """Seconds from the command to the end of the first and of the last step."""

    first: float
    last: float


def write_images(file: Path) -> None:
    """Write random images as arrays, for all to train on."""
    rng = np.random.default_rng(0)
    sizes = {"train": NUM_EXAMPLES, "test": BATCH_SIZE}
    arrays: dict[str, Any] = {}
    for name, size in sizes.items():
        arrays[f"x_{name}"] = rng.integers(0, 256, (size, 32, 32, 3), np.uint8)
        arrays[f"y_{name}"] = np.arange(size) % 10
    np.savez(file, **arrays)


def _launching(images: Path, folder: str, num_steps: int) -> list[str]:
    """Return the flags that train the introductory network on a file of images."""
    flags = ["--model=cnn", f"--dataset=arrays(path={str(images)!r})", f"--steps={num_steps}"]
    flags += [f"--batch_size={BATCH_SIZE}", f"--eval_every={num_steps}", "--validation_fraction=0.0"]
    return [*flags, f"--workdir={folder}/run"]


def ours(images: Path, caches: Path, *, num_steps: int) -> Start:
    """Train the introductory network on a file of images, with the caches in `folder`."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["-m", "benchmarks.start_ours", *_launching(images, folder, num_steps)]
        return _timed(words, num_steps, {"JAXVISION_CACHE": str(caches), **with_scripts()})


def torch(images: Path, *, num_steps: int) -> Start:
    """Run the script in PyTorch on the same images, by its path, so that it imports nothing of this package."""
    script = Path(__file__).with_name("start_torch.py")
    return _timed(["-P", str(script), str(images), str(num_steps), str(BATCH_SIZE)], num_steps, {})


def _timed(words: list[str], num_steps: int, environment: dict[str, str]) -> Start:
    kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}  # cold is cold
    command, begun = [sys.executable, *words], time.time()
    done = subprocess.run(
        command, env={**kept, **ENVIRONMENT, **environment}, capture_output=True, text=True, check=False
    )
    times = [float(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []
    if len(times) != num_steps:
        raise ValueError(f"{words[1]} failed: {(done.stderr.strip().splitlines() or [done.returncode])[-1]}")
    return Start(times[0] - begun, times[-1] - begun)


def loop(images: Path, weights: Path, *, num_rounds: int, seconds: float) -> tuple[dict[str, list[float]], list[str]]:
    """Measure the training loop with input, log and progress, and the bare step: images/s per round, and notes."""
    work = WORKS["cnn"]._replace(batch_size=BATCH_SIZE)
    told = json.dumps({"work": list(work), "weights": str(weights), "precision": "f32"})
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        flags = _launching(images, folder, 10**9)
        words = {
            "ours": ["benchmarks.loop_ours", *flags, "--mesh=data=1"],
            "our bare step": ["benchmarks.contestant", "ours", told],
        }
        entrants = entered(stack, words)
        rates = take_turns(entrants, "train", BATCH_SIZE, num_rounds, seconds)
        return rates, [f"{each.name} is out of the loop: {each.failed}" for each in entrants if each.failed]
