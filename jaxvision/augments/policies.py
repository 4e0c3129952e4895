"""Policies: augments that draw, for each image, operations out of a list.

The list is that of RandAugment's section 3, the operations are those of Pillow, the magnitudes torchvision's. What an
image draws is chosen among all that it could have drawn; so the geometric operations are one affine map, the enhancing
ones one blend, and only the four that go by levels are computed beside one another.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision.augments import register
from jaxvision.augments.colour import blend, grey
from jaxvision.augments.draws import check_fill, each, happens
from jaxvision.augments.geometry import turning
from jaxvision.augments.sampling import affine
from jaxvision.interfaces import Array, Augment
from jaxvision.settling import settled

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
ENHANCING = ("brightness", "color", "contrast", "sharpness")
BY_LEVELS = ("posterize", "solarize", "autocontrast", "equalize")
OPERATIONS = ("identity", *GEOMETRIC, *ENHANCING, *BY_LEVELS)
SIGNED = (*GEOMETRIC, *ENHANCING)
HIGHEST = 30  # the last of torchvision's 31 magnitudes

Ranges = dict[str, tuple[float, float]]


def _ranges(
    *, shear: float, translate_x: float, translate_y: float, degrees: float, factor: float, bits: int
) -> Ranges:
    """Gives what magnitude 0 and the highest mean for each operation, as `moved` and `retouched` take it."""
    ends = dict.fromkeys(("shear_x", "shear_y"), shear) | dict.fromkeys(ENHANCING, factor)
    ends |= {"translate_x": translate_x, "translate_y": translate_y, "rotate": degrees}
    return {name: (0.0, end) for name, end in ends.items()} | {"posterize": (8.0, float(bits)), "solarize": (255.0, 0)}


def ranges_of_rand_augment(size: tuple[int, ...]) -> Ranges:
    """Gives what magnitudes mean in RandAugment for images of a height and width."""
    down, right = (pixels * 150 / 331 for pixels in size)  # 150 pixels of the 331 that AutoAugment's images had
    return _ranges(shear=0.3, translate_x=right, translate_y=down, degrees=30.0, factor=0.9, bits=4)


TRIVIAL = _ranges(shear=0.99, translate_x=32.0, translate_y=32.0, degrees=135.0, factor=0.99, bits=2)


def _magnitudes(which: Array, levels: Array, signs: Array, ranges: Ranges) -> Array:
    """Gives what levels [B] of 0 to HIGHEST mean for operations [B]; signs are 1 or -1."""
    bounds = jnp.array([ranges.get(name, (0.0, 0.0)) for name in OPERATIONS], jnp.float32)[which]
    sign = jnp.where(_is_one_of(which, SIGNED), signs, 1)
    return sign * (bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * (levels / HIGHEST))


def _is_one_of(which: Array, names: tuple[str, ...]) -> Array:
    return jnp.isin(which, jnp.array([OPERATIONS.index(name) for name in names]))


def moved(images: Array, which: Array, magnitudes: Array, *, fill: float) -> Array:
    """Applies to each image the operation of that place in OPERATIONS, [B], if it is a geometric one.

    Magnitudes [B] are slopes of shears about the upper left corner, pixels of translations (cut to whole ones), and
    degrees of rotations, counter-clockwise.
    """
    return jnp.clip(affine(images, _maps(which, magnitudes, images.shape[1:3]), fill=fill), 0, 1)


def retouched(images: Array, which: Array, magnitudes: Array) -> Array:
    """Applies to each image the operation of that place in OPERATIONS, [B], if it is none of the geometric ones.

    Brightness, color (saturation), contrast and sharpness are multiplied by 1 + magnitude; posterize keeps so many
    bits, solarize inverts from that level of 0 to 255 on.
    """
    enhanced = blend(images, _faded(images, which), 1 + magnitudes)
    by_levels = _by_levels(images, which, magnitudes)
    others = jnp.where(each(_is_one_of(which, BY_LEVELS)), by_levels, images)
    return jnp.where(each(_is_one_of(which, ENHANCING)), enhanced, others)


def _maps(which: Array, magnitudes: Array, size: tuple[int, ...]) -> Array:
    """Makes the affine maps [B, 2, 3] of the geometric operations; the others leave pixels where they are."""
    amount = {name: jnp.where(_is_one_of(which, (name,)), magnitudes, 0) for name in GEOMETRIC}
    right, down = amount["shear_x"], amount["shear_y"]
    across, along = jnp.trunc(amount["translate_x"]), jnp.trunc(amount["translate_y"])
    moved = jnp.stack([right * size[0] / 2 - across, down * size[1] / 2 - along], 1)  # shears leave the corner
    zeros = jnp.zeros_like(right)
    sheared = jnp.stack([jnp.stack([zeros, right], 1), jnp.stack([down, zeros], 1)], 1)
    return turning(jnp.deg2rad(amount["rotate"])) + jnp.concatenate([sheared, moved[:, :, None]], axis=2)


def _faded(images: Array, which: Array) -> Array:
    """Gives what an enhanced image is blended with: black, its grey, the mean of that, or itself smoothed."""
    greys = grey(images)
    means = greys.mean(axis=(1, 2, 3), keepdims=True)
    faded = jnp.where(each(_is_one_of(which, ("color",))), greys, smoothed(images))
    faded = jnp.where(each(_is_one_of(which, ("contrast",))), means, faded)
    return jnp.where(each(_is_one_of(which, ("brightness",))), 0, faded)


def smoothed(images: Array) -> Array:
    """Averages each pixel with its eight neighbours, itself counting five times; the border stays (Pillow's SMOOTH)."""
    if min(images.shape[1:3]) < 3:
        return images
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    squares = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = images[:, 1:-1, 1:-1]
    return images.at[:, 1:-1, 1:-1].set((squares + 4 * inner) / 13)


def _by_levels(images: Array, which: Array, magnitudes: Array) -> Array:
    """Applies the operations that are defined on the 256 levels of a pixel, each channel for itself."""
    levels = jnp.clip(jnp.round(255 * images).astype(jnp.int32), 0, 255)
    lost = each(8 - jnp.clip(jnp.round(magnitudes).astype(jnp.int32), 0, 8))
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    spread = jnp.where(high > low, (images - low) / jnp.where(high > low, high - low, 1), images)
    found = jnp.where(each(_is_one_of(which, ("equalize",))), equalized(levels), levels >> lost << lost)
    found = found.astype(jnp.float32) / 255
    solarized = jnp.where(levels >= each(magnitudes), 1 - images, images)
    found = jnp.where(each(_is_one_of(which, ("solarize",))), solarized, found)
    return jnp.where(each(_is_one_of(which, ("autocontrast",))), jnp.clip(spread, 0, 1), found)


def equalized(levels: Array) -> Array:
    """Spreads the levels of each channel, int32 in 0 to 255, so that all are about as frequent (Pillow's equalize)."""
    num, height, width, channels = levels.shape
    flat = levels.transpose(0, 3, 1, 2).reshape(num * channels, height * width)

    def spread(levels):
        counts = jnp.zeros(256, jnp.int32).at[levels].add(1, mode="promise_in_bounds")
        step = (height * width - counts[levels.max()]) // 255
        table = (jnp.cumsum(counts) - counts + step // 2) // jnp.maximum(step, 1)
        table = jnp.where(step > 0, jnp.minimum(table, 255), jnp.arange(256))
        return table.at[levels].get(mode="promise_in_bounds")

    return jax.vmap(spread)(flat).reshape(num, channels, height, width).transpose(0, 2, 3, 1)


def _drawn(key: Array, images: Array, levels: Array, ranges: Ranges, fill: float) -> Array:
    """Applies to each image an operation that it draws, at the level [B] given."""
    num = len(images)
    which_key, sign_key = jax.random.split(key)
    which = jax.random.randint(which_key, (num,), 0, len(OPERATIONS), jnp.int32)
    signs = jnp.where(happens(sign_key, num, 0.5), 1.0, -1.0).astype(jnp.float32)
    magnitudes = _magnitudes(which, levels, signs, ranges)
    images = settled(key, moved(images, which, magnitudes, fill=fill))
    return settled(key, retouched(images, which, magnitudes))


@register("rand_augment")
def rand_augment(*, num_ops: int = 2, magnitude: int = 9, fill: float = 0.0) -> Augment:
    """Applies to each image a number of operations, one after the other, each drawn out of fourteen.

    magnitude is 0 to 30: at 30, shears by 0.3, shifts by 150/331 of the size, turns by 30 degrees, factors of 1 ± 0.9,
    posterizing to 4 bits, solarizing all. What lies outside is `fill`, a grey level in 0..1, black by default
    (E. Cubuk et al., RandAugment, NeurIPS 2020, section 3; operations and scale as in torchvision's RandAugment).
    """
    if num_ops < 1:
        raise ValueError(f"rand_augment: num_ops={num_ops}; wanted a number of operations, 1 or more")
    if not 0 <= magnitude <= HIGHEST:
        raise ValueError(f"rand_augment: magnitude={magnitude}; wanted 0 to {HIGHEST}")
    check_fill("rand_augment", fill)

    def augment(key, batch):
        images = batch["inputs"]
        ranges = ranges_of_rand_augment(images.shape[1:3])
        levels = jnp.full(len(images), magnitude, jnp.float32)
        for own_key in jax.random.split(key, num_ops):
            images = _drawn(own_key, images, levels, ranges, fill)
        return {**batch, "inputs": images}

    return augment


@register("trivial_augment")
def trivial_augment(*, fill: float = 0.0) -> Augment:
    """Applies to each image one operation, drawn out of fourteen, by a magnitude drawn out of 31.

    They reach to shears by 0.99, shifts by 32 pixels, turns by 135 degrees, factors of 1 ± 0.99, posterizing to 2 bits,
    solarizing all. What lies outside is `fill`, a grey level in 0..1, black by default (S. Müller and F. Hutter,
    TrivialAugment, ICCV 2021, section 3; its wide search space, as in torchvision's TrivialAugmentWide).
    """
    check_fill("trivial_augment", fill)

    def augment(key, batch):
        images = batch["inputs"]
        level_key, own_key = jax.random.split(key)
        levels = jax.random.randint(level_key, (len(images),), 0, HIGHEST + 1, jnp.int32).astype(jnp.float32)
        return {**batch, "inputs": _drawn(own_key, images, levels, TRIVIAL, fill)}

    return augment
