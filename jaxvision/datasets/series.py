"""A column of numbers over time: windows of it, each with the number that follows."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from jaxvision.datasets import register
from jaxvision.datasets.rows import numbers, read_table
from jaxvision.interfaces import Dataset, Preprocessing, Split


def read_series(path: str, column: str) -> tuple[np.ndarray, list[str]]:
    """Read a column of numbers, and what names its steps: the table's first other column. Raise as `table` does."""
    table = read_table(Path(path).expanduser())
    levels = numbers(table.column(column), column, table.places)
    others = [name for name in table.rows[0] if name != column]
    return levels, table.column(others[0]) if others else [str(step) for step in range(len(levels))]


def steps_of(window: int, target: str) -> int:
    """Count the levels that make a window: of differences, one more."""
    return window + (target == "difference")


def windows(levels: np.ndarray, window: int, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Return each window [N, window, 1] that precedes a step, and what is added to a prediction from it [N].

    The first is that of step `window`, for levels, or of the step after it, for differences.
    """
    values = levels if target == "level" else np.diff(levels)
    inputs = np.lib.stride_tricks.sliding_window_view(values, window)[:-1, :, None]
    offsets = np.zeros(len(inputs), np.float32) if target == "level" else levels[-len(inputs) - 1 : -1]
    return inputs, offsets


def last_window(levels: np.ndarray, window: int, target: str, *, name: str) -> tuple[np.ndarray, np.float32]:
    """Return the window [window, 1] that precedes the next step of a series, and what is added to what it predicts."""
    needed = steps_of(window, target)
    if len(levels) < needed:
        raise ValueError(f"the series {name!r} has {len(levels)} steps; wanted its last {needed}, or more")
    values = np.asarray(levels[-needed:], np.float32)
    if target == "level":
        return values[:, None], np.float32(0)
    return np.diff(values)[:, None], values[-1]


def _check_arguments(window: int, season: int | None, test_fraction: float) -> None:
    """Raise ValueError for arguments that no series suits."""
    if window < 1 or (season is not None and season < 1):
        raise ValueError(f"series: window={window}, season={season}; wanted numbers of steps, 1 or more")
    if not 0 < test_fraction < 1:
        raise ValueError(f"series: test_fraction={test_fraction}; wanted a share between 0 and 1")


def _repair(name: str, largest: int) -> str:
    return f"{name}={largest} is the largest possible" if largest > 0 else "give more steps, or fewer of test"


@register("series", read=read_series, last_window=last_window)
def series(
    *,
    path: str,
    column: str,
    window: int = 12,
    target: Literal["difference", "level"] = "difference",
    season: int | None = None,
    test_fraction: float = 0.2,
) -> Dataset:
    """One step ahead in a series: windows [window, 1] of a table's column, and the number that follows each.

    "difference" gives the changes from step to step and the change that follows, "level" the values themselves; either
    way the level is judged. The last test_fraction of the series is test, and the last of the rest validation. Inputs
    are scaled by train. The baselines are the last value and, with a season in steps, the value one season before.
    """
    _check_arguments(window, season, test_fraction)
    levels, names = read_series(path, column)
    needed = max(steps_of(window, target), season or 0)
    num_test = max(round(test_fraction * len(levels)), 1)
    what = f"the series {column!r} of {path!r}"
    free = len(levels) - num_test - 2  # two are learned from
    for name, value, largest in (("window", window, free - steps_of(0, target)), ("season", season, free)):
        if value is not None and value > largest:
            has = f"{what} has {len(levels)} steps, {num_test} of them test (test_fraction={test_fraction})"
            raise ValueError(f"{has}, too few for {name}={value}; {_repair(name, largest)}")
    inputs, offsets = windows(levels, window, target)
    skipped = needed - (len(levels) - len(inputs))  # of the first windows, those without a value a season before
    inputs, offsets = np.ascontiguousarray(inputs[skipped:]), offsets[skipped:]
    steps = np.arange(needed, len(levels))
    baselines = {"last value": levels[steps - 1]}
    if season is not None:
        baselines[f"value {season} steps before"] = levels[steps - season]
    whole = Split(
        lambda chosen: inputs[chosen],
        levels[steps] - offsets,
        kind="numbers",
        names=[names[step] for step in steps],
        ordered=True,
        offsets=offsets,
        baselines=baselines,
    )
    train, test = whole.take(np.arange(len(steps) - num_test)), whole.take(np.arange(len(steps) - num_test, len(steps)))
    if np.ptp(levels[:-num_test]) == 0:
        raise ValueError(f"{what} has the one number {levels[0]} in train: nothing to learn")
    preprocessing = Preprocessing((window,), 1, (0.0,), (1.0,)).measured(inputs[: len(train)])
    return Dataset(train, None, test, (), preprocessing)
