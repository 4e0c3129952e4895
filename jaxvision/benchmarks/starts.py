"""From command to first step, to the last of some, and the time of a step within the loop; each in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

NUM_STEPS, BATCH_SIZE, NUM_EXAMPLES = 200, 128, 12_800
WARMING = 20  # steps that are not counted in the rate of the loop


class Start(NamedTuple):
    """Seconds from command to the end of the first step and of the last, and images/s after the first steps."""

    first: float
    last: float
    rate: float


def ours(caches: Path) -> Start:
    """Launches the introductory network on random images. What it keeps between runs is kept in a folder given."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = f"synthetic(num_examples={NUM_EXAMPLES * 5 // 4}, test_fraction=0.2)"
        flags = ["--model=cnn", f"--dataset={dataset}", f"--steps={NUM_STEPS}", f"--batch_size={BATCH_SIZE}"]
        flags += [f"--eval_every={NUM_STEPS}", "--validation_fraction=0.0", f"--workdir={folder}/run"]
        return _timed(["jaxvision.benchmarks.start_ours", *flags], {"JAXVISION_CACHE": str(caches)})


def torch() -> Start:
    """Runs the script in PyTorch."""
    return _timed(["jaxvision.benchmarks.start_torch", *map(str, (NUM_STEPS, BATCH_SIZE, NUM_EXAMPLES))], {})


def _timed(words: list[str], environment: dict[str, str]) -> Start:
    begun = time.time()
    done = subprocess.run(
        [sys.executable, "-m", *words], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    times = [float(line) for line in done.stdout.splitlines()]
    if done.returncode or len(times) != NUM_STEPS:
        raise RuntimeError(f"{words[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
    rate = (NUM_STEPS - WARMING) * BATCH_SIZE / (times[-1] - times[WARMING - 1])
    return Start(times[0] - begun, times[-1] - begun, rate)
