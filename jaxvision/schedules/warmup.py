"""Linear warm-up before a schedule, and checks of fractions of the peak."""

from __future__ import annotations

from collections.abc import Callable

import optax

Schedule = optax.Schedule


def check_shares(**shares: float) -> None:
    """Raise ValueError if a value is not a fraction of the peak, 0 to 1."""
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value}; expected a fraction of the peak, 0 to 1")


def warmed(schedule: Callable[[int], Schedule], learning_rate: float, num_steps: int, warmup: float) -> Schedule:
    """Prepend a linear warm-up to `schedule(n)`, built for the n remaining steps."""
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup={warmup}; expected a fraction of all steps, at least 0 and below 1")
    num_warmup = round(warmup * num_steps)
    after = schedule(max(num_steps - num_warmup, 1))
    if not num_warmup:
        return after
    # starts at 1 / num_warmup of the peak, so that the first step already updates the parameters
    rise = optax.linear_schedule(learning_rate / num_warmup, learning_rate, max(num_warmup - 1, 1))
    return optax.join_schedules([rise, after], [num_warmup])
