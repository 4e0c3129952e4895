"""Values of JSON files as dataclasses, tuples and numbers, checked against type hints."""

from __future__ import annotations

import dataclasses
import math
import reprlib
import typing
from collections.abc import Mapping
from typing import Any

MOST = 2**63  # numbers of larger magnitude fit no array


def check_type(value: Any, hint: Any) -> None:
    """Raise TypeError if a value is not of a type; a bool counts as no number."""
    import typeguard

    try:
        typeguard.check_type(value, hint)
    except typeguard.TypeCheckError:
        raise TypeError from None
    if isinstance(value, bool) and not {bool, Any} & {hint, *typing.get_args(hint)}:
        raise TypeError


def parse(kind: Any, value: Any, name: str) -> Any:
    """Return a value from JSON as a type: a dataclass, a tuple, a dict with text keys, or a plain value.

    Lists become tuples. Raises ValueError that names the first value that has another type, is not finite, is missing
    or unknown.
    """
    if dataclasses.is_dataclass(kind):
        return _parse_fields(kind, value, name)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list):
        return tuple(parse(arguments[0], each, f"{name}[{index}]") for index, each in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: parse(arguments[1], each, f"{name}.{key}") for key, each in value.items()}
    try:
        check_type(value, kind)
    except TypeError:
        from jaxvision import hints

        expected = {tuple: "a list", dict: "an object"}.get(origin) or hints.describe(kind)
        raise ValueError(f"{name}={reprlib.repr(value)} is not {expected}") from None
    if isinstance(value, int | float) and not (math.isfinite(value) and abs(value) < MOST):
        raise ValueError(f"{name}={reprlib.repr(value)} is not a finite number")
    return value


def _parse_fields(kind: Any, values: Any, name: str) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"{name}={reprlib.repr(values)} is not an object")
    hints = typing.get_type_hints(kind)
    unknown = [key for key in values if key not in hints]
    if unknown:
        raise ValueError(f"{name} has the unknown field {unknown[0]!r}")
    return kind(**{key: parse(hints[key], value, f"{name}.{key}" if name else key) for key, value in values.items()})
