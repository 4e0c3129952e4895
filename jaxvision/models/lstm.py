"""Long short-term memory (S. Hochreiter, J. Schmidhuber, Long Short-Term Memory, Neural Computation 1997)."""

from __future__ import annotations

import flax.linen as nn

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import require_probability
from jaxvision.models.linen import from_linen, tap


class Lstm(nn.Module):
    output_size: int
    hidden: tuple[int, ...]
    dense: tuple[int, ...]
    dropout: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = x.reshape(*x.shape[:2], -1)  # an image is read row by row
        for index, size in enumerate(self.hidden, 1):
            layer = nn.RNN(nn.OptimizedLSTMCell(size), name=f"lstm{index}")
            x = tap(self, f"lstm{index}", layer(x))  # pyright: ignore[reportArgumentType]
        x = nn.Dropout(self.dropout, deterministic=not train)(x[:, -1])
        for index, size in enumerate(self.dense, 1):
            x = nn.Dense(size, name=f"dense{index}")(x)
        return nn.Dense(self.output_size, name="head")(tap(self, "pooled", x))


@register("lstm", num_parameters=31_901, input_size=(60, 1), output_size=1)
def lstm(
    *, output_size: int, hidden: tuple[int, ...] = (50, 50), dense: tuple[int, ...] = (25,), dropout: float = 0.0
) -> Model:
    """LSTM layers one over the other, then linear layers on the last step: of series [B, T, F], or images by rows.

    Gates have one bias each; 31,901 parameters on series of one feature with one output.
    """
    if not hidden or min((*hidden, *dense)) < 1:
        raise ValueError(f"lstm: hidden={hidden}, dense={dense}; wanted one layer or more, of sizes above 0")
    require_probability(dropout=dropout)
    return from_linen(Lstm(output_size, hidden, dense, dropout), head="head")
