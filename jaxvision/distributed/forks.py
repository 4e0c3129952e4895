"""Processes that were forked after JAX had started: its threads do not exist there, and whatever it computes hangs."""

from __future__ import annotations

import os

from jax._src import xla_bridge

is_child = False  # whether this process is one


def _mark_child() -> None:
    """Record the fork, if JAX had started its devices; a fork before that is harmless."""
    global is_child
    is_child = xla_bridge.backends_are_initialized()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_child)
