"""Occlusion: how far the score falls when a part of the image is covered."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.explanation import Explanation
from jaxvision.explanations import register

PARTS = 7  # windows of the default size beside each other, as the cells of a map of ImageNet's networks


def _starts(length: int, window: int, stride: int) -> np.ndarray:
    """Return where windows begin, so that all pixels are covered; the last may end beyond the image.

    >>> _starts(8, 4, 3).tolist()
    [0, 3, 6]
    """
    return np.arange(1 + max(-(-(length - window) // stride), 0)) * stride


@register("occlusion")
def occlusion(*, window: int | None = None, stride: int | None = None, value: float = 0.5) -> Explanation:
    """Cover one window after the other with a uniform color: the score without it, less the score with it.

    M. Zeiler and R. Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 4.2. A pixel has
    the mean over the windows that cover it. It needs a forward pass for each window.

    Args:
        window: side of the window in pixels; None for a seventh of the shorter side.
        stride: pixels from one window to the next, at most window; None for half of the window.
        value: the color; 0 is black, 0.5 is gray.

    Raises:
        ValueError: if a size is below 1, or the stride is larger than the window.
    """
    if min(window or 1, stride or 1) < 1 or (window and stride and stride > window):
        raise ValueError(
            f"occlusion: window={window}, stride={stride}; expected sizes of at least 1, and a stride of at most window"
        )

    def explain(model, params, state, inputs, target, *, key):
        _, height, width, _ = inputs.shape
        side = min(window or -(-min(height, width) // PARTS), height, width)
        step = min(stride or -(-side // 2), side)
        rows, columns = (_starts(length, side, step) for length in (height, width))
        corners = jnp.asarray(np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2))

        def scores(images):
            return (model.apply(params, state, images, train=False, key=None)[0] * target).sum(axis=-1)

        whole = scores(inputs)

        def cover(index, so_far):
            total, count = so_far
            (top, left), y, x = corners[index], jnp.arange(height)[:, None], jnp.arange(width)
            is_covered = (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
            fall = whole - scores(jnp.where(is_covered[..., None], jnp.asarray(value, inputs.dtype), inputs))
            return total + is_covered * fall[:, None, None], count + is_covered

        begin = jnp.zeros(inputs.shape[:-1], whole.dtype), jnp.zeros((height, width), jnp.int32)
        total, count = jax.lax.fori_loop(0, len(corners), cover, begin)
        return total / count

    return Explanation(explain)
