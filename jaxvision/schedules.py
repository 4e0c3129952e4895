"""Learning-rate schedules: registered factories of functions step -> rate, over optax.

The run hands `learning_rate` (the peak) and `num_steps`. `warmup` and the like are shares of num_steps; warm-up rises
linearly from a share of the peak.
"""

from __future__ import annotations

from collections.abc import Callable

import optax

from jaxvision.registry import schedules as _registry

register = _registry.register

Schedule = optax.Schedule


def _check_shares(**shares: float) -> None:
    """Raises ValueError for what is no share of the peak."""
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value}; wanted a share of the peak, from 0 to 1")


def _warmed(schedule: Callable[[int], Schedule], learning_rate: float, num_steps: int, warmup: float) -> Schedule:
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


@register("constant")
def constant(*, learning_rate: float, num_steps: int, warmup: float = 0.0) -> Schedule:
    """The same rate throughout."""
    return _warmed(lambda _: optax.constant_schedule(learning_rate), learning_rate, num_steps, warmup)


@register("cosine")
def cosine(*, learning_rate: float, num_steps: int, warmup: float = 0.0, end: float = 0.0) -> Schedule:
    """Falls to the share `end` of the peak along half a cosine (I. Loshchilov, F. Hutter, SGDR, ICLR 2017, eq. 5)."""
    _check_shares(end=end)
    return _warmed(lambda n: optax.cosine_decay_schedule(learning_rate, n, end), learning_rate, num_steps, warmup)


@register("linear")
def linear(*, learning_rate: float, num_steps: int, warmup: float = 0.0, end: float = 0.0) -> Schedule:
    """Falls to the share `end` of the peak along a straight line."""
    _check_shares(end=end)
    return _warmed(
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
    return _warmed(lambda _: optax.piecewise_constant_schedule(learning_rate, places), learning_rate, num_steps, warmup)


@register("one_cycle")
def one_cycle(
    *, learning_rate: float, num_steps: int, warmup: float = 0.3, start: float = 0.04, end: float = 4e-6
) -> Schedule:
    """Rises in a line from the share `start` to the peak, along half a cosine to `end` (L. Smith, N. Topin, 2017)."""
    if not 0 < warmup < 1:
        raise ValueError(f"one_cycle: warmup={warmup}; wanted a share of the run between 0 and 1")
    _check_shares(start=start, end=end)
    num_warmup = max(round(warmup * num_steps), 1)
    return optax.warmup_cosine_decay_schedule(
        start * learning_rate, learning_rate, num_warmup, max(num_steps, num_warmup + 1), end * learning_rate
    )
