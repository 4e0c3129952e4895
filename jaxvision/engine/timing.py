"""Metric sums between two reports, with the seconds that passed and the seconds that devices waited for data."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxvision import failures
from jaxvision.config import Config
from jaxvision.interfaces import Batch

# Sums of values since the last report, with the "count" of steps, their "seconds" and the "waiting" ones among these.
Sums = dict[str, float]


class StepTimer:
    """Yields batches, and measures the time and how long devices wait for data. A thread records when steps finish."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches, self._pool, self._ended = batches, ThreadPoolExecutor(1), None
        self._began, self._waiting = time.perf_counter(), 0.0

    def close(self) -> None:
        self._pool.shutdown()

    def dispatched(self, means: Any) -> None:
        """Record dispatched steps, whose values are `means`."""
        self._ended = self._pool.submit(_end_of, means)

    def next(self) -> Batch:
        """Wait for the next batch."""
        began = time.perf_counter()
        batch = next(self._batches)
        if self._ended is None or self._ended.done():
            idle_from = began if self._ended is None else max(began, self._ended.result())
            self._waiting += time.perf_counter() - idle_from
        return batch

    def added(self, sums: Sums) -> Sums:
        """Return the sums plus the seconds since the last report."""
        now = time.perf_counter()
        counted = {"seconds": now - self._began, "waiting": self._waiting}
        self._began, self._waiting = now, 0.0
        return {**sums, **{name: sums.get(name, 0.0) + seconds for name, seconds in counted.items()}}

    def skip(self) -> None:
        """Exclude the time since the last call."""
        self._began = time.perf_counter()


def _end_of(means: Any) -> float:
    """Wait for steps and return the time at which they ended. Errors are raised again when their values are added."""
    with contextlib.suppress(Exception):
        jax.block_until_ready(means)
    return time.perf_counter()


def finished(means: dict[str, Any], count: int) -> list[Sums]:
    """Wait for `count` steps that were dispatched together, and return the values of each.

    The program of several steps returns a row of values for the largest possible count; rows beyond `count` are unused.
    """
    rows = {name: np.atleast_1d(values) for name, values in jax.device_get(means).items()}
    return [{name: float(values[index]) for name, values in rows.items()} for index in range(count)]


def with_step(sums: Sums, step: int, values: Sums, *, on_nonfinite: str) -> Sums:
    """Add the values of a step to the sums. If they are not finite, raise FloatingPointError or skip them."""
    wrong = [f"{name} is {values[name]}" for name in ("loss", "gradient_norm") if not math.isfinite(values[name])]
    if wrong and on_nonfinite == "stop":
        raise FloatingPointError(failures.diverged(wrong, step))
    added = {"num_skipped": 1.0} if wrong else {**values, "count": 1.0}
    return {name: sums.get(name, 0.0) + added.get(name, 0.0) for name in {**sums, **added}}


def num_steps(sums: Sums) -> int:
    """Return the number of steps in the sums, including skipped ones."""
    return round(sums.get("count", 0.0) + sums.get("num_skipped", 0.0))


def means(sums: Sums, *, step: int, rate: float) -> Sums:
    """Return means over the steps that were not skipped, the learning rate, the seconds, and data_wait_fraction.

    Raises FloatingPointError if all steps were skipped.
    """
    counts = {name: sums.get(name, 0.0) for name in ("count", "num_skipped", "seconds", "waiting")}
    if not counts["count"]:
        raise FloatingPointError(failures.all_skipped(counts["num_skipped"], step))
    values = {name: total / counts["count"] for name, total in sums.items() if name not in counts}
    if counts["num_skipped"]:
        values["num_skipped"] = counts["num_skipped"]
    times = {"seconds": counts["seconds"], "data_wait_fraction": counts["waiting"] / counts["seconds"]}
    return {**values, "learning_rate": rate, **times}


def should_evaluate(step: int, config: Config, num_examples: int) -> bool:
    """Return whether an evaluation follows a step: every eval_every steps, or by default at the end of each epoch."""
    if config.eval_every:
        return step % config.eval_every == 0
    return step * config.effective_batch_size // num_examples > (step - 1) * config.effective_batch_size // num_examples
