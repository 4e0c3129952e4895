"""Random draws per example, and checks of their arguments."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxvision.interfaces import Array

TRIES = 10  # attempts to draw a rectangle that fits, as in torchvision


def check_probability(name: str, probability: float) -> None:
    """Raise ValueError if `probability` is not in 0..1."""
    if not 0 <= probability <= 1:
        raise ValueError(f"{name}: probability={probability}; expected 0 to 1")


def check_fill(name: str, fill: float) -> None:
    """Raise ValueError if `fill` is not a gray level in 0..1."""
    if not 0 <= fill <= 1:
        raise ValueError(f"{name}: fill={fill}; expected a gray level from 0 (black) to 1 (white)")


def check_range(name: str, argument: str, bounds: tuple[float, float], *, most: float) -> None:
    """Raise ValueError if `bounds` is not an increasing pair of numbers above 0 and at most `most`."""
    low, high = bounds
    if not 0 < low <= high <= most:
        limit = "" if math.isinf(most) else f" and up to {most:g}"
        raise ValueError(f"{name}: {argument}={bounds}; expected (low, high), above 0{limit}")


def uniform(key: Array, num: int, low: float, high: float) -> Array:
    """Draw float32 [num], uniform from low to high."""
    return jax.random.uniform(key, (num,), jnp.float32, low, high)


def happens(key: Array, num: int, probability: float) -> Array:
    """Draw bool [num], each true with the given probability."""
    return uniform(key, num, 0.0, 1.0) < probability


def each(values: Array) -> Array:
    """Reshape one value per example, [B], to broadcast over images: [B, 1, 1, 1]."""
    return values[:, None, None, None]


def pixel(key: Array, num: int, size: tuple[int, int]) -> Array:
    """Draw uniform pixel positions in images of a (height, width): int32 (down, right) [num, 2]."""
    return jax.random.randint(key, (num, 2), 0, jnp.array([size]), jnp.int32)


class Rectangles(NamedTuple):
    """Rectangles in whole pixels, one per example: int32 [B]. They may extend beyond the image."""

    top: Array
    left: Array
    height: Array
    width: Array

    @staticmethod
    def about(centers: Array, height: Array, width: Array) -> Rectangles:
        """Return rectangles of a height and width, centered at the pixels (down, right) [B, 2]."""
        return Rectangles(centers[:, 0] - height // 2, centers[:, 1] - width // 2, height, width)

    def cover(self, size: tuple[int, int]) -> Array:
        """Return the mask of pixels inside the rectangles, bool [B, height, width, 1]."""
        down, right = jnp.arange(size[0])[None, :, None, None], jnp.arange(size[1])[None, None, :, None]
        is_row = (down >= each(self.top)) & (down < each(self.top + self.height))
        return is_row & (right >= each(self.left)) & (right < each(self.left + self.width))


def rectangles(
    key: Array,
    num: int,
    size: tuple[int, int],
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    is_relative: bool,
) -> tuple[Rectangles, Array]:
    """Draw rectangles with uniform area fraction and log-uniform width-to-height ratio, at uniform positions.

    The first of ten draws that fits into the image is used. With is_relative, the ratio is relative to the image's.
    Returns the rectangles and whether any draw did fit, bool [num].
    """
    area_key, ratio_key, top_key, left_key = jax.random.split(key, 4)
    height, width = size
    area = uniform(area_key, num * TRIES, *scale)
    shape = jnp.exp(uniform(ratio_key, num * TRIES, math.log(ratio[0]), math.log(ratio[1])))
    base = size if is_relative else [math.sqrt(height * width)] * 2
    heights = jnp.round(base[0] * jnp.sqrt(area / shape)).astype(jnp.int32).reshape(num, TRIES)
    widths = jnp.round(base[1] * jnp.sqrt(area * shape)).astype(jnp.int32).reshape(num, TRIES)
    fit = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    first = jnp.argmax(fit, axis=1, keepdims=True)
    fits, tall, wide = (jnp.take_along_axis(x, first, axis=1)[:, 0] for x in (fit, heights, widths))
    top = jax.random.randint(top_key, (num,), 0, jnp.maximum(height - tall, 0) + 1, jnp.int32)
    left = jax.random.randint(left_key, (num,), 0, jnp.maximum(width - wide, 0) + 1, jnp.int32)
    return Rectangles(top, left, tall, wide), fits
