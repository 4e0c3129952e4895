"""Class activation maps: a feature map, its channels weighted by the gradient of the score."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxvision.explanation import Explanation
from jaxvision.explanations import register
from jaxvision.explanations.maps import activation_and_gradient, layer_of
from jaxvision.interfaces import Array


def _explanation(combine: Callable[[Array, Array], Array], layer: str | None) -> Explanation:
    """Return the explanation that combines a map and its gradient, both [B, h, w, C], to [B, h, w]."""

    def explain(model, params, state, inputs, target, *, key):
        return combine(*activation_and_gradient(model, params, state, inputs, target, layer))

    def source(model, params, state, inputs):
        name, (rows, columns) = layer_of(model, params, state, inputs, layer)
        return f"{name} ({rows}x{columns})"

    return Explanation(explain, source)


@register("grad_cam")
def grad_cam(*, layer: str | None = None) -> Explanation:
    """Weight the channels of a map by the mean of their gradients, and keep positive sums.

    R. Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017,
    equations 1 and 2. `layer` is the name of a feature map; None for the deepest one of at least 4x4 cells, in ViT
    the one before the last block. Maps are at least 0.
    """
    return _explanation(lambda a, g: jax.nn.relu((a * g.mean(axis=(1, 2), keepdims=True)).sum(axis=-1)), layer)


@register("grad_cam_plus_plus")
def grad_cam_plus_plus(*, layer: str | None = None, epsilon: float = 0.0) -> Explanation:
    """Weight the channels of a map by their positive gradients, each cell by its share, and keep positive sums.

    A. Chattopadhay et al., Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks, WACV 2018,
    equations 5 and 19. The paper's score is the exponential of the output, whose factor is left out: it only scales a
    map. `layer` is as for `grad_cam`. `epsilon` is added to the denominator of equation 19; some libraries use 1e-6,
    which outweighs small gradients. Raises ValueError if it is negative.
    """
    if epsilon < 0:
        raise ValueError(f"grad_cam_plus_plus: epsilon={epsilon}; expected 0 or more")

    def combine(activation, gradient):
        square = gradient**2
        below = 2 * square + activation.sum(axis=(1, 2), keepdims=True) * gradient**3 + epsilon
        share = jnp.where((gradient != 0) & (below != 0), square / jnp.where(below == 0, 1, below), 0)
        weights = (share * jax.nn.relu(gradient)).sum(axis=(1, 2), keepdims=True)
        return jax.nn.relu((weights * activation).sum(axis=-1))

    return _explanation(combine, layer)


@register("layer_cam")
def layer_cam(*, layer: str | None = None) -> Explanation:
    """Weight each cell of a map by its own positive gradient, and keep positive sums: also for early layers.

    P.-T. Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, TIP 2021, equations 5
    to 7. `layer` is as for `grad_cam`.
    """
    return _explanation(lambda a, g: jax.nn.relu((jax.nn.relu(g) * a).sum(axis=-1)), layer)
