"""Policies: augmentations that apply operations drawn from a list to each image.

The list is that of RandAugment, section 3; operations are Pillow's, magnitudes torchvision's. Every image of a batch
may draw another operation, so the result is selected among all candidates: the geometric operations share one affine
map, the enhancing ones share one blend, and only the four that work on levels are computed separately.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision.augmentations import register
from jaxvision.augmentations.color import blend, grey
from jaxvision.augmentations.geometry import turning
from jaxvision.augmentations.random_ops import check_fill, each, happens
from jaxvision.augmentations.resampling import Sampling, affine
from jaxvision.interfaces import Array, Augment
from jaxvision.materialize import materialize

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
ENHANCING = ("brightness", "color", "contrast", "sharpness")
BY_LEVELS = ("posterize", "solarize", "autocontrast", "equalize")
OPERATIONS = ("identity", *GEOMETRIC, *ENHANCING, *BY_LEVELS)
SIGNED = (*GEOMETRIC, *ENHANCING)
MOST_OPS = 100  # each is compiled: 100 take minutes
HIGHEST = 30  # the highest of torchvision's 31 magnitudes

Ranges = dict[str, tuple[float, float]]


def _ranges(
    *, shear: float, translate_x: float, translate_y: float, degrees: float, factor: float, bits: int
) -> Ranges:
    """Return each operation's parameter at magnitude 0 and at the highest, as `moved` and `retouched` take it."""
    ends = dict.fromkeys(("shear_x", "shear_y"), shear) | dict.fromkeys(ENHANCING, factor)
    ends |= {"translate_x": translate_x, "translate_y": translate_y, "rotate": degrees}
    return {name: (0.0, end) for name, end in ends.items()} | {"posterize": (8.0, float(bits)), "solarize": (255.0, 0)}


def ranges_of_rand_augment(size: tuple[int, ...]) -> Ranges:
    """Return RandAugment's parameter ranges for images of a (height, width)."""
    down, right = (pixels * 150 / 331 for pixels in size)  # 150 of 331 pixels, AutoAugment's image size
    return _ranges(shear=0.3, translate_x=right, translate_y=down, degrees=30.0, factor=0.9, bits=4)


TRIVIAL = _ranges(shear=0.99, translate_x=32.0, translate_y=32.0, degrees=135.0, factor=0.99, bits=2)


def magnitudes_of(which: Array, levels: Array, signs: Array, ranges: Ranges, *, highest: int = HIGHEST) -> Array:
    """Return the parameters [B] of operations [B] at levels [B] from 0 to the highest; signs are 1 or -1."""
    bounds = jnp.array([ranges.get(name, (0.0, 0.0)) for name in OPERATIONS], jnp.float32)[which]
    sign = jnp.where(_is_one_of(which, SIGNED), signs, 1)
    return sign * (bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * (levels / highest))


def _is_one_of(which: Array, names: tuple[str, ...]) -> Array:
    return jnp.isin(which, jnp.array([OPERATIONS.index(name) for name in names]))


def moved(
    images: Array, which: Array, magnitudes: Array, *, fill: float, interpolation: Sampling = "bilinear"
) -> Array:
    """Apply to each image the geometric operation with its index in OPERATIONS, [B]; other images are unchanged.

    Magnitudes [B] are slopes of shears about the upper left corner, translations in pixels (truncated to integers), and
    rotations in degrees, counter-clockwise.
    """
    maps = _maps(which, magnitudes, images.shape[1:3])
    return jnp.clip(affine(images, maps, fill=fill, interpolation=interpolation), 0, 1)


def retouched(images: Array, which: Array, magnitudes: Array) -> Array:
    """Apply to each image the non-geometric operation with its index in OPERATIONS, [B]; other images are unchanged.

    Brightness, color (saturation), contrast and sharpness are scaled by 1 + magnitude; posterize keeps `magnitude`
    bits, solarize inverts levels at or above `magnitude`, 0 to 255.
    """
    enhanced = blend(images, _faded(images, which), 1 + magnitudes)
    by_levels = _by_levels(images, which, magnitudes)
    others = jnp.where(each(_is_one_of(which, BY_LEVELS)), by_levels, images)
    return jnp.where(each(_is_one_of(which, ENHANCING)), enhanced, others)


def _maps(which: Array, magnitudes: Array, size: tuple[int, ...]) -> Array:
    """Return the affine maps [B, 2, 3] of the geometric operations; other operations get the identity."""
    amount = {name: jnp.where(_is_one_of(which, (name,)), magnitudes, 0) for name in GEOMETRIC}
    right, down = amount["shear_x"], amount["shear_y"]
    across, along = jnp.trunc(amount["translate_x"]), jnp.trunc(amount["translate_y"])
    moved = jnp.stack([right * size[0] / 2 - across, down * size[1] / 2 - along], 1)  # shears keep the corner fixed
    zeros = jnp.zeros_like(right)
    sheared = jnp.stack([jnp.stack([zeros, right], 1), jnp.stack([down, zeros], 1)], 1)
    return turning(jnp.deg2rad(amount["rotate"])) + jnp.concatenate([sheared, moved[:, :, None]], axis=2)


def _faded(images: Array, which: Array) -> Array:
    """Return the degenerate image of an enhancement: black, grayscale, its mean, or the smoothed image."""
    greys = grey(images)
    means = greys.mean(axis=(1, 2, 3), keepdims=True)
    faded = jnp.where(each(_is_one_of(which, ("color",))), greys, smoothed(images))
    faded = jnp.where(each(_is_one_of(which, ("contrast",))), means, faded)
    return jnp.where(each(_is_one_of(which, ("brightness",))), 0, faded)


def smoothed(images: Array) -> Array:
    """Average each pixel, with weight 5, with its eight neighbors; border pixels are unchanged (Pillow's SMOOTH)."""
    if min(images.shape[1:3]) < 3:
        return images
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    squares = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = images[:, 1:-1, 1:-1]
    return images.at[:, 1:-1, 1:-1].set((squares + 4 * inner) / 13)


def _by_levels(images: Array, which: Array, magnitudes: Array) -> Array:
    """Apply the operations that are defined on the 256 levels of a pixel, separately for each channel."""
    levels = jnp.clip(jnp.round(255 * images).astype(jnp.int32), 0, 255)
    lost = each(8 - jnp.clip(jnp.round(magnitudes).astype(jnp.int32), 0, 8))
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    spread = jnp.where(high > low, (images - low) / jnp.where(high > low, high - low, 1), images)
    results = jnp.where(each(_is_one_of(which, ("equalize",))), equalized(levels), levels >> lost << lost)
    results = results.astype(jnp.float32) / 255
    solarized = jnp.where(levels >= each(magnitudes), 1 - images, images)
    results = jnp.where(each(_is_one_of(which, ("solarize",))), solarized, results)
    return jnp.where(each(_is_one_of(which, ("autocontrast",))), jnp.clip(spread, 0, 1), results)


def equalized(levels: Array) -> Array:
    """Equalize the histogram of each channel of levels, int32 in 0 to 255 (Pillow's equalize)."""
    num, height, width, channels = levels.shape
    flat = levels.transpose(0, 3, 1, 2).reshape(num * channels, height * width)

    def spread(levels):
        counts = jnp.zeros(256, jnp.int32).at[levels].add(1, mode="promise_in_bounds")
        step = (height * width - counts[levels.max()]) // 255
        table = (jnp.cumsum(counts) - counts + step // 2) // jnp.maximum(step, 1)
        table = jnp.where(step > 0, jnp.minimum(table, 255), jnp.arange(256))
        return table.at[levels].get(mode="promise_in_bounds")

    return jax.vmap(spread)(flat).reshape(num, channels, height, width).transpose(0, 2, 3, 1)


def _drawn(key: Array, images: Array, levels: Array, ranges: Ranges, *, fill: float, interpolation: Sampling) -> Array:
    """Apply a randomly drawn operation to each image, at the given level [B]."""
    num = len(images)
    which_key, sign_key = jax.random.split(key)
    which = jax.random.randint(which_key, (num,), 0, len(OPERATIONS), jnp.int32)
    signs = jnp.where(happens(sign_key, num, 0.5), 1.0, -1.0).astype(jnp.float32)
    magnitudes = magnitudes_of(which, levels, signs, ranges)
    images = materialize(key, moved(images, which, magnitudes, fill=fill, interpolation=interpolation))
    return materialize(key, retouched(images, which, magnitudes))


@register("randaugment")
def randaugment(
    *, num_ops: int = 2, magnitude: int = 9, fill: float = 0.0, interpolation: Sampling = "nearest"
) -> Augment:
    """Apply `num_ops` operations in sequence to each image, each drawn from fourteen.

    (E. Cubuk et al., RandAugment, NeurIPS 2020, section 3; operations and ranges as in torchvision's RandAugment.)

    Args:
        num_ops: number of operations for each image, 1 to 100.
        magnitude: 0 to 30. At 30: shear 0.3, translation 150/331 of the size, rotation 30 degrees, factors 1 ± 0.9,
            posterize to 4 bits, solarize everything.
        fill: gray level of pixels from outside the image, 0..1, black by default.
        interpolation: of shears, translations and rotations: nearest, as torchvision's default, or bilinear.
    """
    if not 1 <= num_ops <= MOST_OPS:
        raise ValueError(f"randaugment: num_ops={num_ops}; expected a number of operations, 1 to {MOST_OPS}")
    if not 0 <= magnitude <= HIGHEST:
        raise ValueError(f"randaugment: magnitude={magnitude}; expected 0 to {HIGHEST}")
    check_fill("randaugment", fill)

    def augment(key, batch):
        images = batch["inputs"]
        ranges = ranges_of_rand_augment(images.shape[1:3])
        levels = jnp.full(len(images), magnitude, jnp.float32)
        for op_key in jax.random.split(key, num_ops):
            images = _drawn(op_key, images, levels, ranges, fill=fill, interpolation=interpolation)
        return {**batch, "inputs": images}

    return augment


@register("trivial_augment")
def trivial_augment(*, fill: float = 0.0, interpolation: Sampling = "nearest") -> Augment:
    """Apply one operation to each image, drawn from fourteen, with a magnitude drawn from 31.

    The ranges reach shear 0.99, translation 32 pixels, rotation 135 degrees, factors 1 ± 0.99, posterize to 2 bits and
    solarize everything. Pixels from outside the image are `fill`, a gray level in 0..1, black by default (S. Müller and
    F. Hutter, TrivialAugment, ICCV 2021, section 3; its wide search space, as in torchvision's TrivialAugmentWide).
    interpolation is that of shears, translations and rotations: nearest, as torchvision's default, or bilinear.
    """
    check_fill("trivial_augment", fill)

    def augment(key, batch):
        images = batch["inputs"]
        level_key, op_key = jax.random.split(key)
        levels = jax.random.randint(level_key, (len(images),), 0, HIGHEST + 1, jnp.int32).astype(jnp.float32)
        images = _drawn(op_key, images, levels, TRIVIAL, fill=fill, interpolation=interpolation)
        return {**batch, "inputs": images}

    return augment
