"""AugMix: a random mixture of an image with chains of operations on it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision.augmentations import register
from jaxvision.augmentations.policies import OPERATIONS, Ranges, magnitudes_of, moved, retouched
from jaxvision.augmentations.random_ops import check_fill, each, happens, uniform
from jaxvision.augmentations.resampling import Sampling
from jaxvision.interfaces import Array, Augment
from jaxvision.materialize import materialize

DRAWN = (
    *("autocontrast", "equalize", "posterize", "rotate", "solarize"),
    *("shear_x", "shear_y", "translate_x", "translate_y"),
)  # without the operations that overlap with the corruptions of ImageNet-C
MOST_SEVERE = 10
LONGEST = 3  # operations of a chain, if its depth is drawn
MOST = 100  # of chains, of operations in one, and of views; operations are compiled, the others take memory
LEAST_LEVEL = 0.1


def ranges_of_augmix(size: tuple[int, ...]) -> Ranges:
    """Return the parameters at level 0 and at the highest, for images of a (height, width), as the authors' code has.

    Posterizing keeps 4 bits at level 0 and none at the highest.
    """
    down, right = (pixels / 3 for pixels in size)
    return {
        **{"shear_x": (0.0, 0.3), "shear_y": (0.0, 0.3), "rotate": (0.0, 30.0)},
        **{"translate_x": (0.0, right), "translate_y": (0.0, down)},
        **{"posterize": (4.0, 0.0), "solarize": (256.0, 0.0)},
    }


def mixed(images: Array, chains: Array, chain_weights: Array, weights: Array) -> Array:
    """Mix images [B, H, W, C] with chains [B, K, H, W, C] by weights [B] of their mixture by chain_weights [B, K]."""
    mixture = (chain_weights[:, :, None, None, None] * chains).sum(axis=1)
    return (1 - each(weights)) * images + each(weights) * mixture


def _operated(key: Array, images: Array, severity: float, *, fill: float, interpolation: Sampling) -> Array:
    """Apply to each image an operation drawn from DRAWN, at a level drawn up to the severity."""
    which_key, level_key, sign_key, moved_key, retouched_key = jax.random.split(key, 5)
    num = len(images)
    indices = jnp.array([OPERATIONS.index(name) for name in DRAWN], jnp.int32)
    which = indices[jax.random.randint(which_key, (num,), 0, len(DRAWN), jnp.int32)]
    levels = uniform(level_key, num, LEAST_LEVEL, severity)
    signs = jnp.where(happens(sign_key, num, 0.5), 1.0, -1.0).astype(jnp.float32)
    magnitudes = magnitudes_of(which, levels, signs, ranges_of_augmix(images.shape[1:3]), highest=MOST_SEVERE)
    magnitudes = jnp.where(which == OPERATIONS.index("posterize"), jnp.ceil(magnitudes), magnitudes)  # 4 - whole bits
    magnitudes = jnp.where(which == OPERATIONS.index("rotate"), jnp.trunc(magnitudes), magnitudes)  # whole degrees
    images = materialize(moved_key, moved(images, which, magnitudes, fill=fill, interpolation=interpolation))
    return materialize(retouched_key, retouched(images, which, magnitudes))


@register("augmix")
def augmix(
    *,
    severity: float = 3.0,
    width: int = 3,
    depth: int = 0,
    alpha: float = 1.0,
    num_views: int = 0,
    fill: float = 0.0,
    interpolation: Sampling = "bilinear",
) -> Augment:
    """Mix each image with a mixture of `width` chains of one to three operations on it.

    (D. Hendrycks et al., AugMix, ICLR 2020, section 3 and algorithm 1; operations and levels as in the authors' code.)
    For its consistency loss, keep the image and add views: `augmentations="augmix(num_views=2)"` with
    `task="consistency(weight=12)"`. Augmentations behind it then change the image alone, so it comes last.

    Args:
        severity: highest level of an operation, 0.1 to 10. At 10: shear 0.3, translation a third of the size, rotation
            30 degrees, posterize and solarize everything.
        width: number of chains, 1 or more.
        depth: number of operations in each chain; 0 draws 1 to 3 for each image and chain.
        alpha: parameter of the Dirichlet distribution of the weights of the chains, and of the beta distribution of the
            weight of their mixture, above 0.
        num_views: number of mixtures that are added to the batch as "views" [B, num_views, H, W, C], beside the
            unchanged image; 0 replaces the image.
        fill: gray level of pixels from outside the image, 0..1, black by default.
        interpolation: of shears, translations and rotations: bilinear, as the authors' code, or nearest.
    """
    _check(severity, width, depth, alpha, num_views)
    check_fill("augmix", fill)

    def mixtures(key: Array, images: Array, count: int) -> Array:
        """Return `count` mixtures of each image, [B, count, H, W, C]; all chains are computed as one batch."""
        weights_key, chains_key, depth_key, op_key = jax.random.split(key, 4)
        repeated = jnp.repeat(images, count, axis=0)
        num, longest = len(repeated), depth or LONGEST
        chain_weights = jax.random.dirichlet(chains_key, jnp.full(width, alpha, jnp.float32), (num,), jnp.float32)
        weights = jax.random.beta(weights_key, float(alpha), float(alpha), (num,), jnp.float32)
        depths = jax.random.randint(depth_key, (num * width,), depth or 1, longest + 1, jnp.int32)
        chains = jnp.repeat(repeated, width, axis=0)
        for position, position_key in enumerate(jax.random.split(op_key, longest)):
            operated = _operated(position_key, chains, severity, fill=fill, interpolation=interpolation)
            chains = jnp.where(each(depths > position), operated, chains)
        chains = chains.reshape(num, width, *images.shape[1:])
        return mixed(repeated, chains, chain_weights, weights).reshape(len(images), count, *images.shape[1:])

    def augment(key, batch):
        if num_views == 0:
            return {**batch, "inputs": mixtures(key, batch["inputs"], 1)[:, 0]}
        return {**batch, "views": mixtures(key, batch["inputs"], num_views)}

    return augment


def _check(severity: float, width: int, depth: int, alpha: float, num_views: int) -> None:
    if not LEAST_LEVEL <= severity <= MOST_SEVERE:
        raise ValueError(f"augmix: severity={severity}; expected {LEAST_LEVEL} to {MOST_SEVERE}")
    if not 1 <= width <= MOST or not 0 <= depth <= MOST or not 0 <= num_views <= MOST:
        raise ValueError(
            f"augmix: width={width}, depth={depth}, num_views={num_views}; expected a width of 1 to {MOST}, and "
            f"a depth and a number of views of 0 to {MOST}"
        )
    if not 0 < alpha <= 1e6:
        raise ValueError(f"augmix: alpha={alpha}; expected a parameter of the beta distribution, above 0 up to 1e6")
