"""Augmentations that mix each example and its targets with another example of the batch.

Integer targets become soft targets [B, C] over the run's classes; float targets are averaged as they are.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision.augmentations import register
from jaxvision.augmentations.random_ops import Rectangles, check_probability, each, happens, pixel
from jaxvision.interfaces import Array, Augment

MOST_ALPHA = 1_000_000  # draws 0.5 to three digits; much beyond, float32 draws nothing


def _check(name: str, alpha: float, probability: float) -> None:
    if not 0 < alpha <= MOST_ALPHA:
        raise ValueError(
            f"{name}: alpha={alpha}; expected a parameter of the beta distribution, above 0 and at most {MOST_ALPHA:,}"
        )
    check_probability(name, probability)


def _draw(key: Array, num: int, alpha: float, probability: float) -> tuple[Array, Array]:
    """Draw for each example the batch index of its partner and the weight of the example itself in the mix."""
    partner_key, weight_key, happens_key = jax.random.split(key, 3)
    weights = jax.random.beta(weight_key, float(alpha), float(alpha), (num,), jnp.float32)
    return jax.random.permutation(partner_key, num), jnp.where(happens(happens_key, num, probability), weights, 1)


def _mix(targets: Array, partners: Array, weights: Array, num_classes: int) -> Array:
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        targets = jax.nn.one_hot(targets, num_classes, dtype=jnp.float32)
    weights = weights.reshape(-1, *[1] * (targets.ndim - 1))
    return weights * targets + (1 - weights) * targets[partners]


@register("mixup")
def mixup(*, alpha: float = 0.2, probability: float = 1.0, num_classes: int) -> Augment:
    """Average each image with another of the batch, with a weight from Beta(alpha, alpha).

    Targets are averaged with the same weight. A small alpha changes most images little; alpha=1 draws weights
    uniformly. The paper uses 0.1 to 0.4 on ImageNet and 1 on CIFAR-10. Each example is mixed with `probability` (H.
    Zhang et al., mixup, ICLR 2018, section 2).
    """
    _check("mixup", alpha, probability)

    def augment(key, batch):
        inputs = batch["inputs"]
        partners, weights = _draw(key, len(inputs), alpha, probability)
        mixed = each(weights) * inputs + each(1 - weights) * inputs[partners]
        targets = _mix(batch["targets"], partners, weights, num_classes)
        return {**batch, "inputs": jnp.clip(mixed, 0, 1), "targets": targets}

    return augment


@register("cutmix")
def cutmix(*, alpha: float = 1.0, probability: float = 1.0, num_classes: int) -> Augment:
    """Paste a rectangle of another image into each image, and mix the targets by area.

    With w from Beta(alpha, alpha), the rectangle covers the fraction 1 - w of the image area, has the image's
    proportions and a uniformly drawn center; it is clipped at the border. Each example is mixed with `probability` (S.
    Yun et al., CutMix, ICCV 2019, section 3.1).
    """
    _check("cutmix", alpha, probability)

    def augment(key, batch):
        inputs = batch["inputs"]
        num, size = inputs.shape[0], inputs.shape[1:3]
        draw_key, center_key = jax.random.split(key)
        partners, weights = _draw(draw_key, num, alpha, probability)
        height, width = (jnp.floor(pixels * jnp.sqrt(1 - weights)).astype(jnp.int32) for pixels in size)
        is_laid = Rectangles.about(pixel(center_key, num, size), height, width).cover(size)
        shown = 1 - is_laid.mean(axis=(1, 2, 3), dtype=jnp.float32)
        targets = _mix(batch["targets"], partners, shown, num_classes)
        return {**batch, "inputs": jnp.where(is_laid, inputs[partners], inputs), "targets": targets}

    return augment
