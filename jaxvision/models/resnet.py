"""Residual networks: K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016."""

from __future__ import annotations

import re
from functools import partial
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import BatchNorm, Conv, max_pool
from jaxvision.models.linen import from_linen, tap

Stem = Literal["imagenet", "cifar"]
WIDTHS = (64, 128, 256, 512)


def _block(match: re.Match[str]) -> str:
    return f"layer{match[1]}/{int(match[2]) - 1}/"


TORCHVISION = (  # and timm, which kept its names
    (r"^stage(\d)_block(\d+)/", _block),
    (r"^stem_conv/", "conv1/"),
    (r"^stem_norm/", "bn1/"),
    (r"/norm(\d)/", r"/bn\1/"),
    (r"/shortcut_conv/", "/downsample/0/"),
    (r"/shortcut_norm/", "/downsample/1/"),
    (r"^head/", "fc/"),
)
NAMES = {"torchvision": TORCHVISION, "timm": TORCHVISION}

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")
NormFreeConv = partial(Conv, use_bias=False, kernel_init=he_normal)


def conv3x3(channels: int, stride: int, name: str) -> nn.Module:
    return NormFreeConv(channels, (3, 3), (stride, stride), padding=((1, 1), (1, 1)), name=name)


class BasicBlock(nn.Module):
    channels: int
    stride: int
    shortcut: Literal["projection", "padding"]  # section 3.3: options B and A
    axis_name: str | None
    expansion = 1

    @nn.compact
    def __call__(self, x, train: bool):
        norm = partial(BatchNorm, use_running_average=not train, axis_name=self.axis_name)
        y = nn.relu(norm(name="norm1")(conv3x3(self.channels, self.stride, "conv1")(x)))
        y = norm(name="norm2")(conv3x3(self.channels, 1, "conv2")(y))
        return nn.relu(y + _shortcut(self, x, y, norm))


class Bottleneck(nn.Module):
    """The stride is on the 3x3 convolution, as torchvision and most have it since (ResNet v1.5)."""

    channels: int
    stride: int
    shortcut: Literal["projection", "padding"]
    axis_name: str | None
    expansion = 4

    @nn.compact
    def __call__(self, x, train: bool):
        norm = partial(BatchNorm, use_running_average=not train, axis_name=self.axis_name)
        y = nn.relu(norm(name="norm1")(NormFreeConv(self.channels, (1, 1), name="conv1")(x)))
        y = nn.relu(norm(name="norm2")(conv3x3(self.channels, self.stride, "conv2")(y)))
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
    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, ...]
    channels: tuple[int, ...]
    stem: Stem
    shortcut: Literal["projection", "padding"]
    axis_name: str | None
    remat: bool

    @nn.compact
    def __call__(self, x, *, train: bool):
        block = nn.remat(self.block, static_argnums=(2,)) if self.remat else self.block  # 2: train
        if self.stem == "imagenet":
            x = NormFreeConv(self.channels[0], (7, 7), (2, 2), padding=((3, 3), (3, 3)), name="stem_conv")(x)
        else:
            x = conv3x3(self.channels[0], 1, "stem_conv")(x)
        x = nn.relu(BatchNorm(use_running_average=not train, axis_name=self.axis_name, name="stem_norm")(x))
        if self.stem == "imagenet":
            x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        x = tap(self, "stem", x)
        for stage, (depth, channels) in enumerate(zip(self.depths, self.channels, strict=True), 1):
            for index in range(depth):
                stride = 2 if stage > 1 and index == 0 else 1
                name = f"stage{stage}_block{index + 1}"
                x = block(channels, stride, self.shortcut, self.axis_name, name=name)(x, train)
            x = tap(self, f"stage{stage}", x)
        return nn.Dense(self.output_size, name="head")(tap(self, "pooled", x.mean(axis=(1, 2))))


def _resnet(output_size, block, depths, channels, stem, shortcut, axis_name, remat) -> Model:
    return from_linen(ResNet(output_size, block, depths, channels, stem, shortcut, axis_name, remat), head="head")


@register(
    "resnet18",
    num_parameters=11_689_512,
    input_size=(224, 224, 3),
    names=NAMES,
    torchvision="resnet18",
    weights="timm/resnet18.a1_in1k",
)
def resnet18(*, output_size: int, stem: Stem = "imagenet", axis_name: str | None = None, remat: bool = False) -> Model:
    """ResNet-18 (table 1); stem='cifar' is one 3x3 convolution without pooling, for images of about 32 pixels."""
    return _resnet(output_size, BasicBlock, (2, 2, 2, 2), WIDTHS, stem, "projection", axis_name, remat)


@register(
    "resnet50",
    num_parameters=25_557_032,
    input_size=(224, 224, 3),
    names=NAMES,
    torchvision="resnet50",
    weights="timm/resnet50.a1_in1k",
)
def resnet50(*, output_size: int, stem: Stem = "imagenet", axis_name: str | None = None, remat: bool = False) -> Model:
    """ResNet-50 (table 1); stem='cifar' is one 3x3 convolution without pooling, for images of about 32 pixels."""
    return _resnet(output_size, Bottleneck, (3, 4, 6, 3), WIDTHS, stem, "projection", axis_name, remat)


@register("resnet20", num_parameters=269_722, input_size=(32, 32, 3))
def resnet20(*, output_size: int, axis_name: str | None = None, remat: bool = False) -> Model:
    """ResNet-20 for CIFAR (section 4.2): 3x3 stem, stages of 16, 32, 64 channels, shortcuts without parameters."""
    return _resnet(output_size, BasicBlock, (3, 3, 3), (16, 32, 64), "cifar", "padding", axis_name, remat)
