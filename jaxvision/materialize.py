"""Keep XLA from recomputing augmented images in each consumer."""

from __future__ import annotations

import jax

from jaxvision.interfaces import Array


def materialize(key: Array, images: Array) -> Array:
    """Return images unchanged, behind a barrier that keeps XLA from recomputing them for each use.

    XLA recomputes them if it fuses their producer with several consumers. For 128 images of 32 x 32 pixels on two
    busy CPU cores, five augmentations take 15 ms without this in between, and 3 ms with it.
    """

    def by_branches(images):  # XLA removes barriers on CPUs, but not a conditional whose branches it cannot prove equal
        return jax.lax.cond(jax.random.bits(key) % 2 == 0, lambda x, _: x, lambda _, x: x, images, images)

    return jax.lax.platform_dependent(images, cpu=by_branches, default=jax.lax.optimization_barrier)
