"""Augments that move pixels: mirrored, shifted, cut out and turned."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp

from jaxvision.augments import register
from jaxvision.augments.draws import check_fill, check_probability, check_range, each, happens, rectangles, uniform
from jaxvision.augments.sampling import affine, along_axes, stretching
from jaxvision.interfaces import Array, Augment


def _mirrored(images: Array, chosen: Array) -> Array:
    return jnp.where(each(chosen), images[:, :, ::-1], images)


@register("flip")
def flip(*, probability: float = 0.5) -> Augment:
    """Mirrors left and right, each image with the given probability."""
    check_probability("flip", probability)

    def augment(key, batch):
        inputs = batch["inputs"]
        return {**batch, "inputs": _mirrored(inputs, happens(key, len(inputs), probability))}

    return augment


@register("alternating_flip")
def alternating_flip(*, seed: int) -> Augment:
    """Mirrors half of the images in the first epoch, and then each one in every other epoch: none twice in a row.

    So two epochs together show every image both ways. A hash of the run's seed and the image's index says which half
    (K. Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, section 3.6). The batch's rows "index" and
    "epoch" are needed.
    """

    def augment(key, batch):
        if not {"index", "epoch"} <= batch.keys():
            raise ValueError("alternating_flip: the batch has no rows 'index' and 'epoch'; wanted int32 [B] each")
        first_key = jax.random.key(seed)  # not the step's: what an image begins with must hold for the whole run
        bits = jax.vmap(lambda index: jax.random.bits(jax.random.fold_in(first_key, index)))(batch["index"])
        is_odd = (bits % 2).astype(jnp.int32) != batch["epoch"] % 2
        return {**batch, "inputs": _mirrored(batch["inputs"], is_odd)}

    return augment


def _windows(images: Array, corners: Array, size: tuple[int, int]) -> Array:
    """Cuts one window of a size out of each image, at corners (top, left) [B, 2]."""
    shape = (*size, images.shape[-1])
    return jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), shape))(
        images, corners
    )


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
        num, (height, width) = inputs.shape[0], inputs.shape[1:3]
        if mode == "reflect" and padding >= min(height, width):
            raise ValueError(f"crop: padding={padding} cannot be reflected from images of {height}x{width} pixels")
        padded = jnp.pad(inputs, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode=mode)
        corners = jax.random.randint(key, (num, 2), 0, 2 * padding + 1)
        return {**batch, "inputs": _windows(padded, corners, (height, width))}

    return augment


@register("translate")
def translate(*, share: float = 0.1, fill: float = 0.0) -> Augment:
    """Shifts each image by whole pixels, up to a share of its height and of its width; what is laid open is `fill`.

    fill is a grey level in 0..1, black by default. `crop` shifts too, by up to a number of pixels.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"translate: share={share}; wanted 0 to 1, of the height and of the width")
    check_fill("translate", fill)

    def augment(key, batch):
        inputs = batch["inputs"]
        num, size = inputs.shape[0], inputs.shape[1:3]
        most = [round(share * pixels) for pixels in size]
        padding = ((0, 0), *((pixels, pixels) for pixels in most), (0, 0))
        padded = jnp.pad(inputs, padding, constant_values=fill)
        corners = jax.random.randint(key, (num, 2), 0, 2 * jnp.array([most]) + 1)
        return {**batch, "inputs": _windows(padded, corners, size)}

    return augment


@register("resize_crop")
def resize_crop(*, scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)) -> Augment:
    """Cuts a random part out of each image and stretches it to the size of the whole, bilinearly.

    scale bounds the part's share of the area (uniform), ratio its width to height beside that of the image
    (log-uniform). Where ten draws do not fit, the largest centred part of a ratio in range is taken
    (C. Szegedy et al., Going Deeper with Convolutions, CVPR 2015, section 6, with these bounds).
    """
    check_range("resize_crop", "scale", scale, most=1.0)
    check_range("resize_crop", "ratio", ratio, most=math.inf)

    def augment(key, batch):
        inputs = batch["inputs"]
        num, (height, width) = inputs.shape[0], inputs.shape[1:3]
        part, fits = rectangles(key, num, (height, width), scale=scale, ratio=ratio, is_relative=True)
        nearest = min(max(ratio[0], 1.0), ratio[1])  # to that of the image
        tall, wide = round(height / max(nearest, 1.0)), round(width * min(nearest, 1.0))
        spans = (
            (height, part.top, part.height, (height - tall) // 2, tall),
            (width, part.left, part.width, (width - wide) // 2, wide),
        )
        rows, columns = (
            stretching(pixels, jnp.where(fits, start, other), jnp.where(fits, length, largest))
            for pixels, start, length, other, largest in spans
        )
        return {**batch, "inputs": jnp.clip(along_axes(inputs, rows, columns), 0, 1)}

    return augment


def turning(angles: Array) -> Array:
    """Makes the maps [B, 2, 3] that turn images about their centre, counter-clockwise, by angles in radians [B]."""
    cosines, sines, zeros = jnp.cos(angles), jnp.sin(angles), jnp.zeros_like(angles)
    return jnp.stack([jnp.stack([cosines, -sines, zeros], 1), jnp.stack([sines, cosines, zeros], 1)], 1)


@register("rotate")
def rotate(*, degrees: float = 15.0, fill: float = 0.0) -> Augment:
    """Turns each image about its centre by up to a number of degrees to either side, sampling bilinearly.

    What lies outside the image is `fill`, a grey level in 0..1, black by default.
    """
    if not 0 <= degrees <= 180:
        raise ValueError(f"rotate: degrees={degrees}; wanted 0 to 180")
    check_fill("rotate", fill)

    def augment(key, batch):
        inputs = batch["inputs"]
        angles = uniform(key, len(inputs), -math.radians(degrees), math.radians(degrees))
        return {**batch, "inputs": jnp.clip(affine(inputs, turning(angles), fill=fill), 0, 1)}

    return augment
