"""Resample images by an affine map, or by one matrix along each axis."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from jaxvision.interfaces import Array

Sampling = Literal["nearest", "bilinear"]


def affine(images: Array, maps: Array, *, fill: float, interpolation: Sampling = "bilinear") -> Array:
    """Resample each image under its map [B, 2, 3]; pixels from outside the image are `fill`.

    A map takes the position (right, down, 1) of an output pixel, in pixels from the image center, to the position in
    the input that its color is sampled from.
    """
    size, height, width, channels = images.shape
    right = (jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2)[None, None, :]
    down = (jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2)[None, :, None]
    maps = maps[..., None, None]
    x, y = (maps[:, i, 0] * right + maps[:, i, 1] * down + maps[:, i, 2] for i in (0, 1))
    # One border pixel holds the fill; positions farther out are clipped to it.
    x, y = jnp.clip(x + (width + 1) / 2, 0, width + 1), jnp.clip(y + (height + 1) / 2, 0, height + 1)
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    pixels = padded.reshape(size, (height + 2) * (width + 2), channels)
    take = jax.vmap(lambda pixels, indices: pixels.at[indices].get(mode="promise_in_bounds"))
    if interpolation == "nearest":  # of two pixels equally near the latter, as in Pillow
        return take(pixels, (jnp.floor(y + 0.5) * (width + 2) + jnp.floor(x + 0.5)).astype(jnp.int32))
    left, above = jnp.minimum(jnp.floor(x), width), jnp.minimum(jnp.floor(y), height)
    corner = (above * (width + 2) + left).astype(jnp.int32)
    here, right_of, below, across = (take(pixels, corner + offset) for offset in (0, 1, width + 2, width + 3))
    x, y = (x - left)[..., None], (y - above)[..., None]
    return (here * (1 - x) + right_of * x) * (1 - y) + (below * (1 - x) + across * x) * y


def along_axes(images: Array, rows: Array, columns: Array) -> Array:
    """Multiply the rows of images by matrices [B, H, H] and the columns by matrices [B, W, W]."""
    exact = jax.lax.Precision.HIGHEST  # otherwise GPUs round pixels to ten bits
    images = jnp.einsum("bih,bhwc->biwc", rows, images, precision=exact)
    return jnp.einsum("bjw,biwc->bijc", columns, images, precision=exact)


def stretching(size: int, start: Array, length: Array) -> Array:
    """Return matrices [B, size, size] that stretch a part of an axis over the whole axis.

    The part's start and length are in pixels, [B]. Interpolation is linear between pixel centers and constant beyond
    the first and last center of the part.
    """
    positions = (jnp.arange(size, dtype=jnp.float32)[None, :] + 0.5) * (length / size)[:, None] - 0.5
    positions = start[:, None] + jnp.clip(positions, 0, (length - 1)[:, None])
    distances = jnp.abs(positions[:, :, None] - jnp.arange(size, dtype=jnp.float32)[None, None, :])
    return jnp.maximum(1 - distances, 0)


def smoothing(size: int, sigma: Array) -> Array:
    """Return Gaussian averaging matrices [B, size, size] with standard deviations in pixels, [B].

    Each row is normalized over the pixels inside the image.
    """
    positions = jnp.arange(size, dtype=jnp.float32)
    squares = (positions[:, None] - positions[None, :]) ** 2
    weights = jnp.exp(-squares[None] / (2 * sigma[:, None, None] ** 2))
    return weights / weights.sum(axis=2, keepdims=True)
