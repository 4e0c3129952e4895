"""Composition of augmentations."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxvision.interfaces import Augment
from jaxvision.materialize import materialize


def chain(augmentations: Sequence[Augment]) -> Augment:
    """Compose augmentations, applied in order, each with its own key, on inputs in float32."""

    def augment(key, batch):
        batch = {**batch, "inputs": batch["inputs"].astype(jnp.float32)} if augmentations else batch
        for augmentation, step_key in zip(
            augmentations, jax.random.split(key, max(len(augmentations), 1)), strict=False
        ):
            batch = augmentation(step_key, batch)
            batch = {**batch, "inputs": materialize(step_key, batch["inputs"])}
        return batch

    return augment
