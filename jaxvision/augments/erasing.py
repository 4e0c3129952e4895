"""Augments that hide a part of the image."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxvision.augments import register
from jaxvision.augments.draws import (
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
    """Hides a square of a number of pixels a side, whose centre is anywhere in the image: parts may lie outside.

    fill is a grey level in 0..1: the middle by default, as the paper's is 0 after normalisation
    (T. DeVries and G. Taylor, Improved Regularization with Cutout, 2017, section 3; 16 pixels for CIFAR-10: 4).
    """
    if size < 1:
        raise ValueError(f"cutout: size={size}; wanted a number of pixels, 1 or more")
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
    """Hides a random rectangle of each image with the given probability.

    scale bounds its share of the area (uniform), ratio its width to height (log-uniform, so that wide and tall ones are
    as likely). fill is a grey level in 0..1; None, the default, is noise, each number for itself
    (Z. Zhong et al., Random Erasing Data Augmentation, AAAI 2020, algorithm 1).
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
    """Draws levels out of 256 for all: those of a pixel from the same 32 bits, as drawing takes longest."""
    levels = jax.lax.bitcast_convert_type(jax.random.bits(key, shape[:3], jnp.uint32), jnp.uint8)
    return levels[..., : shape[3]].astype(jnp.float32) / 255
