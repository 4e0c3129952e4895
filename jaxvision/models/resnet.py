"""Residual networks: K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016.

With two variants of the bottleneck: wide (S. Zagoruyko and N. Komodakis, Wide Residual Networks, BMVC 2016) and grouped
(ResNeXt, S. Xie et al., Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import BatchNorm, NormFreeConv, conv3x3
from jaxvision.models.linen import from_linen, tap
from jaxvision.models.pooling import max_pool

Stem = Literal["imagenet", "cifar"]
WIDTHS = (64, 128, 256, 512)


def _block(match: re.Match[str]) -> str:
    return f"layer{match[1]}/{int(match[2]) - 1}/"


TORCHVISION = (  # and timm, which uses the same names
    (r"^stage(\d)_block(\d+)/", _block),
    (r"^stem_conv/", "conv1/"),
    (r"^stem_norm/", "bn1/"),
    (r"/norm(\d)/", r"/bn\1/"),
    (r"/shortcut_conv/", "/downsample/0/"),
    (r"/shortcut_norm/", "/downsample/1/"),
    (r"^head/", "fc/"),
)
NAMES = {"torchvision": TORCHVISION, "timm": TORCHVISION}


class BasicBlock(nn.Module):
    channels: int
    stride: int
    shortcut: Literal["projection", "padding"]  # section 3.3: options B and A

    @nn.compact
    def __call__(self, x, train: bool):
        norm = partial(BatchNorm, use_running_average=not train)
        y = nn.relu(norm(name="norm1")(conv3x3(self.channels, self.stride, "conv1")(x)))
        y = norm(name="norm2")(conv3x3(self.channels, 1, "conv2")(y))
        return nn.relu(y + _shortcut(self, x, y, norm))


class Bottleneck(nn.Module):
    """Bottleneck with the stride on the 3x3 convolution (ResNet v1.5), as in torchvision."""

    channels: int
    stride: int
    shortcut: Literal["projection", "padding"]
    groups: int = 1
    widening: int = 1

    @nn.compact
    def __call__(self, x, train: bool):
        norm = partial(BatchNorm, use_running_average=not train)
        inner = self.widening * self.channels
        y = nn.relu(norm(name="norm1")(NormFreeConv(inner, (1, 1), name="conv1")(x)))
        y = nn.relu(norm(name="norm2")(conv3x3(inner, self.stride, "conv2", groups=self.groups)(y)))
        y = norm(name="norm3")(NormFreeConv(4 * self.channels, (1, 1), name="conv3")(y))
        return nn.relu(y + _shortcut(self, x, y, norm))


def _shortcut(block, x, y, norm):
    if x.shape == y.shape:
        return x
    if block.shortcut == "padding":
        x = x[:, :: block.stride, :: block.stride]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))
    stride = (block.stride, block.stride)
    return norm(name="shortcut_norm")(NormFreeConv(y.shape[-1], (1, 1), stride, name="shortcut_conv")(x))


class ResNet(nn.Module):
    output_size: int
    make_block: Callable[..., nn.Module]
    depths: tuple[int, ...]
    channels: tuple[int, ...]
    stem: Stem
    shortcut: Literal["projection", "padding"]

    @nn.compact
    def __call__(self, x, *, train: bool):
        if self.stem == "imagenet":
            x = NormFreeConv(self.channels[0], (7, 7), (2, 2), padding=((3, 3), (3, 3)), name="stem_conv")(x)
        else:
            x = conv3x3(self.channels[0], 1, "stem_conv")(x)
        x = nn.relu(BatchNorm(use_running_average=not train, name="stem_norm")(x))
        if self.stem == "imagenet":
            x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        x = tap(self, "stem", x)
        for stage, (depth, channels) in enumerate(zip(self.depths, self.channels, strict=True), 1):
            for index in range(depth):
                stride = 2 if stage > 1 and index == 0 else 1
                name = f"stage{stage}_block{index + 1}"
                x = self.make_block(channels, stride, self.shortcut, name=name)(x, train)
            x = tap(self, f"stage{stage}", x)
        return nn.Dense(self.output_size, name="head")(tap(self, "pooled", x.mean(axis=(1, 2))))


def _register(name, tag, num_parameters, summary, block, depths, inner=None) -> None:
    def factory(*, output_size: int, stem: Stem = "imagenet") -> Model:
        module = ResNet(output_size, partial(block, **(inner or {})), depths, WIDTHS, stem, "projection")
        return from_linen(module, head="head", blocks=(block,))

    factory.__doc__ = (
        f"Build {summary}.\n\nstem='cifar' is a 3x3 convolution without pooling, for images of about 32 pixels."
    )
    metadata = {"num_parameters": num_parameters, "input_size": (224, 224, 3), "names": NAMES}
    register(name, **metadata, torchvision=name, weights=f"timm/{name}.{tag}")(factory)


DEPTH50, DEPTH101 = (3, 4, 6, 3), (3, 4, 23, 3)
_register("resnet18", "a1_in1k", 11_689_512, "ResNet-18 (table 1)", BasicBlock, (2, 2, 2, 2))
_register("resnet34", "a1_in1k", 21_797_672, "ResNet-34 (table 1)", BasicBlock, DEPTH50)
_register("resnet50", "a1_in1k", 25_557_032, "ResNet-50 (table 1)", Bottleneck, DEPTH50)
_register("resnet101", "a1h_in1k", 44_549_160, "ResNet-101 (table 1)", Bottleneck, DEPTH101)
_register("resnet152", "a1h_in1k", 60_192_808, "ResNet-152 (table 1)", Bottleneck, (3, 8, 36, 3))

WIDE = "wide bottlenecks (S. Zagoruyko and N. Komodakis 2016, table 8)"
TWICE = {"widening": 2}
_register("wide_resnet50_2", "racm_in1k", 68_883_240, f"ResNet-50 with {WIDE}", Bottleneck, DEPTH50, TWICE)
_register("wide_resnet101_2", "tv_in1k", 126_886_696, f"ResNet-101 with {WIDE}", Bottleneck, DEPTH101, TWICE)

NEXT50, NEXT101 = "ResNeXt-50 (S. Xie et al. 2017, table 1)", "ResNeXt-101 (S. Xie et al. 2017, table 4)"
NEXT32X8D = "ResNeXt-101 (D. Mahajan et al., Limits of Weakly Supervised Pretraining, 2018)"
G32, G32X8, G64 = {"groups": 32, "widening": 2}, {"groups": 32, "widening": 4}, {"groups": 64, "widening": 4}
_register("resnext50_32x4d", "a1h_in1k", 25_028_904, NEXT50, Bottleneck, DEPTH50, G32)
_register("resnext101_32x8d", "tv_in1k", 88_791_336, NEXT32X8D, Bottleneck, DEPTH101, G32X8)
_register("resnext101_64x4d", "c1_in1k", 83_455_272, NEXT101, Bottleneck, DEPTH101, G64)


@register("resnet20", num_parameters=269_722, input_size=(32, 32, 3))
def resnet20(*, output_size: int) -> Model:
    """Build ResNet-20 for CIFAR (section 4.2), with parameter-free shortcuts.

    It has a 3x3 stem and stages of 16, 32 and 64 channels.
    """
    module = ResNet(output_size, BasicBlock, (3, 3, 3), (16, 32, 64), stem="cifar", shortcut="padding")
    return from_linen(module, head="head", blocks=(BasicBlock,))
