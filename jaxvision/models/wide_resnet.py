"""Wide residual networks for small images: S. Zagoruyko and N. Komodakis, Wide Residual Networks, BMVC 2016.

Batch norm and ReLU precede each convolution. The paper's wide bottlenecks for ImageNet are in resnet.py.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import BatchNorm, NormFreeConv, conv3x3, require_probability
from jaxvision.models.linen import from_linen, tap


class Block(nn.Module):
    """B(3, 3) of the paper, with dropout between the convolutions; a projection takes the output of norm1."""

    channels: int
    stride: int
    dropout: float

    @nn.compact
    def __call__(self, x, train: bool):
        norm = partial(BatchNorm, use_running_average=not train)
        y = nn.relu(norm(name="norm1")(x))
        if x.shape[-1] != self.channels:
            stride = (self.stride, self.stride)
            x = NormFreeConv(self.channels, (1, 1), stride, name="shortcut_conv")(y)
        y = nn.relu(norm(name="norm2")(conv3x3(self.channels, self.stride, "conv1")(y)))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        return x + conv3x3(self.channels, 1, "conv2")(y)


class WideResNet(nn.Module):
    output_size: int
    depth: int  # blocks in each of the three stages
    widening: int
    dropout: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = tap(self, "stem", conv3x3(16, 1, "stem_conv")(x))
        for stage, channels in enumerate((16, 32, 64), 1):
            for index in range(self.depth):
                stride = 2 if stage > 1 and index == 0 else 1
                name = f"stage{stage}_block{index + 1}"
                x = Block(self.widening * channels, stride, self.dropout, name=name)(x, train)
            if stage == 3:
                x = nn.relu(BatchNorm(use_running_average=not train, name="norm")(x))
            x = tap(self, f"stage{stage}", x)
        return nn.Dense(self.output_size, name="head")(tap(self, "pooled", x.mean(axis=(1, 2))))


@register("wide_resnet28_10", num_parameters=36_479_194, input_size=(32, 32, 3))  # 36.5 M in table 4
def wide_resnet28_10(*, output_size: int, dropout: float = 0.0) -> Model:
    """Build WRN-28-10 (table 1) for images of about 32 pixels; with dropout, the paper uses 0.3."""
    require_probability(dropout=dropout)
    module = WideResNet(output_size, depth=4, widening=10, dropout=dropout)
    return from_linen(module, head="head", blocks=(Block,))
