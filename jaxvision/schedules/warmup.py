"""What schedules share: a warm-up before them, and shares of the peak."""

from __future__ import annotations

from collections.abc import Callable

import optax

Schedule = optax.Schedule


def check_shares(**shares: float) -> None:
    """Raises ValueError for what is no share of the peak."""
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value}; wanted a share of the peak, from 0 to 1")


def warmed(schedule: Callable[[int], Schedule], learning_rate: float, num_steps: int, warmup: float) -> Schedule:
    """Puts the warm-up before the schedule that is made for the steps that remain."""
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup={warmup}; wanted the share of all steps, from 0 to below 1")
    num_warmup = round(warmup * num_steps)
    after = schedule(max(num_steps - num_warmup, 1))
    if not num_warmup:
        return after
    # from one part in num_warmup, so that the first step moves already
    rise = optax.linear_schedule(learning_rate / num_warmup, learning_rate, max(num_warmup - 1, 1))
    return optax.join_schedules([rise, after], [num_warmup])
