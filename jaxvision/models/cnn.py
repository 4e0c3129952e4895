"""Plain convolutional networks: convolutions with ReLU, max-pooling, dense layers."""

from __future__ import annotations

from typing import Literal

import flax.linen as nn

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import BatchNorm, Conv, PooledConv, require_few_layers, require_probability, require_size
from jaxvision.models.linen import from_linen, tap
from jaxvision.models.pooling import max_pool


class CNN(nn.Module):
    output_size: int
    channels: tuple[int, ...]
    dense: tuple[int, ...]
    num_pools: int
    padding: Literal["VALID", "SAME"]
    dropout: float
    batch_norm: bool

    @nn.compact
    def __call__(self, x, *, train: bool):
        name = f"cnn(channels={self.channels}, padding={self.padding!r})"
        require_size(x, name=name, num_convs=len(self.channels), num_pools=self.num_pools, padding=self.padding)
        for index, size in enumerate(self.channels, 1):
            conv = PooledConv if index <= self.num_pools else Conv
            x = conv(size, (3, 3), padding=self.padding, use_bias=not self.batch_norm, name=f"conv{index}")(x)
            if self.batch_norm:
                x = BatchNorm(use_running_average=not train, name=f"norm{index}")(x)
            x = tap(self, f"conv{index}", nn.relu(x))
            if index <= self.num_pools:
                x = max_pool(x, joined=True)
        x = x.reshape(x.shape[0], -1)
        for index, size in enumerate(self.dense, 1):
            x = nn.relu(nn.Dense(size, name=f"dense{index}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.output_size, name="head")(tap(self, "pooled", x))


@register("cnn")
def cnn(
    *,
    output_size: int,
    channels: tuple[int, ...] = (32, 64, 64),
    dense: int | tuple[int, ...] = 64,
    num_pools: int = 2,
    padding: Literal["VALID", "SAME"] = "VALID",
    dropout: float = 0.0,
    batch_norm: bool = False,
) -> Model:
    """Build a CNN of 3x3 convolutions with ReLU, 2x2 max-pooling and dense layers.

    The default is the common introductory network for CIFAR-10 (122,570 parameters there, 93,322 on MNIST);
    `cnn(channels=(32,), dense=128)` with one output is the binary classifier.

    Args:
        output_size: number of outputs; set by the run.
        channels: channels of each convolution.
        dense: sizes of the hidden dense layers.
        num_pools: max-pooling follows the first num_pools convolutions.
        padding: "VALID" or "SAME".
        batch_norm: batch norm after each convolution.
        dropout: dropout rate after each hidden dense layer, 0 to below 1.

    Raises:
        ValueError: if an argument is out of range.
    """
    if not channels or min(channels) < 1:
        raise ValueError(f"cnn: channels={channels}; expected one or more convolutions of at least 1 channel")
    require_probability(dropout=dropout)
    dense = (dense,) if isinstance(dense, int) else dense
    require_few_layers(channels=channels, dense=dense)
    if min(dense, default=1) < 1 or num_pools < 0:
        raise ValueError(
            f"cnn: dense={dense}, num_pools={num_pools}; expected sizes of at least 1 and num_pools of at least 0"
        )
    module = CNN(
        output_size=output_size,
        channels=channels,
        dense=dense,
        num_pools=num_pools,
        padding=padding,
        dropout=dropout,
        batch_norm=batch_norm,
    )
    return from_linen(module, head="head")
