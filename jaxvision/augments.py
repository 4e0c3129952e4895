"""Augmentation: registered factories of pure functions (key, batch) -> batch, on the device, in the compiled step.

Inputs are float32 [B, H, W, C] in 0..1 and stay so. Each example draws for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from jaxvision.interfaces import Augment
from jaxvision.registry import augments as _registry

register = _registry.register


def chain(augments: Sequence[Augment]) -> Augment:
    """Applies augments in order, each with a key of its own."""

    def augment(key, batch):
        for each, own_key in zip(augments, jax.random.split(key, max(len(augments), 1)), strict=False):
            batch = each(own_key, batch)
        return batch

    return augment


@register("flip")
def flip(*, probability: float = 0.5) -> Augment:
    """Mirrors left and right, each image with the given probability."""
    if not 0 <= probability <= 1:
        raise ValueError(f"flip: probability={probability}; wanted 0 to 1")

    def augment(key, batch):
        inputs = batch["inputs"]
        mirrored = jax.random.bernoulli(key, probability, (inputs.shape[0], 1, 1, 1))
        return {**batch, "inputs": jnp.where(mirrored, inputs[:, :, ::-1], inputs)}

    return augment


@register("crop")
def crop(*, padding: int = 4, mode: Literal["constant", "edge", "reflect"] = "constant") -> Augment:
    """Pads each side by a number of pixels and cuts the size out again at a random place: a random shift.

    mode fills the padding: "constant" with black, "edge" with the border's pixels, "reflect" with the mirrored image
    (K. He et al., Deep Residual Learning, CVPR 2016, section 4.2, with padding 4).
    """
    if padding < 0:
        raise ValueError(f"crop: padding={padding}; wanted a number of pixels, 0 or more")

    def augment(key, batch):
        inputs = batch["inputs"]
        size, shape = inputs.shape[0], inputs.shape[1:]
        if mode == "reflect" and padding >= min(shape[:2]):
            raise ValueError(f"crop: padding={padding} cannot be reflected from images of {shape[0]}x{shape[1]} pixels")
        padded = jnp.pad(inputs, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode=mode)
        corners = jax.random.randint(key, (size, 2), 0, 2 * padding + 1)
        cut = jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), shape))
        return {**batch, "inputs": cut(padded, corners)}

    return augment
