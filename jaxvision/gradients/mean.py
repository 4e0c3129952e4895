"""The gradient of the mean loss, the standard rule."""

from __future__ import annotations

import jax

from jaxvision.gradients import register
from jaxvision.interfaces import Array, Batch, ExampleLoss, Gradient, Tree


def summed_gradient(
    loss: ExampleLoss, params: Tree, model_state: Tree, batch: Batch, key: Array | None
) -> tuple[Tree, dict[str, Array], Tree]:
    """Return the gradient of the masked sum of a loss, the masked sum of each metric, and the new model state."""

    def total(params):
        values, new = loss(params, model_state, batch, key)
        sums = {name: (value * batch["mask"]).sum() for name, value in values.items()}
        return sums["loss"], (sums, new)

    gradients, (sums, new) = jax.grad(total, has_aux=True)(params)
    return gradients, sums, new


def divided_by_count(sums: Tree, count: Array, key: Array) -> Tree:
    """Divide summed gradients by the number of examples."""
    return jax.tree.map(lambda leaf: (leaf / count).astype(leaf.dtype), sums)


@register("mean")
def mean() -> Gradient:
    """Compute the gradient of the mean loss over the examples of a step."""
    return Gradient(microbatch=summed_gradient, finish=divided_by_count)
