"""The learning-rate range test: choose a learning rate by the losses of a short training with a rising one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import failures, storage
from jaxvision import run as runs
from jaxvision import workdir as workdirs
from jaxvision.config import DEFAULT_EXECUTION, Config, Execution
from jaxvision.distributed import mesh as meshes
from jaxvision.distributed import multihost
from jaxvision.engine import pipeline
from jaxvision.interfaces import Dataset
from jaxvision.training_setup import prepare

FILE, PLOT = "range_test.json", "range_test.png"
LEAST, MOST = 1e-6, 10.0
NUM_STEPS = 100
SMOOTHING = 0.9  # of the moving average of losses
LOWERED = 0.9  # the lowest loss in terms of the first, at most: less is noise
DIVERGED = 4.0  # times the lowest loss so far: the test ends
MARGIN = 10.0  # between the rate with the lowest loss, where training is about to diverge, and the chosen one


class RangeTest(NamedTuple):
    """The rates and losses of the steps, the losses smoothed, and the chosen rate."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    learning_rate: float


def with_tested_rate(
    config: Config,
    data: Dataset,
    folder: Path,
    *,
    execution: Execution = DEFAULT_EXECUTION,
    previous: tuple[Config, Execution] | None = None,
    weights: Any = None,
) -> Config:
    """Return a config with a number as learning rate: that of the run in the folder, or else of a range test.

    `previous` are the settings of that run. Writes range_test.json and range_test.png into the folder.

    Raises ValueError if no rate lowers the loss, or if the folder has other files.
    """
    if previous is not None:
        return config.replace(learning_rate=previous[0].learning_rate)
    if storage.foreign_files(folder, workdirs.FIRST_FILES):
        raise ValueError(failures.other_files(folder))
    found = multihost.run_on_all_hosts(lambda: range_test(config, data, execution=execution, weights=weights))
    if multihost.is_main_process():
        from jaxvision.reports import range_plot

        folder.mkdir(parents=True, exist_ok=True)
        storage.write_json(folder / FILE, found._asdict())
        range_plot.range_test(found.rates, found.losses, found.smoothed, found.learning_rate, folder / PLOT)
        best = found.rates[int(np.argmin(found.smoothed))]
        print(
            f"range test of {len(found.rates)} steps: the loss is lowest at {best:.2g}; the learning rate is a tenth, "
            f"{found.learning_rate:.2g} ({PLOT})",
            flush=True,
        )
    return config.replace(learning_rate=found.learning_rate)


def range_test(
    config: Config,
    data: Dataset,
    *,
    execution: Execution = DEFAULT_EXECUTION,
    weights: Any = None,
    num_steps: int = NUM_STEPS,
) -> RangeTest:
    """Train with a rate that rises from 1e-6 to 10, until the loss diverges, and choose a rate.

    The chosen rate is a tenth of that at which the smoothed loss is lowest, as in fastai's `lr_find` of version 1. The
    training is thrown away. (L. Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017, section 3.3.)

    Args:
        config: The config of the run; its learning rate and schedule are not used.
        data: The dataset, whose training split is used.
        execution: How to run.
        weights: Initial weights, as `open_weights` returns them.
        num_steps: The number of steps between both rates.

    Raises:
        ValueError: The loss never falls by a tenth, as that of a trained model.
    """
    tested = config.replace(
        learning_rate=MOST,
        schedule=f"range_test(start={LEAST / MOST})",
        steps=num_steps,
        ema=None,
        cache_features=False,
    )
    setup = prepare(runs.build(tested, data, execution=execution), data, weights)
    losses = _losses(setup, tested)
    smoothed = smooth(losses)
    rates = [float(setup.schedule(step)) for step in range(len(losses))]
    lowest = int(np.argmin(smoothed))
    if not smoothed[lowest] < LOWERED * smoothed[0]:
        raise ValueError(
            f"learning_rate='auto': no rate from {LEAST} to {MOST} lowered the loss by a tenth in {num_steps} steps of "
            f"{config.effective_batch_size} examples, from {smoothed[0]:.4g} to {smoothed[lowest]:.4g}: set "
            "--learning_rate"
        )
    return RangeTest(rates, losses, smoothed, _rounded(rates[lowest] / MARGIN))


def _losses(setup: Any, config: Config) -> list[float]:
    """Return the losses of the steps up to the first that is not finite or far above the lowest."""
    state, _ = setup.make_state()
    rows = meshes.local_slice(config.effective_batch_size, setup.run.mesh)
    batches = pipeline.train_batches(setup.source, config.effective_batch_size, seed=config.seed, start=0, rows=rows)
    losses: list[float] = []
    with contextlib.closing(batches):
        for batch in batches:
            if setup.train_steps:
                state, means = setup.train_steps(state, [batch])
            else:
                state, means, _ = setup.train_step(state, batch, 0)
            losses.append(float(np.ravel(jax.device_get(means["loss"]))[0]))
            smoothed = smooth(losses)
            if not math.isfinite(losses[-1]) or smoothed[-1] > DIVERGED * min(smoothed) or len(losses) == config.steps:
                break
    return [loss for loss in losses if math.isfinite(loss)]


def smooth(losses: Sequence[float]) -> list[float]:
    """Return the moving averages of losses, corrected for their start (D. Kingma, J. Ba, Adam, ICLR 2015, section 3).

    >>> [round(value, 3) for value in smooth([1.0, 2.0])]
    [1.0, 1.526]
    """
    average, smoothed = 0.0, []
    for count, loss in enumerate(losses, 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed.append(average / (1 - SMOOTHING**count))
    return smoothed


def _rounded(rate: float) -> float:
    """Return a rate with two digits, as a person would write it."""
    return float(f"{rate:.2g}")
