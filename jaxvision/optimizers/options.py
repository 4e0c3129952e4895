"""Options that several optimizers share: learning rate, weight decay, and checks of their ranges."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

LearningRate = float | optax.Schedule


def check(*, at_least_0: dict[str, float], below_1: dict[str, float]) -> None:
    """Raise ValueError if a value is below 0, or not below 1 in `below_1`."""
    for name, value in {**at_least_0, **below_1}.items():
        if value < 0 or (name in below_1 and value >= 1):
            raise ValueError(f"{name}={value}; expected at least 0{' and below 1' if name in below_1 else ''}")


def decay_mask(decay_all: bool):
    return None if decay_all else lambda params: jax.tree.map(lambda p: jnp.ndim(p) > 1, params)


def coupled_decay(weight_decay: float, decay_all: bool) -> optax.GradientTransformation:
    """Return L2 regularization: the decay is added to the gradient before all other transformations."""
    return optax.add_decayed_weights(weight_decay, decay_mask(decay_all)) if weight_decay else optax.identity()
