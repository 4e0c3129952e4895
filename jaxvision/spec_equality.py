"""Whether two specs mean the same, however they are written."""

from __future__ import annotations

from typing import Any

from jaxvision.specs import parse_list


def normalize(text: str) -> Any:
    """Return specs as plain values that are equal if the specs mean the same, with those inside them.

    >>> normalize("a(b=c(d=1/2), e=2)") == normalize("a(e=2.0, b='c( d=0.5)')")
    True
    """
    return [
        (spec.name, {name: _normalized(value) for name, value in spec.arguments.items()}) for spec in parse_list(text)
    ]


def _normalized(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_normalized, value))
    try:
        return normalize(value) if isinstance(value, str) and "(" in value else value
    except ValueError:  # no spec
        return value
