"""One-step-ahead forecasting of a column of numbers: windows, each with the value that follows."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import numpy as np

from jaxvision.datasets import register
from jaxvision.datasets.rows import numbers, read_table
from jaxvision.interfaces import Dataset, Preprocessing, Split
from jaxvision.machine import require_memory
from jaxvision.splits import with_statistics_of


def read_series(path: str, column: str) -> tuple[np.ndarray, list[str]]:
    """Read a column of numbers and the names of its steps, the table's first other column.

    Raises the errors of `table`.
    """
    table = read_table(Path(path).expanduser())
    levels = numbers(table.column(column), column, table.places)
    for note in table.notes:
        warnings.warn(note, stacklevel=2)
    others = [name for name in table.rows[0] if name != column]
    return levels, table.column(others[0]) if others else [str(step) for step in range(len(levels))]


def steps_of(window: int, target: str) -> int:
    """Return the number of levels that a window needs: one more for differences."""
    return window + (target == "difference")


def windows(levels: np.ndarray, window: int, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the window [N, window, 1] that precedes each step, and the offset [N] to add to its prediction.

    The first window precedes step `window` for levels, or the step after it for differences.
    """
    values = levels if target == "level" else np.diff(levels)
    inputs = np.lib.stride_tricks.sliding_window_view(values, window)[:-1, :, None]
    offsets = np.zeros(len(inputs), np.float32) if target == "level" else levels[-len(inputs) - 1 : -1]
    return inputs, offsets


def last_window(levels: np.ndarray, window: int, target: str, *, name: str) -> tuple[np.ndarray, np.float32]:
    """Return the window [window, 1] before the next step of a series, and the offset of its prediction."""
    needed = steps_of(window, target)
    if len(levels) < needed:
        raise ValueError(f"the series {name!r} has {len(levels)} steps; expected its last {needed} or more")
    values = np.asarray(levels[-needed:], np.float32)
    if target == "level":
        return values[:, None], np.float32(0)
    return np.diff(values)[:, None], values[-1]


def _check_arguments(window: int, season: int | None, test_fraction: float) -> None:
    """Raise ValueError if an argument is out of range, whatever the series."""
    if window < 1 or (season is not None and season < 1):
        raise ValueError(f"time_series: window={window}, season={season}; expected numbers of steps, 1 or more")
    if not 0 < test_fraction < 1:
        raise ValueError(f"time_series: test_fraction={test_fraction}; expected a fraction between 0 and 1")


def _repair(name: str, largest: int) -> str:
    return f"{name}={largest} is the largest possible" if largest > 0 else "add steps, or lower test_fraction"


@register("time_series", read=read_series, last_window=last_window)
def time_series(
    *,
    path: str,
    column: str,
    window: int = 12,
    target: Literal["difference", "level"] = "difference",
    season: int | None = None,
    test_fraction: float = 0.2,
) -> Dataset:
    """Load a time series from a table, for one-step-ahead forecasts from windows [window, 1].

    The last test_fraction of the series is test; validation is the last part of the rest. Inputs are standardized with
    the statistics of train. The baselines are the last value and, with a season, the value one season before.

    Args:
        path: the table, .csv or .parquet.
        column: the column of numbers.
        window: number of steps in an input.
        target: "difference" predicts the next change from past changes, "level" the next value from past values;
            metrics are those of the level in both cases.
        season: number of steps in a season, for the seasonal baseline.
        test_fraction: fraction of the series held out as test.

    Raises:
        ValueError: if a value is not a number, or the series is too short.
    """
    _check_arguments(window, season, test_fraction)
    levels, names = read_series(path, column)
    needed = max(steps_of(window, target), season or 0)
    num_test = max(round(test_fraction * len(levels)), 1)
    what = f"the series {column!r} of {path!r}"
    free = len(levels) - num_test - 2  # leaves two training examples
    for name, value, largest in (("window", window, free - steps_of(0, target)), ("season", season, free)):
        if value is not None and value > largest:
            has = f"{what} has {len(levels)} steps, {num_test} of them test (test_fraction={test_fraction})"
            raise ValueError(f"{has}, too few for {name}={value}; {_repair(name, largest)}")
    require_memory(4 * window * (len(levels) - needed), f"time_series: window={window} on {len(levels)} steps")
    inputs, offsets = windows(levels, window, target)
    skipped = needed - (len(levels) - len(inputs))  # the first windows, which have no value one season before
    inputs, offsets = np.ascontiguousarray(inputs[skipped:]), offsets[skipped:]
    steps = np.arange(needed, len(levels))
    baselines = {"last value": levels[steps - 1]}
    if season is not None:
        baselines[f"value {season} steps before"] = levels[steps - season]
    whole = Split(
        lambda chosen: inputs[chosen],
        levels[steps] - offsets,
        kind="continuous",
        names=[names[step] for step in steps],
        ordered=True,
        offsets=offsets,
        baselines=baselines,
    )
    train, test = (
        whole.select(np.arange(len(steps) - num_test)),
        whole.select(np.arange(len(steps) - num_test, len(steps))),
    )
    if np.ptp(levels[:-num_test]) == 0:
        raise ValueError(f"{what} has only the number {levels[0]} in train; expected values that vary")
    preprocessing = with_statistics_of(Preprocessing((window,), 1, (0.0,), (1.0,)), inputs[: len(train)])
    return Dataset(train, None, test, (), preprocessing)
