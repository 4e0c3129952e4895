"""Constant and decaying schedules: constant, cosine, linear, step."""

from __future__ import annotations

import optax

from jaxvision.schedules import register
from jaxvision.schedules.warmup import Schedule, check_shares, warmed


@register("constant")
def constant(*, learning_rate: float, num_steps: int, warmup: float = 0.0) -> Schedule:
    """Keep the rate constant, after an optional linear warm-up.

    warmup is a fraction of num_steps.
    """
    return warmed(lambda _: optax.constant_schedule(learning_rate), learning_rate, num_steps, warmup)


@register("cosine")
def cosine(*, learning_rate: float, num_steps: int, warmup: float = 0.0, end: float = 0.0) -> Schedule:
    """Decay the rate along half a cosine to the fraction `end` of the peak.

    (I. Loshchilov, F. Hutter, SGDR, ICLR 2017, equation 5.)

    Args:
        learning_rate: the peak; set by the run.
        num_steps: number of steps; set by the run.
        warmup: fraction of num_steps of the linear warm-up before the decay.
        end: final rate as a fraction of the peak, 0 to 1.
    """
    check_shares(end=end)
    return warmed(lambda n: optax.cosine_decay_schedule(learning_rate, n, end), learning_rate, num_steps, warmup)


@register("linear")
def linear(*, learning_rate: float, num_steps: int, warmup: float = 0.0, end: float = 0.0) -> Schedule:
    """Decay the rate linearly to the fraction `end` of the peak.

    Args:
        learning_rate: the peak; set by the run.
        num_steps: number of steps; set by the run.
        warmup: fraction of num_steps of the linear warm-up before the decay.
        end: final rate as a fraction of the peak, 0 to 1.
    """
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
    """Multiply the rate by `factor` at each of the given fractions of the run.

    Args:
        learning_rate: the peak; set by the run.
        num_steps: number of steps; set by the run.
        warmup: fraction of num_steps of the linear warm-up.
        at: increasing fractions of the run, between 0 and 1.
        factor: factor of the rate at each of them.
    """
    if not all(0 < fraction < 1 for fraction in at) or list(at) != sorted(set(at)):
        raise ValueError(f"step: at={at}; expected increasing fractions of the run, between 0 and 1")
    num_warmup = round(warmup * num_steps)
    boundaries: dict[int, float] = {}
    for fraction in at:  # in a short run, two may coincide
        boundary = max(round(fraction * num_steps) - num_warmup, 0)
        boundaries[boundary] = boundaries.get(boundary, 1.0) * factor
    return warmed(
        lambda _: optax.piecewise_constant_schedule(learning_rate, boundaries), learning_rate, num_steps, warmup
    )
