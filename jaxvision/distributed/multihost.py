"""Communication between the processes of a run, one or more per host.

With one process, all functions return immediately.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

Value = TypeVar("Value")


def is_main_process() -> bool:
    """Return whether this process writes files and prints for all."""
    return jax.process_index() == 0


def allgather_str(text: str) -> list[str]:
    """Return the texts of all processes, on all of them."""
    if jax.process_count() == 1:
        return [text]
    from jax.experimental import multihost_utils

    content = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([len(content)]))
    padded = np.pad(content, (0, int(sizes.max()) - len(content)))
    rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1) if sizes.max() else [[]] * len(sizes)
    return [bytes(row[: int(size)]).decode() for row, size in zip(rows, sizes.flat, strict=True)]


def run_on_all_hosts(function: Callable[[], Value]) -> Value:
    """Call a function on every host. If any process raises, all raise, so that none deadlocks."""
    if jax.process_count() == 1:
        return function()
    value, raised = None, None
    try:
        value = function()
    except Exception as error:
        raised = error
    messages = allgather_str("" if raised is None else f"{raised}"[:2000] or type(raised).__name__)
    if raised is not None:
        raise raised
    failed = next(((index, text) for index, text in enumerate(messages) if text), None)
    if failed:
        raise ValueError(f"process {failed[0]} failed: {failed[1]}")
    return value  # pyright: ignore[reportReturnType]


def main_process_first(function: Callable[[], Value]) -> Value:
    """Call a function on the main process, then on the others, which find the files that it prepared."""
    if jax.process_count() == 1:
        return function()
    value = run_on_all_hosts(lambda: function() if is_main_process() else None)
    others = run_on_all_hosts(lambda: None if is_main_process() else function())
    return value if is_main_process() else others  # pyright: ignore[reportReturnType]


def broadcast_from_main(text: str) -> str:
    """Return the text of the main process on all processes."""
    return allgather_str(text)[0]


def assert_equal(values: Mapping[str, Any]) -> None:
    """Raise ValueError on all hosts if named values differ between them; the message lists the values."""
    rows = [json.loads(text) for text in allgather_str(json.dumps(values))]
    other = next((index for index, row in enumerate(rows) if row != rows[0]), None)
    if other is not None:
        names = [name for name in values if rows[0].get(name) != rows[other].get(name)]
        differences = ", ".join(f"{name} {rows[0].get(name)!r} and {rows[other].get(name)!r}" for name in names)
        raise ValueError(f"processes 0 and {other} differ: {differences}; use the same on all of them")


def agreed_signal(received: Sequence[int], vote: Any) -> int:
    """Return the signal that all hosts act upon, 0 for none: the one received if there is one host, else the vote."""
    return (received[0] if received else 0) if jax.process_count() == 1 else int(vote)
