"""A convolutional network whose output layer uses the concatenated average maps of every layer."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import Conv, require_few_layers, require_size
from jaxvision.models.linen import from_linen, tap
from jaxvision.models.pooling import max_pool


class ConcatCNN(nn.Module):
    output_size: int
    channels: tuple[int, ...]
    num_pools: int

    @nn.compact
    def __call__(self, x, *, train: bool):
        name = f"concat_cnn(channels={self.channels})"
        require_size(x, name=name, num_convs=len(self.channels), num_pools=self.num_pools)
        averages = []
        for index, size in enumerate(self.channels, 1):
            x = tap(self, f"conv{index}", nn.relu(Conv(size, (3, 3), padding="VALID", name=f"conv{index}")(x)))
            averages.append(x.mean(axis=(1, 2)))
            if index <= self.num_pools:
                x = max_pool(x)
        return nn.Dense(self.output_size, name="head")(tap(self, "pooled", jnp.concatenate(averages, axis=-1)))


@register("concat_cnn")
def concat_cnn(*, output_size: int, channels: tuple[int, ...] = (32, 64, 64, 32), num_pools: int = 2) -> Model:
    """Build a CNN whose output layer takes the global averages of every convolution.

    It has 3x3 convolutions and max-pooling after the first num_pools. The default has 192 features, and 76,138
    parameters on MNIST.
    """
    require_few_layers(channels=channels)
    if not channels or min(channels) < 1:
        raise ValueError(f"concat_cnn: channels={channels}; expected one or more convolutions of at least 1 channel")
    return from_linen(ConcatCNN(output_size, channels, num_pools), head="head")
