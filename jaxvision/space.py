"""A space of values for fields of Config -> the settings that a sweep tries: all of a grid, or some drawn at random."""

from __future__ import annotations

import dataclasses
import itertools
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxvision.config import FIELDS, HINTS, Execution, fields_of
from jaxvision.specs import nearest

Setting = dict[str, Any]  # a value for each field of a space


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, drawn at random, evenly, or with log evenly in their logarithm.

    They are rounded to four digits, and to whole numbers for a field that takes no others.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf or (self.log and self.low <= 0):
            raise ValueError(f"{self}; wanted low below high{', both above 0, to draw by logarithm' * self.log}")

    def draw(self, rng: np.random.Generator, *, whole: bool) -> float:
        """Draw one number."""
        if self.log:
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = rng.uniform(self.low, self.high)
        rounded = round(drawn) if whole else float(f"{drawn:.4g}")
        return min(max(rounded, self.low), self.high)


Space = Mapping[str, tuple[Any, ...] | list[Any] | Range]


def check(space: Space) -> None:
    """Raise ValueError or TypeError where a space does not give fields of Config values to choose from."""
    if not isinstance(space, Mapping) or not space:
        raise TypeError(f"SPACE={space!r} is not {{field: (value, …), …}}, as {{'learning_rate': (1e-3, 1e-2)}}")
    for name, values in space.items():
        if name in fields_of(Execution):
            raise ValueError(
                f"SPACE has {name!r}, a field of Execution: give --{name}, it is the same for all settings"
            )
        if name not in FIELDS:
            raise ValueError(f"SPACE has {name!r}, which is no field of Config{nearest(str(name), FIELDS)}")
        if name == "fold":
            raise ValueError("SPACE has 'fold', by which nothing is chosen: --folds=5 judges each setting on all folds")
        if isinstance(values, Range):
            continue
        if not isinstance(values, tuple | list) or not values:
            raise TypeError(f"SPACE has {name}={values!r}; wanted values in brackets, as ({values!r},), or a Range")
        if len({repr(value) for value in values}) < len(values):
            raise ValueError(f"SPACE has {name}={values!r}, which names a value twice")


def grid(space: Space) -> list[Setting]:
    """Return all settings of a space, the last field varying fastest. Raise ValueError where there is a Range.

    >>> grid({"batch_size": (16, 32), "augment": ["", "flip"]})[1]
    {'batch_size': 16, 'augment': 'flip'}
    """
    listed = {name: values for name, values in space.items() if not isinstance(values, Range)}
    ranges = [name for name in space if name not in listed]
    if ranges:
        raise ValueError(
            f"SPACE has a Range for {', '.join(ranges)}, to draw from: give --search=random --num_trials=20"
        )
    return [dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values())]


def draw(space: Space, num_settings: int, *, seed: int) -> list[Setting]:
    """Draw settings at random, no two alike. Fewer of the same seed are the first of more.

    Raise ValueError where the space has fewer.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, Setting] = {}
    for _ in range(100 * num_settings):
        setting = {name: _drawn(name, values, rng) for name, values in space.items()}
        drawn.setdefault(repr(setting), setting)
        if len(drawn) == num_settings:
            return list(drawn.values())
    raise ValueError(f"num_trials={num_settings}, and SPACE has no more than {len(drawn)} settings")


def _drawn(name: str, values: tuple[Any, ...] | list[Any] | Range, rng: np.random.Generator) -> Any:
    if not isinstance(values, Range):
        return values[int(rng.integers(len(values)))]
    kinds = typing.get_args(HINTS[name]) or (HINTS[name],)
    return values.draw(rng, whole=int in kinds)


def plain(space: Space) -> dict[str, Any]:
    """Return a space as JSON has it."""
    return {name: dataclasses.asdict(v) if isinstance(v, Range) else list(v) for name, v in space.items()}


def describe(setting: Setting) -> str:
    """Write a setting as people read it.

    >>> describe({"batch_size": 16, "augment": "flip"})
    "batch_size=16, augment='flip'"
    """
    return ", ".join(f"{name}={value!r}" for name, value in setting.items())
