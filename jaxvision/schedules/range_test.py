"""The rising rate of a learning-rate range test."""

from __future__ import annotations

import jax.numpy as jnp

from jaxvision.schedules import register
from jaxvision.schedules.warmup import Schedule


@register("range_test")
def range_test(*, learning_rate: float, num_steps: int, start: float = 1e-7) -> Schedule:
    """Raise the rate exponentially, from the fraction `start` of the peak to the peak in the last step.

    For `learning_rate="auto"`, which chooses a rate by the losses on the way (L. Smith, Cyclical Learning Rates for
    Training Neural Networks, WACV 2017, section 3.3, there with a linear rise).
    """
    if not 0 < start < 1:
        raise ValueError(f"range_test: start={start}; expected a fraction of the peak, above 0 and below 1")
    return lambda step: learning_rate * start ** (1 - jnp.minimum(step / max(num_steps - 1, 1), 1.0))
