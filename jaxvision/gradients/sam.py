"""Sharpness-aware minimization."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxvision.gradients import register
from jaxvision.gradients.mean import divided_by_count, summed_gradient
from jaxvision.interfaces import Gradient


@register("sam")
def sam(*, rho: float = 0.05, axis_name: str | None = None) -> Gradient:
    """Compute SAM's gradient: that at the parameters moved by `rho` along the gradient.

    Sharpness-aware minimization (P. Foret et al., Sharpness-Aware Minimization for Efficiently Improving
    Generalization, ICLR 2021, equations 2 and 3 with p = 2). Each step computes two gradients. The norm is that of the
    gradient of a microbatch over all devices: with gradient accumulation, each microbatch is perturbed on its own
    (the paper's m-sharpness). Metrics and model state, including batch statistics, come from the first pass; both
    passes use the same dropout. Frozen parameters are not perturbed. Raises ValueError if rho is not above 0.
    """
    if not rho > 0:
        raise ValueError(f"sam: rho={rho}; expected a number above 0, e.g. 0.05")

    def microbatch(loss, params, model_state, batch, key):
        gradients, sums, new = summed_gradient(loss, params, model_state, batch, key)
        total = gradients if axis_name is None else jax.lax.psum(gradients, axis_name)
        norm = optax.tree.norm(total)
        scale = jnp.where(norm > 0, rho / jnp.where(norm > 0, norm, 1), 0)  # no direction if the gradient is zero
        moved = jax.tree.map(lambda p, g: (p + scale * g).astype(p.dtype), params, total)
        return summed_gradient(loss, moved, model_state, batch, key)[0], sums, new

    return Gradient(microbatch=microbatch, finish=divided_by_count)
