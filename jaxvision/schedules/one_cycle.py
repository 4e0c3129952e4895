"""The one-cycle policy."""

from __future__ import annotations

import optax

from jaxvision.schedules import register
from jaxvision.schedules.warmup import Schedule, check_shares


@register("one_cycle")
def one_cycle(
    *, learning_rate: float, num_steps: int, warmup: float = 0.3, start: float = 0.04, end: float = 4e-6
) -> Schedule:
    """Rises in a line from the share `start` to the peak, along half a cosine to `end` (L. Smith, N. Topin, 2017)."""
    if not 0 < warmup < 1:
        raise ValueError(f"one_cycle: warmup={warmup}; wanted a share of the run between 0 and 1")
    check_shares(start=start, end=end)
    num_warmup = max(round(warmup * num_steps), 1)
    return optax.warmup_cosine_decay_schedule(
        start * learning_rate, learning_rate, num_warmup, max(num_steps, num_warmup + 1), end * learning_rate
    )
