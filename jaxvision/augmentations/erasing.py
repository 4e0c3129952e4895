"""Augmentations that erase a part of the image."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxvision.augmentations import register
from jaxvision.augmentations.random_ops import (
    Rectangles,
    check_fill,
    check_probability,
    check_range,
    each,
    happens,
    pixel,
    rectangles,
)
from jaxvision.interfaces import Array, Augment


@register("cutout")
def cutout(*, size: int = 16, fill: float = 0.5) -> Augment:
    """Erase a square of `size` pixels a side, centered at a random pixel.

    The square is clipped at the image border. fill is a gray level in 0..1; the default is mid-gray, as the paper fills
    with 0 after normalization (T. DeVries and G. Taylor, Improved Regularization with Cutout, 2017, section 3; 16
    pixels for CIFAR-10: section 4).
    """
    if size < 1:
        raise ValueError(f"cutout: size={size}; expected a number of pixels, 1 or more")
    check_fill("cutout", fill)

    def augment(key, batch):
        inputs = batch["inputs"]
        num, shape = inputs.shape[0], inputs.shape[1:3]
        side = jnp.full(num, size, jnp.int32)
        hole = Rectangles.about(pixel(key, num, shape), side, side)
        return {**batch, "inputs": jnp.where(hole.cover(shape), fill, inputs)}

    return augment


@register("random_erasing")
def random_erasing(
    *,
    probability: float = 0.5,
    scale: tuple[float, float] = (0.02, 0.4),
    ratio: tuple[float, float] = (0.3, 1 / 0.3),
    fill: float | None = None,
) -> Augment:
    """Erase a random rectangle of each image with the given probability.

    (Z. Zhong et al., Random Erasing Data Augmentation, AAAI 2020, algorithm 1.)

    Args:
        probability: probability that an image is changed.
        scale: range of the rectangle's fraction of the image area, sampled uniformly.
        ratio: range of the width-to-height ratio, sampled log-uniformly, so that wide and tall are equally likely.
        fill: gray level in 0..1; None fills with independent uniform noise.
    """
    check_probability("random_erasing", probability)
    check_range("random_erasing", "scale", scale, most=1.0)
    check_range("random_erasing", "ratio", ratio, most=math.inf)
    if fill is not None:
        check_fill("random_erasing", fill)

    def augment(key, batch):
        inputs = batch["inputs"]
        num, size = inputs.shape[0], inputs.shape[1:3]
        happens_key, place_key, noise_key = jax.random.split(key, 3)
        hole, fits = rectangles(place_key, num, size, scale=scale, ratio=ratio, is_relative=False)
        is_hidden = hole.cover(size) & each(fits & happens(happens_key, num, probability))
        hidden = _noise(noise_key, inputs.shape) if fill is None else fill
        return {**batch, "inputs": jnp.where(is_hidden, hidden, inputs)}

    return augment


def _noise(key: Array, shape: tuple[int, ...]) -> Array:
    """Draw values from 256 levels; the channels of a pixel share 32 random bits, as drawing bits dominates."""
    levels = jax.lax.bitcast_convert_type(jax.random.bits(key, shape[:3], jnp.uint32), jnp.uint8)
    return levels[..., : shape[3]].astype(jnp.float32) / 255
