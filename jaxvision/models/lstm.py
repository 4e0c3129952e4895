"""Long short-term memory (S. Hochreiter, J. Schmidhuber, Long Short-Term Memory, Neural Computation 1997)."""

from __future__ import annotations

import flax.linen as nn

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import require_few_layers, require_probability
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
    """Build stacked LSTM layers and linear layers on the last step, for series or images.

    Series are [B, T, F]; images are read row by row. Gates have one bias each; with one output, the default has 31,901
    parameters on series of one feature.

    Args:
        output_size: number of outputs; set by the run.
        hidden: sizes of the LSTM layers.
        dense: sizes of the linear layers.
        dropout: dropout rate after the last LSTM layer.

    Raises:
        ValueError: if there is no LSTM layer, or a size is below 1.
    """
    require_few_layers(hidden=hidden, dense=dense)
    if not hidden or min((*hidden, *dense)) < 1:
        raise ValueError(
            f"lstm: hidden={hidden}, dense={dense}; expected one or more LSTM layers, with sizes of at least 1"
        )
    require_probability(dropout=dropout)
    return from_linen(Lstm(output_size, hidden, dense, dropout), head="head")
