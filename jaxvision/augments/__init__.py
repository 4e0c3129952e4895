"""Augmentation: registered factories of pure functions (key, batch) -> batch, on the device, in the compiled step.

Inputs are float32 [B, H, W, C] in 0..1, of 1 or 3 channels, and stay so. Each example draws for itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax

from jaxvision.augments.settling import settled
from jaxvision.interfaces import Augment
from jaxvision.registry import augments as _registry

register = _registry.register


def chain(augments: Sequence[Augment]) -> Augment:
    """Applies augments in order, each with a key of its own."""

    def augment(key, batch):
        for each, own_key in zip(augments, jax.random.split(key, max(len(augments), 1)), strict=False):
            batch = each(own_key, batch)
            batch = {**batch, "inputs": settled(own_key, batch["inputs"])}
        return batch

    return augment
