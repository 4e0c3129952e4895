"""The processes of a run, one or more on each host: what they tell each other.

Where there is one process, all of this costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

Value = TypeVar("Value")


def is_first() -> bool:
    """Says whether this process is the one that writes and speaks for all."""
    return jax.process_index() == 0


def gather_texts(text: str) -> list[str]:
    """Gives each process's text to all of them."""
    if jax.process_count() == 1:
        return [text]
    from jax.experimental import multihost_utils

    content = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([len(content)]))
    padded = np.pad(content, (0, int(sizes.max()) - len(content)))
    rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1) if sizes.max() else [[]] * len(sizes)
    return [bytes(row[: int(size)]).decode() for row, size in zip(rows, sizes.flat, strict=True)]


def together(function: Callable[[], Value]) -> Value:
    """Calls a function on every host. Where it raises on one, it raises on all: none waits for one that has ended."""
    if jax.process_count() == 1:
        return function()
    value, raised = None, None
    try:
        value = function()
    except Exception as error:
        raised = error
    told = gather_texts("" if raised is None else f"{raised}"[:2000] or type(raised).__name__)
    if raised is not None:
        raise raised
    wrong = next(((place, text) for place, text in enumerate(told) if text), None)
    if wrong:
        raise ValueError(f"process {wrong[0]} ended: {wrong[1]}")
    return value  # pyright: ignore[reportReturnType]


def first_alone(function: Callable[[], Value]) -> Value:
    """Calls a function on the first host, then on the others: what the first prepares on disk, the others find."""
    if jax.process_count() == 1:
        return function()
    value = together(lambda: function() if is_first() else None)
    others = together(lambda: None if is_first() else function())
    return value if is_first() else others  # pyright: ignore[reportReturnType]


def from_first(text: str) -> str:
    """Gives the first host's text to all."""
    return gather_texts(text)[0]


def check_same(values: Mapping[str, Any]) -> None:
    """Raises ValueError on all hosts where named values are not the same on all, saying which."""
    found = [json.loads(text) for text in gather_texts(json.dumps(values))]
    other = next((place for place, each in enumerate(found) if each != found[0]), None)
    if other is not None:
        names = [name for name in values if found[0].get(name) != found[other].get(name)]
        told = ", ".join(f"{name} {found[0].get(name)!r} and {found[other].get(name)!r}" for name in names)
        raise ValueError(f"processes 0 and {other} differ: {told}; give all of them the same")


def heard(received: Sequence[int], vote: Any) -> int:
    """The signal that all hosts act upon, 0 for none: what was received where there is one host, else the vote."""
    return (received[0] if received else 0) if jax.process_count() == 1 else int(vote)
