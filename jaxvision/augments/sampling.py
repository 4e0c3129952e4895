"""Images sampled at other places, by one affine map each or by one matrix along each axis."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision.interfaces import Array


def affine(images: Array, maps: Array, *, fill: float) -> Array:
    """Samples each image bilinearly where its map [B, 2, 3] leads from each pixel; around images all is `fill`.

    A map takes the (right, down, 1) of a pixel in the result, in pixels from the centre of the image, to the place
    whose colour it gets.
    """
    size, height, width, channels = images.shape
    right = (jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2)[None, None, :]
    down = (jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2)[None, :, None]
    maps = maps[..., None, None]
    x, y = (maps[:, i, 0] * right + maps[:, i, 1] * down + maps[:, i, 2] for i in (0, 1))
    # A border of one pixel holds the fill, so that what lies farther out needs no pixels of its own.
    x, y = jnp.clip(x + (width + 1) / 2, 0, width + 1), jnp.clip(y + (height + 1) / 2, 0, height + 1)
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    pixels = padded.reshape(size, (height + 2) * (width + 2), channels)
    left, above = jnp.minimum(jnp.floor(x), width), jnp.minimum(jnp.floor(y), height)
    corner = (above * (width + 2) + left).astype(jnp.int32)
    take = jax.vmap(lambda pixels, places: pixels.at[places].get(mode="promise_in_bounds"))
    here, beside, below, across = (take(pixels, corner + offset) for offset in (0, 1, width + 2, width + 3))
    x, y = (x - left)[..., None], (y - above)[..., None]
    return (here * (1 - x) + beside * x) * (1 - y) + (below * (1 - x) + across * x) * y


def along_axes(images: Array, rows: Array, columns: Array) -> Array:
    """Makes each row of the result of all rows of the image, by matrices [B, H, H], and columns by [B, W, W]."""
    exact = jax.lax.Precision.HIGHEST  # else GPUs round pixels to ten bits
    images = jnp.einsum("bih,bhwc->biwc", rows, images, precision=exact)
    return jnp.einsum("bjw,biwc->bijc", columns, images, precision=exact)


def stretching(size: int, start: Array, length: Array) -> Array:
    """Makes the matrices [B, size, size] that stretch a part of an axis, given in pixels [B], over all of it.

    Between the centres of pixels it is linear; beyond those of the part's ends it is as they are.
    """
    places = (jnp.arange(size, dtype=jnp.float32)[None, :] + 0.5) * (length / size)[:, None] - 0.5
    places = start[:, None] + jnp.clip(places, 0, (length - 1)[:, None])
    distances = jnp.abs(places[:, :, None] - jnp.arange(size, dtype=jnp.float32)[None, None, :])
    return jnp.maximum(1 - distances, 0)


def smoothing(size: int, sigma: Array) -> Array:
    """Makes the matrices [B, size, size] of Gaussian means of deviations in pixels [B], over what lies in the image."""
    places = jnp.arange(size, dtype=jnp.float32)
    squares = (places[:, None] - places[None, :]) ** 2
    weights = jnp.exp(-squares[None] / (2 * sigma[:, None, None] ** 2))
    return weights / weights.sum(axis=2, keepdims=True)
