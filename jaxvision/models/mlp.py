"""Multi-layer perceptrons."""

from __future__ import annotations

import flax.linen as nn

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import require_few_layers
from jaxvision.models.linen import from_linen, tap


class MLP(nn.Module):
    output_size: int
    hidden: tuple[int, ...]
    dropout: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = x.reshape(x.shape[0], -1)
        for index, size in enumerate(self.hidden, 1):
            x = tap(self, f"dense{index}", nn.relu(nn.Dense(size, name=f"dense{index}")(x)))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.output_size, name="head")(tap(self, "pooled", x))


@register("mlp")
def mlp(*, output_size: int, hidden: tuple[int, ...] = (512, 512), dropout: float = 0.0) -> Model:
    """Build a multilayer perceptron: dense layers with ReLU and dropout on the flattened image."""
    require_few_layers(hidden=hidden)
    if min(hidden, default=1) < 1 or not 0 <= dropout < 1:
        raise ValueError(f"mlp: hidden={hidden}, dropout={dropout}; expected sizes of at least 1, dropout in [0, 1)")
    return from_linen(MLP(output_size, hidden, dropout), head="head")
