"""From command to first step, to the last of some, and the time of a step within the loop; each in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision.benchmarks.entrant import ENVIRONMENT

BATCH_SIZE, NUM_EXAMPLES = 128, 12_800
WARMING = 20  # steps that are not counted in the rate of the loop


class Start(NamedTuple):
    """Seconds from command to the end of the first step and of the last, and images/s after the first steps."""

    first: float
    last: float
    rate: float


def write_images(file: Path) -> None:
    """Writes random images as arrays, for all to train on."""
    rng = np.random.default_rng(0)
    sizes = {"train": NUM_EXAMPLES, "test": BATCH_SIZE}
    arrays: dict[str, Any] = {}
    for name, size in sizes.items():
        arrays[f"x_{name}"] = rng.integers(0, 256, (size, 32, 32, 3), np.uint8)
        arrays[f"y_{name}"] = np.arange(size) % 10
    np.savez(file, **arrays)


def ours(images: Path, caches: Path, *, num_steps: int) -> Start:
    """Launches the introductory network on a file of images. What it keeps between runs is kept in a folder given."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [
            "--model=cnn",
            f"--dataset=arrays(path={str(images)!r})",
            f"--steps={num_steps}",
            f"--batch_size={BATCH_SIZE}",
        ]
        flags += [f"--eval_every={num_steps}", "--validation_fraction=0.0", f"--workdir={folder}/run"]
        return _timed(["jaxvision.benchmarks.start_ours", *flags], num_steps, {"JAXVISION_CACHE": str(caches)})


def torch(images: Path, *, num_steps: int) -> Start:
    """Runs the script in PyTorch on the same images."""
    return _timed(["jaxvision.benchmarks.start_torch", str(images), str(num_steps), str(BATCH_SIZE)], num_steps, {})


def _timed(words: list[str], num_steps: int, environment: dict[str, str]) -> Start:
    kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}  # cold is cold
    command, begun = [sys.executable, "-m", *words], time.time()
    done = subprocess.run(
        command, env={**kept, **ENVIRONMENT, **environment}, capture_output=True, text=True, check=False
    )
    times = [float(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []
    if len(times) != num_steps:
        raise ValueError(f"{words[0]} failed: {(done.stderr.strip().splitlines() or [done.returncode])[-1]}")
    rate = (num_steps - WARMING) * BATCH_SIZE / (times[-1] - times[WARMING - 1])
    return Start(times[0] - begun, times[-1] - begun, rate)
