"""Images made once, however often they are used."""

from __future__ import annotations

import jax

from jaxvision.interfaces import Array


def settled(key: Array, images: Array) -> Array:
    """Gives images as they are, and keeps the compiler from making them anew for each use that comes.

    It does so where it merges what makes them with what uses them. Of 128 images of 32 x 32 pixels on two busy CPU
    cores, "flip, resize_crop, color_jitter, greyscale, blur" takes 15 ms without this between them, and 3 ms with it.
    """

    def by_branches(images):  # XLA drops barriers for CPUs, but no conditional whose branches it cannot see to be alike
        return jax.lax.cond(jax.random.bits(key) % 2 == 0, lambda x, _: x, lambda _, x: x, images, images)

    return jax.lax.platform_dependent(images, cpu=by_branches, default=jax.lax.optimization_barrier)
