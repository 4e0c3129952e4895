"""How many threads the linear algebra of NumPy, SciPy and scikit-learn uses."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

SMALL = 2**20  # numbers in a matrix: 250 x 1,280 took 0.1 s with one thread, and 2 s with two on two busy cores


@functools.cache
def _thread_pools() -> Any:
    """Return the thread pools of the linear algebra that NumPy and scikit-learn use."""
    import sklearn.linear_model  # noqa: F401 - so that its libraries are loaded
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextlib.contextmanager
def one_thread(size: int) -> Iterator[None]:
    """Use one thread for matrices of up to SMALL numbers, whose threads would wait for each other on busy machines."""
    with _thread_pools().limit(limits=1) if size <= SMALL else contextlib.nullcontext():
        yield
