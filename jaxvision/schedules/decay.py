"""Schedules that stay, or fall from the peak: the same rate, half a cosine, a line, steps."""

from __future__ import annotations

import optax

from jaxvision.schedules import register
from jaxvision.schedules.warmup import Schedule, check_shares, warmed


@register("constant")
def constant(*, learning_rate: float, num_steps: int, warmup: float = 0.0) -> Schedule:
    """The same rate throughout."""
    return warmed(lambda _: optax.constant_schedule(learning_rate), learning_rate, num_steps, warmup)


@register("cosine")
def cosine(*, learning_rate: float, num_steps: int, warmup: float = 0.0, end: float = 0.0) -> Schedule:
    """Falls to the share `end` of the peak along half a cosine (I. Loshchilov, F. Hutter, SGDR, ICLR 2017, eq. 5)."""
    check_shares(end=end)
    return warmed(lambda n: optax.cosine_decay_schedule(learning_rate, n, end), learning_rate, num_steps, warmup)


@register("linear")
def linear(*, learning_rate: float, num_steps: int, warmup: float = 0.0, end: float = 0.0) -> Schedule:
    """Falls to the share `end` of the peak along a straight line."""
    check_shares(end=end)
    return warmed(
        lambda n: optax.linear_schedule(learning_rate, end * learning_rate, n), learning_rate, num_steps, warmup
    )


@register("step")
def step(
    *,
    learning_rate: float,
    num_steps: int,
    warmup: float = 0.0,
    at: tuple[float, ...] = (0.5, 0.75),
    factor: float = 0.1,
) -> Schedule:
    """Multiplies the rate by a factor at each of the given shares of the run."""
    if not all(0 < share < 1 for share in at) or list(at) != sorted(set(at)):
        raise ValueError(f"step: at={at}; wanted rising shares of the run, between 0 and 1")
    num_warmup = round(warmup * num_steps)
    places: dict[int, float] = {}
    for share in at:  # in a short run two may fall on one step
        place = max(round(share * num_steps) - num_warmup, 0)
        places[place] = places.get(place, 1.0) * factor
    return warmed(lambda _: optax.piecewise_constant_schedule(learning_rate, places), learning_rate, num_steps, warmup)
