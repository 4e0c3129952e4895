"""The one-cycle learning-rate schedule."""

from __future__ import annotations

import optax

from jaxvision.schedules import register
from jaxvision.schedules.warmup import Schedule, check_shares


@register("one_cycle")
def one_cycle(
    *, learning_rate: float, num_steps: int, warmup: float = 0.3, start: float = 0.04, end: float = 4e-6
) -> Schedule:
    """Raise the rate linearly, then decay it along half a cosine (PyTorch; L. Smith, N. Topin, 2017: linearly).

    Args:
        learning_rate: the peak; set by the run.
        num_steps: number of steps; set by the run.
        warmup: fraction of num_steps of the increase, between 0 and 1.
        start: initial rate as a fraction of the peak, 0 to 1.
        end: final rate as a fraction of the peak, 0 to 1.
    """
    if not 0 < warmup < 1:
        raise ValueError(f"one_cycle: warmup={warmup}; expected a fraction of the run between 0 and 1")
    check_shares(start=start, end=end)
    num_warmup = max(round(warmup * num_steps), 1)
    return optax.warmup_cosine_decay_schedule(
        start * learning_rate, learning_rate, num_warmup, max(num_steps, num_warmup + 1), end * learning_rate
    )
