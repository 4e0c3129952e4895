"""What steps yield between two reports: sums of their values, seconds, and of these the ones without input."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxvision.config import Config
from jaxvision.interfaces import Batch

# Of each value over the steps since the last report, their "count", their "seconds" and of these the "waiting" ones.
Sums = dict[str, float]


class Clock:
    """Gives batches, and counts the seconds since it was last asked into the sums, and those of them in which no step
    was computed for want of input. A thread sees when steps end.
    """

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches, self._pool, self._ended = batches, ThreadPoolExecutor(1), None
        self._began, self._waiting = time.perf_counter(), 0.0

    def close(self) -> None:
        self._pool.shutdown()

    def dispatched(self, means: Any) -> None:
        """Is told of steps under way, whose means these will be."""
        self._ended = self._pool.submit(_end_of, means)

    def next(self) -> Batch:
        """Waits for the next batch."""
        began = time.perf_counter()
        batch = next(self._batches)
        if self._ended is None or self._ended.done():
            idle_from = began if self._ended is None else max(began, self._ended.result())
            self._waiting += time.perf_counter() - idle_from
        return batch

    def added(self, sums: Sums) -> Sums:
        """Gives the sums with the seconds since the last call."""
        now = time.perf_counter()
        counted = {"seconds": now - self._began, "waiting": self._waiting}
        self._began, self._waiting = now, 0.0
        return {**sums, **{name: sums.get(name, 0.0) + seconds for name, seconds in counted.items()}}

    def skip(self) -> None:
        """Leaves out what has passed since."""
        self._began = time.perf_counter()


def _end_of(means: Any) -> float:
    """Waits for steps; gives the time at which they ended. What was wrong with them is told where they are added."""
    with contextlib.suppress(Exception):
        jax.block_until_ready(means)
    return time.perf_counter()


def finished(means: dict[str, Any], count: int) -> list[Sums]:
    """Waits for that many steps that were dispatched at once, and gives the values of each.

    The program of several steps has a row of values for each that it could take; those beyond `count` are no step's.
    """
    rows = {name: np.atleast_1d(values) for name, values in jax.device_get(means).items()}
    return [{name: float(values[index]) for name, values in rows.items()} for index in range(count)]


def with_step(sums: Sums, step: int, values: Sums, *, on_nonfinite: str) -> Sums:
    """Adds a step's values to the sums. Raises FloatingPointError where they are not finite, or counts it."""
    wrong = [f"{name} is {values[name]}" for name in ("loss", "gradient_norm") if not math.isfinite(values[name])]
    if wrong and on_nonfinite == "stop":
        raise FloatingPointError(
            f"{' and '.join(wrong)} at step {step}; stopped, and what was saved before it is kept: try a lower "
            "--learning_rate, --clip_norm=1 or a schedule with warmup in another --workdir, or go on with "
            "--on_nonfinite=skip where it is a rare batch's doing"
        )
    added = {"num_skipped": 1.0} if wrong else {**values, "count": 1.0}
    return {name: sums.get(name, 0.0) + added.get(name, 0.0) for name in {**sums, **added}}


def num_steps(sums: Sums) -> int:
    """Counts the steps in the sums, those that were skipped among them."""
    return round(sums.get("count", 0.0) + sums.get("num_skipped", 0.0))


def means(sums: Sums, *, step: int, rate: float) -> Sums:
    """Gives the means over the steps up to this one, their learning rate at its end, their seconds and waiting share.

    Raises FloatingPointError where all steps were skipped.
    """
    counts = {name: sums.get(name, 0.0) for name in ("count", "num_skipped", "seconds", "waiting")}
    if not counts["count"]:
        raise FloatingPointError(
            f"all {counts['num_skipped']:.0f} steps up to step {step} were skipped, as their loss or gradient is not "
            "finite: the parameters are past mending; begin anew with a lower --learning_rate or --clip_norm=1"
        )
    values = {name: total / counts["count"] for name, total in sums.items() if name not in counts}
    if counts["num_skipped"]:
        values["num_skipped"] = counts["num_skipped"]
    times = {"seconds": counts["seconds"], "waiting": counts["waiting"] / counts["seconds"]}
    return {**values, "learning_rate": rate, **times}


def is_due(step: int, config: Config, num_examples: int) -> bool:
    """Says whether an evaluation follows a step: every eval_every steps, or else where an epoch ends."""
    if config.eval_every:
        return step % config.eval_every == 0
    return step * config.step_size // num_examples > (step - 1) * config.step_size // num_examples
