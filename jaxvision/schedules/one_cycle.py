"""The one-cycle learning-rate schedule."""

from __future__ import annotations

import optax

from jaxvision.schedules import register
from jaxvision.schedules.warmup import Schedule, check_shares


@register("one_cycle")
def one_cycle(
    *,
    learning_rate: float,
    num_steps: int,
    warmup: float = 0.3,
    start: float = 0.04,
    end: float = 4e-6,
    is_delayed: bool = False,
) -> Schedule:
    """Raise the rate linearly, then decay it along half a cosine until the last step.

    The last of num_steps steps has the final rate, as in PyTorch's OneCycleLR, whose defaults these are. (L. Smith, N.
    Topin, 2017, decay linearly.)

    Args:
        learning_rate: the peak; set by the run.
        num_steps: number of steps; set by the run.
        warmup: fraction of num_steps of the increase, between 0 and 1.
        start: initial rate as a fraction of the peak, 0 to 1.
        end: final rate as a fraction of the peak, 0 to 1.
        is_delayed: reach the final rate one step after the last, as versions before 0.4 did.
    """
    if not 0 < warmup < 1:
        raise ValueError(f"one_cycle: warmup={warmup}; expected a fraction of the run between 0 and 1")
    check_shares(start=start, end=end)
    last = num_steps if is_delayed else num_steps - 1
    num_warmup = max(round(warmup * num_steps), 1)
    num_warmup = num_warmup if is_delayed else min(num_warmup, max(last - 1, 1))  # the last step is not the peak
    return optax.warmup_cosine_decay_schedule(
        start * learning_rate, learning_rate, num_warmup, max(last, num_warmup + 1), end * learning_rate
    )
