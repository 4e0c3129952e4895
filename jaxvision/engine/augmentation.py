"""Augments one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from jaxvision.interfaces import Augment
from jaxvision.settling import settled


def chain(augments: Sequence[Augment]) -> Augment:
    """Applies augments in order, each with a key of its own."""

    def augment(key, batch):
        for each, own_key in zip(augments, jax.random.split(key, max(len(augments), 1)), strict=False):
            batch = each(own_key, batch)
            batch = {**batch, "inputs": settled(own_key, batch["inputs"])}
        return batch

    return augment
