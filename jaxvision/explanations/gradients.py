"""Explanations by the gradient of the score with respect to the pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.explanation import Explanation
from jaxvision.explanations import register
from jaxvision.interfaces import Array, Model, Tree

MOST_STEPS = 4096  # whose nodes take a second to compute
GAP = 0.01  # of the difference of the scores; above it the steps double


def _scores(model: Model, params: Tree, state: Tree, inputs: Array, target: Array) -> Array:
    """Return the explained score of each example, [B]."""
    outputs, _ = model.apply(params, state, inputs, train=False, key=None)
    return (outputs * target).sum(axis=-1)


def _nodes(steps: int, max_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the nodes and weights of Gauss-Legendre rules on 0..1 of `steps`, twice that and so on, one after the
    other, and where each rule begins."""
    sizes = [steps]
    while sizes[-1] * 2 <= max_steps:
        sizes.append(sizes[-1] * 2)
    nodes, weights = zip(*(np.polynomial.legendre.leggauss(size) for size in sizes), strict=True)
    return (np.concatenate(nodes) + 1) / 2, np.concatenate(weights) / 2, np.cumsum([0, *sizes])


@register("integrated_gradients")
def integrated_gradients(*, steps: int = 64, max_steps: int = 512, baseline: float = 0.0) -> Explanation:
    """Integrate the gradient by the pixels on the way from a uniform image: the parts sum to the change of the score.

    M. Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, equation 1, by the Gauss-Legendre rule.
    A map is the sum over the channels. If the sum of a map differs from the score minus that of the baseline by more
    than 1 % of it (completeness, section 3), the steps double, up to max_steps.

    Args:
        steps: the number of gradients, at least 1.
        max_steps: the largest number, at least `steps`.
        baseline: all values of the image to start from; 0 is black.

    Raises:
        ValueError: if steps is below 1 or above max_steps.
    """
    if not 1 <= steps <= max_steps <= MOST_STEPS:
        raise ValueError(
            f"integrated_gradients: steps={steps}, max_steps={max_steps}; "
            f"expected 1 <= steps <= max_steps <= {MOST_STEPS}"
        )
    nodes, weights, begins = _nodes(steps, max_steps)

    def explain(model, params, state, inputs, target, *, key):
        start = jnp.full_like(inputs, baseline)

        def summed(place):
            return _scores(model, params, state, place, target).sum()

        def rule(number):
            alphas, shares, bounds = (jnp.asarray(each) for each in (nodes, weights, begins))

            def add(index, total):
                alpha = alphas[index].astype(inputs.dtype)
                return total + shares[index].astype(inputs.dtype) * jax.grad(summed)(start + alpha * (inputs - start))

            total = jax.lax.fori_loop(bounds[number], bounds[number + 1], add, jnp.zeros_like(inputs))
            return ((inputs - start) * total).sum(axis=-1)

        change = _scores(model, params, state, inputs, target) - _scores(model, params, state, start, target)

        def is_open(maps):
            return jnp.abs(maps.sum(axis=(1, 2)) - change) > GAP * jnp.abs(change)

        def double(so_far):
            number, maps = so_far
            return number + 1, jnp.where(is_open(maps)[:, None, None], rule(number), maps)

        first = jnp.full(inputs.shape[:-1], jnp.inf, inputs.dtype)
        _, maps = jax.lax.while_loop(
            lambda so_far: (so_far[0] < len(begins) - 1) & is_open(so_far[1]).any(), double, (0, first)
        )
        return maps

    return Explanation(explain)


@register("smooth_grad")
def smooth_grad(*, samples: int = 32, noise: float = 0.15) -> Explanation:
    """Average the gradient by the pixels over noisy copies of the image, and take its largest size over the channels.

    D. Smilkov et al., SmoothGrad: Removing Noise by Adding Noise, 2017, section 2.1. `noise` is the standard deviation,
    as a fraction of the range of the image's values. Maps are at least 0. Raises ValueError if there are no samples or
    the noise is negative.
    """
    if samples < 1 or noise < 0:
        raise ValueError(f"smooth_grad: samples={samples}, noise={noise}; expected 1 or more, and 0 or more")

    def explain(model, params, state, inputs, target, *, key):
        axes = (1, 2, 3)
        deviation = noise * (inputs.max(axis=axes, keepdims=True) - inputs.min(axis=axes, keepdims=True))
        gradient = jax.grad(lambda noisy: _scores(model, params, state, noisy, target).sum())

        def add(index, total):
            drawn = jax.random.normal(jax.random.fold_in(key, index), inputs.shape[1:], inputs.dtype)
            return total + gradient(inputs + deviation * drawn)

        total = jax.lax.fori_loop(0, samples, add, jnp.zeros_like(inputs))
        return jnp.abs(total / samples).max(axis=-1)

    return Explanation(explain)
