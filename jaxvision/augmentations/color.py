"""Color and sharpness augmentations, and the operations that they and the policies are built from.

Images are float32 [B, H, W, C] in 0..1; random parameters have one value per image, [B].
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.augmentations import register
from jaxvision.augmentations.random_ops import check_probability, check_range, each, happens, uniform
from jaxvision.augmentations.resampling import along_axes, smoothing
from jaxvision.interfaces import Array, Augment

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue: ITU-R BT.601, as in Pillow


def grey(images: Array) -> Array:
    """Return the luma [B, H, W, 1] of images; grayscale images are returned unchanged."""
    if images.shape[-1] == 1:
        return images
    red, green, blue = (images[..., i : i + 1] * weight for i, weight in enumerate(LUMA))
    return red + green + blue


def blend(images: Array, other: Array, factors: Array) -> Array:
    """Interpolate from `other` (factor 0) to the images (factor 1), or extrapolate (factor above 1).

    The factors are those of PIL.ImageEnhance.
    """
    return jnp.clip(other + each(factors) * (images - other), 0, 1)


def turn_hue(images: Array, turns: Array) -> Array:
    """Rotate the hue of color images by `turns` [B], in fractions of a full turn; HSV saturation and value are kept.

    (A. R. Smith, Color Gamut Transform Pairs, SIGGRAPH 1978, the hexcone.)
    """
    red, green, blue = (images[..., i : i + 1] for i in range(3))
    value = jnp.maximum(jnp.maximum(red, green), blue)
    range_ = value - jnp.minimum(jnp.minimum(red, green), blue)
    divisor = jnp.where(range_ > 0, range_, 1)
    sextant = jnp.where(
        value == red,
        (green - blue) / divisor,
        jnp.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    positions = sextant + 6 * each(turns) + jnp.array([5, 3, 1], jnp.float32).reshape(1, 1, 1, 3)  # of red, green, blue
    positions = positions - 6 * jnp.floor(positions / 6)  # ten times faster than % on CPUs
    return value - range_ * jnp.clip(jnp.minimum(positions, 4 - positions), 0, 1)


def _factors(name: str, argument: str, strength: float) -> tuple[float, float]:
    if strength < 0:
        raise ValueError(f"{name}: {argument}={strength}; expected 0 (no change) or more")
    return max(1 - strength, 0), 1 + strength


@register("color_jitter")
def color_jitter(
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    probability: float = 1.0,
) -> Augment:
    """Change brightness, contrast, saturation and hue by random amounts, in a random order.

    (T. Chen et al., A Simple Framework for Contrastive Learning, SimCLR, ICML 2020, appendix A, at strength 0.5.)
    Grayscale images only change in brightness and contrast.

    Args:
        brightness: the factor is uniform in [max(0, 1 - brightness), 1 + brightness].
        contrast: likewise for contrast.
        saturation: likewise for saturation.
        hue: the hue is rotated by up to this fraction of a full turn in either direction, 0 to 0.5.
        probability: probability that an image is changed.
    """
    bounds = [
        _factors("color_jitter", *pair)
        for pair in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation))
    ]
    if not 0 <= hue <= 0.5:
        raise ValueError(f"color_jitter: hue={hue}; expected a fraction of a full turn, 0 to 0.5")
    check_probability("color_jitter", probability)
    orders = np.array(list(itertools.permutations(range(4))), np.int32)

    def augment(key, batch):
        inputs = batch["inputs"]
        num, has_hue = len(inputs), hue > 0 and inputs.shape[-1] == 3
        order_key, happens_key, hue_key, *keys = jax.random.split(key, 6)
        factors = jnp.stack([uniform(k, num, *pair) for k, pair in zip(keys, bounds, strict=True)], axis=1)
        turns = uniform(hue_key, num, -hue, hue)
        order = jnp.asarray(orders)[jax.random.randint(order_key, (num,), 0, len(orders))]
        images = inputs
        for which in order.T:
            turned = jnp.where(each(which == 3), turn_hue(images, turns), images) if has_hue else images
            images = jnp.where(each(which < 3), _enhanced(images, which, factors), turned)
        return {**batch, "inputs": jnp.where(each(happens(happens_key, num, probability)), images, inputs)}

    return augment


def _enhanced(images: Array, which: Array, factors: Array) -> Array:
    """Scale the brightness (0), contrast (1) or saturation (2) of each image by its factor, from factors [B, 3]."""
    greys = grey(images)
    means = greys.mean(axis=(1, 2, 3), keepdims=True)
    other = jnp.where(each(which == 0), 0, jnp.where(each(which == 1), means, greys))
    return blend(images, other, jnp.take_along_axis(factors, jnp.minimum(which, 2)[:, None], axis=1)[:, 0])


@register("grayscale")
def grayscale(*, probability: float = 0.2) -> Augment:
    """Convert each image to grayscale with the given probability, keeping its channels.

    (T. Chen et al., A Simple Framework for Contrastive Learning, SimCLR, ICML 2020, appendix A.)
    """
    check_probability("grayscale", probability)

    def augment(key, batch):
        inputs = batch["inputs"]
        return {**batch, "inputs": jnp.where(each(happens(key, len(inputs), probability)), grey(inputs), inputs)}

    return augment


@register("gaussian_blur")
def gaussian_blur(*, sigma: tuple[float, float] = (0.1, 2.0), probability: float = 0.5) -> Augment:
    """Blur each image with the given probability, by a Gaussian of random standard deviation.

    sigma is the range of the standard deviation in pixels. At the border, the weights are normalized over the pixels
    inside the image (T. Chen et al., A Simple Framework for Contrastive Learning, SimCLR, ICML 2020, appendix A).
    """
    check_range("gaussian_blur", "sigma", sigma, most=float("inf"))
    check_probability("gaussian_blur", probability)

    def augment(key, batch):
        inputs = batch["inputs"]
        num, (height, width) = inputs.shape[0], inputs.shape[1:3]
        sigma_key, happens_key = jax.random.split(key)
        sigmas = uniform(sigma_key, num, *sigma)
        blurred = jnp.clip(along_axes(inputs, smoothing(height, sigmas), smoothing(width, sigmas)), 0, 1)
        return {**batch, "inputs": jnp.where(each(happens(happens_key, num, probability)), blurred, inputs)}

    return augment
