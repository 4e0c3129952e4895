"""AutoAugment: two operations for each image, by one of 25 sub-policies that were found by search."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.augmentations import register
from jaxvision.augmentations.policies import (
    HIGHEST,
    OPERATIONS,
    magnitudes_of,
    moved,
    ranges_of_rand_augment,
    retouched,
)
from jaxvision.augmentations.random_ops import check_fill, happens, uniform
from jaxvision.augmentations.resampling import Sampling
from jaxvision.interfaces import Augment
from jaxvision.materialize import materialize

# A sub-policy a line: twice an operation, its probability, and its magnitude from 0 to 9 (paper, tables 7 and 9).
POLICIES = {
    "imagenet": """
        posterize 0.4 8, rotate 0.6 9
        solarize 0.6 5, autocontrast 0.6
        equalize 0.8, equalize 0.6
        posterize 0.6 7, posterize 0.6 6
        equalize 0.4, solarize 0.2 4
        equalize 0.4, rotate 0.8 8
        solarize 0.6 3, equalize 0.6
        posterize 0.8 5, equalize 1
        rotate 0.2 3, solarize 0.6 8
        equalize 0.6, posterize 0.4 6
        rotate 0.8 8, color 0.4 0
        rotate 0.4 9, equalize 0.6
        equalize 0, equalize 0.8
        invert 0.6, equalize 1
        color 0.6 4, contrast 1 8
        rotate 0.8 8, color 1 2
        color 0.8 8, solarize 0.8 7
        sharpness 0.4 7, invert 0.6
        shear_x 0.6 5, equalize 1
        color 0.4 0, equalize 0.6
        equalize 0.4, solarize 0.2 4
        solarize 0.6 5, autocontrast 0.6
        invert 0.6, equalize 1
        color 0.6 4, contrast 1 8
        equalize 0.8, equalize 0.6""",
    "cifar10": """
        invert 0.1, contrast 0.2 6
        rotate 0.7 2, translate_x 0.3 9
        sharpness 0.8 1, sharpness 0.9 3
        shear_y 0.5 8, translate_y 0.7 9
        autocontrast 0.5, equalize 0.9
        shear_y 0.2 7, posterize 0.3 7
        color 0.4 3, brightness 0.6 7
        sharpness 0.3 9, brightness 0.7 9
        equalize 0.6, equalize 0.5
        contrast 0.6 7, sharpness 0.6 5
        color 0.7 7, translate_x 0.5 8
        equalize 0.3, autocontrast 0.4
        translate_y 0.4 3, sharpness 0.2 6
        brightness 0.9 6, color 0.2 8
        solarize 0.5 2, invert 0
        equalize 0.2, autocontrast 0.6
        equalize 0.2, equalize 0.6
        color 0.9 9, equalize 0.6
        autocontrast 0.8, solarize 0.2 8
        brightness 0.1 3, color 0.7 0
        solarize 0.4 5, autocontrast 0.9
        translate_y 0.9 9, translate_y 0.7 9
        autocontrast 0.9, solarize 0.8 3
        equalize 0.8, invert 0.1
        translate_y 0.7 9, autocontrast 0.9""",
}
HIGHEST_OF_PAPER = 9
NUM_OPS = 2


def read_policy(name: str) -> np.ndarray:
    """Return a policy as float32 [25, 2, 3]: the index of the operation, its probability, its level up to HIGHEST.

    Inverting an image is solarizing it from level 0 on, which is the highest magnitude of solarize.
    """
    rows = []
    for line in POLICIES[name].strip().splitlines():
        for words in (part.split() for part in line.split(",")):
            magnitude = HIGHEST_OF_PAPER if words[0] == "invert" else float([*words, 0][2])
            operation = "solarize" if words[0] == "invert" else words[0]
            level = magnitude * HIGHEST / HIGHEST_OF_PAPER
            rows.append((OPERATIONS.index(operation), float(words[1]), level))
    return np.array(rows, np.float32).reshape(-1, NUM_OPS, 3)


@register("autoaugment")
def autoaugment(
    *, policy: Literal["imagenet", "cifar10"] = "imagenet", fill: float = 0.0, interpolation: Sampling = "nearest"
) -> Augment:
    """Apply two operations to each image, each with a probability and magnitude, by a randomly drawn sub-policy.

    (E. Cubuk et al., AutoAugment, CVPR 2019, tables 7 and 9; ranges of magnitudes as in torchvision's AutoAugment.)

    Args:
        policy: the 25 sub-policies that were found on ImageNet or on CIFAR-10.
        fill: gray level of pixels from outside the image, 0..1, black by default.
        interpolation: of shears, translations and rotations: nearest, as torchvision's default, or bilinear.
    """
    check_fill("autoaugment", fill)
    table = read_policy(policy)

    def augment(key, batch):
        images, num = batch["inputs"], len(batch["inputs"])
        ranges = ranges_of_rand_augment(images.shape[1:3])
        policy_key, *keys = jax.random.split(key, 1 + NUM_OPS)
        chosen = jnp.asarray(table)[jax.random.randint(policy_key, (num,), 0, len(table), jnp.int32)]
        for position, op_key in enumerate(keys):
            happens_key, sign_key, moved_key, retouched_key = jax.random.split(op_key, 4)
            is_applied = uniform(happens_key, num, 0.0, 1.0) < chosen[:, position, 1]
            which = jnp.where(is_applied, chosen[:, position, 0].astype(jnp.int32), OPERATIONS.index("identity"))
            signs = jnp.where(happens(sign_key, num, 0.5), 1.0, -1.0).astype(jnp.float32)
            magnitudes = magnitudes_of(which, chosen[:, position, 2], signs, ranges)
            images = materialize(moved_key, moved(images, which, magnitudes, fill=fill, interpolation=interpolation))
            images = materialize(retouched_key, retouched(images, which, magnitudes))
        return {**batch, "inputs": images}

    return augment
