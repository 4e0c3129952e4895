"""Processes that were forked after JAX used its devices: JAX waits forever for threads that a fork does not copy."""

from __future__ import annotations

import os
from typing import NoReturn

from jax._src import xla_bridge

is_forked = False  # whether JAX cannot work in this process


def _note_fork() -> None:
    global is_forked
    is_forked = is_forked or xla_bridge.backends_are_initialized()


def refuse() -> NoReturn:
    """Raise RuntimeError with the repair."""
    raise RuntimeError(
        "this process was forked after JAX started, so JAX would wait forever: start it with "
        "multiprocessing.get_context('spawn'), or fork before the first use of JAX"
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
