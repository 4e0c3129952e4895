"""The exponential moving average (EMA) of parameters and model state."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxvision.interfaces import Array, Tree

# By the name of the warm-up: the least rate, 1 - decay, at update n, from 0.
LEAST_RATES: dict[str, Callable[[Array], Array]] = {
    "tensorflow": lambda n: 9 / (10.0 + n),  # of the decay (1 + n) / (10 + n): ExponentialMovingAverage(num_updates=n)
    "timm": lambda n: (1.0 + n) ** (-2 / 3),  # ModelEmaV3(use_warmup=True), with its gamma and power
    "none": lambda n: jnp.where(n == 0, 1.0, 0.0),  # the first update copies, as in timm and in PyTorch's AveragedModel
}


def make_update_ema(decay: float, warmup: str) -> Callable[[Tree, Tree, Array], Tree]:
    """Return the function (average, new, n) -> average after update n, counted from 0, with a warm-up by name.

    >>> update = make_update_ema(0.9, "tensorflow")
    >>> [round(float(update(jnp.zeros(()), jnp.ones(()), n)), 3) for n in (0, 8, 100)]  # 1 - decay
    [0.9, 0.5, 0.1]
    """

    def update(average: Tree, new: Tree, n: Array) -> Tree:
        rate = jnp.maximum(1 - decay, LEAST_RATES[warmup](n))
        return jax.tree.map(lambda a, b: (a + rate * (b - a)).astype(a.dtype), average, new)

    return update
