"""Search spaces over fields of Config: the configurations of a grid, or random draws."""

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

Setting = dict[str, Any]  # one value per field of a space


@dataclass(frozen=True)
class Uniform:
    """A uniform distribution of numbers from low to high.

    Draws are rounded to four digits, or to integers for an integer field. Raises ValueError if low is not below high.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"{self}: low must be below high")

    def draw(self, rng: np.random.Generator, *, whole: bool) -> float:
        """Draw one number."""
        return _rounded(rng.uniform(self.low, self.high), self, whole=whole)


@dataclass(frozen=True)
class LogUniform:
    """A log-uniform distribution of numbers from low to high, both above 0. Rounded as in `Uniform`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"{self}: low must be above 0 and below high")

    def draw(self, rng: np.random.Generator, *, whole: bool) -> float:
        """Draw one number."""
        return _rounded(math.exp(rng.uniform(math.log(self.low), math.log(self.high))), self, whole=whole)


def _rounded(value: float, interval: Uniform | LogUniform, *, whole: bool) -> float:
    rounded = round(value) if whole else float(f"{value:.4g}")
    return min(max(rounded, interval.low), interval.high)


Space = Mapping[str, tuple[Any, ...] | list[Any] | Uniform | LogUniform]


def check(space: Space) -> None:
    """Raise ValueError or TypeError if a space is not a dict from fields of Config to candidate values."""
    if not isinstance(space, Mapping) or not space:
        raise TypeError(
            f"SEARCH_SPACE={space!r} is not {{field: (value, …), …}}, e.g. {{'learning_rate': (1e-3, 1e-2)}}"
        )
    for name, values in space.items():
        if name in fields_of(Execution):
            raise ValueError(
                f"SEARCH_SPACE has {name!r}, a field of Execution; set --{name} for all configurations instead"
            )
        if name not in FIELDS:
            raise ValueError(f"SEARCH_SPACE has {name!r}, which is not a field of Config{nearest(str(name), FIELDS)}")
        if name == "fold":
            raise ValueError(
                "SEARCH_SPACE has 'fold', which is not a hyperparameter; use --folds=5 to evaluate on all folds"
            )
        if isinstance(values, Uniform | LogUniform):
            continue
        if not isinstance(values, tuple | list) or not values:
            raise TypeError(
                f"SEARCH_SPACE has {name}={values!r}; expected a tuple, e.g. ({values!r},), or jaxvision.Uniform(…)"
            )
        if len({repr(value) for value in values}) < len(values):
            raise ValueError(f"SEARCH_SPACE has {name}={values!r}, which lists a value twice")


def grid(space: Space) -> list[Setting]:
    """Return all configurations of a space, the last field varying fastest. Raises ValueError if it has a distribution.

    >>> grid({"batch_size": (16, 32), "augmentations": ["", "mixup"]})[1]
    {'batch_size': 16, 'augmentations': 'mixup'}
    """
    listed = {name: values for name, values in space.items() if not isinstance(values, Uniform | LogUniform)}
    ranges = [name for name in space if name not in listed]
    if ranges:
        raise ValueError(
            f"SEARCH_SPACE has a distribution for {', '.join(ranges)}; use --search=random --num_trials=20"
        )
    return [dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values())]


def draw(space: Space, num_settings: int, *, seed: int) -> list[Setting]:
    """Draw distinct configurations at random; with the same seed, fewer draws are a prefix of more.

    Raises ValueError if the space has fewer configurations.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, Setting] = {}
    for _ in range(100 * num_settings):
        setting = {name: _drawn(name, values, rng) for name, values in space.items()}
        drawn.setdefault(repr(setting), setting)
        if len(drawn) == num_settings:
            return list(drawn.values())
    raise ValueError(f"num_trials={num_settings}; SEARCH_SPACE has only {len(drawn)} configurations")


def _drawn(name: str, values: tuple[Any, ...] | list[Any] | Uniform | LogUniform, rng: np.random.Generator) -> Any:
    if not isinstance(values, Uniform | LogUniform):
        return values[int(rng.integers(len(values)))]
    kinds = typing.get_args(HINTS[name]) or (HINTS[name],)
    return values.draw(rng, whole=int in kinds)


def plain(space: Space) -> dict[str, Any]:
    """Return a space as JSON values."""
    return {name: _interval(v) if isinstance(v, Uniform | LogUniform) else list(v) for name, v in space.items()}


def _interval(interval: Uniform | LogUniform) -> dict[str, Any]:
    return {**dataclasses.asdict(interval), "log": isinstance(interval, LogUniform)}


def describe(setting: Setting) -> str:
    """Format a configuration as text.

    >>> describe({"batch_size": 16, "augmentations": "mixup"})
    "batch_size=16, augmentations='mixup'"
    """
    return ", ".join(f"{name}={value!r}" for name, value in setting.items())
