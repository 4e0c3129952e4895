"""Attention rollout: how much of each patch reaches the class token of a vision transformer."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxvision.explanation import Explanation
from jaxvision.explanations import register
from jaxvision.explanations.maps import INSTEAD, attention_of, token_grid
from jaxvision.interfaces import Model, Tree


def _grid(model: Model, params: Tree, state: Tree, inputs: Any) -> tuple[int, int]:
    """Return the rows and columns of patches. Raises ValueError if the model has no attention with a class token."""
    grid = token_grid(model, params, state, inputs)
    if grid is None:
        raise ValueError(f"it has no attention with a class token; {INSTEAD}, or --method=grad_cam")
    return grid


@register("attention_rollout")
def attention_rollout() -> Explanation:
    """Multiply the attention of all blocks, each averaged with the identity: the same map for all classes.

    S. Abnar and W. Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, section 4 and equation 1, with the
    mean over the heads. A map is the row of the class token, without its own part, so its values are at least 0. It
    does not depend on the target.
    """

    def explain(model, params, state, inputs, target, *, key):
        grid = _grid(model, params, state, inputs)
        blocks = attention_of(model, params, state, inputs)
        rolled = jnp.eye(blocks[0].shape[-1], dtype=blocks[0].dtype)
        for shares in blocks:
            mean = shares.mean(axis=1)
            rolled = (mean + jnp.eye(mean.shape[-1], dtype=mean.dtype)) / 2 @ rolled
        return rolled[:, 0, 1:].reshape(-1, *grid)

    def source(model, params, state, inputs):
        rows, columns = _grid(model, params, state, inputs)
        return f"the attention of all blocks ({rows}x{columns})"

    return Explanation(explain, source)
