"""Augments that change colours and sharpness, and the changes that they and the policies are made of.

Images are float32 [B, H, W, C] in 0..1; what is drawn has one value for each, [B].
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.augments import register
from jaxvision.augments.draws import check_probability, check_range, each, happens, uniform
from jaxvision.augments.sampling import along_axes, smoothing
from jaxvision.interfaces import Array, Augment

LUMA = (0.299, 0.587, 0.114)  # the weights of red, green and blue in grey: ITU-R BT.601, as in Pillow


def grey(images: Array) -> Array:
    """Gives the grey [B, H, W, 1] of images; grey ones are so already."""
    if images.shape[-1] == 1:
        return images
    red, green, blue = (images[..., i : i + 1] * weight for i, weight in enumerate(LUMA))
    return red + green + blue


def blend(images: Array, other: Array, factors: Array) -> Array:
    """Gives `other` for a factor of 0, the images for 1, and goes on in that direction beyond (PIL.ImageEnhance)."""
    return jnp.clip(other + each(factors) * (images - other), 0, 1)


def turn_hue(images: Array, turns: Array) -> Array:
    """Turns the hue of colour images by shares of a whole turn; saturation and value, as in HSV, stay.

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
    places = sextant + 6 * each(turns) + jnp.array([5, 3, 1], jnp.float32).reshape(1, 1, 1, 3)  # of red, green, blue
    places = places - 6 * jnp.floor(places / 6)  # on CPUs a tenth of the time of %
    return value - range_ * jnp.clip(jnp.minimum(places, 4 - places), 0, 1)


def _factors(name: str, argument: str, strength: float) -> tuple[float, float]:
    if strength < 0:
        raise ValueError(f"{name}: {argument}={strength}; wanted 0 (unchanged) or more")
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
    """Changes brightness, contrast, saturation and hue at random, in a random order for each image.

    brightness, contrast and saturation are multiplied by 1 - strength (at least 0) to 1 + strength; the hue is turned
    by up to that share of a whole turn either way, 0 to 0.5. Each image is changed with `probability`. Of grey images
    brightness and contrast change alone (T. Chen et al., A Simple Framework for Contrastive Learning, SimCLR, ICML
    2020, appendix A, at its strength of 0.5).
    """
    bounds = [
        _factors("color_jitter", *pair)
        for pair in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation))
    ]
    if not 0 <= hue <= 0.5:
        raise ValueError(f"color_jitter: hue={hue}; wanted 0 to 0.5, a share of a whole turn")
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
    """Multiplies of each image the brightness (0), the contrast (1) or the saturation (2) by its factor [B, 3]."""
    greys = grey(images)
    means = greys.mean(axis=(1, 2, 3), keepdims=True)
    other = jnp.where(each(which == 0), 0, jnp.where(each(which == 1), means, greys))
    return blend(images, other, jnp.take_along_axis(factors, jnp.minimum(which, 2)[:, None], axis=1)[:, 0])


@register("greyscale")
def greyscale(*, probability: float = 0.2) -> Augment:
    """Takes the colours out of each image with the given probability; it keeps its channels, all the same.

    (T. Chen et al., A Simple Framework for Contrastive Learning, SimCLR, ICML 2020, appendix A.)
    """
    check_probability("greyscale", probability)

    def augment(key, batch):
        inputs = batch["inputs"]
        return {**batch, "inputs": jnp.where(each(happens(key, len(inputs), probability)), grey(inputs), inputs)}

    return augment


@register("blur")
def blur(*, sigma: tuple[float, float] = (0.1, 2.0), probability: float = 0.5) -> Augment:
    """Blurs each image with the given probability, by a Gaussian whose deviation is drawn between two, in pixels.

    At the border the mean is over what lies in the image (T. Chen et al., A Simple Framework for Contrastive Learning,
    SimCLR, ICML 2020, appendix A).
    """
    check_range("blur", "sigma", sigma, most=float("inf"))
    check_probability("blur", probability)

    def augment(key, batch):
        inputs = batch["inputs"]
        num, (height, width) = inputs.shape[0], inputs.shape[1:3]
        sigma_key, happens_key = jax.random.split(key)
        sigmas = uniform(sigma_key, num, *sigma)
        blurred = jnp.clip(along_axes(inputs, smoothing(height, sigmas), smoothing(width, sigmas)), 0, 1)
        return {**batch, "inputs": jnp.where(each(happens(happens_key, num, probability)), blurred, inputs)}

    return augment
