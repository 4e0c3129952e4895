"""VGG: K. Simonyan and A. Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015."""

from __future__ import annotations

import re

import flax.linen as nn

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import (
    BatchNorm,
    Conv,
    adaptive_average_pool,
    he_normal,
    require_least_size,
    require_probability,
)
from jaxvision.models.linen import from_linen, tap
from jaxvision.models.pooling import max_pool

CHANNELS = (64, 128, 256, 512, 512)
LEAST = 32  # five downsamplings by 2


def _names(depths: tuple[int, ...], batch_norm: bool):
    def place(match: re.Match[str]) -> str:
        stage, block, part = int(match[1]), int(match[2]), match[3]
        num_before = sum(depths[: stage - 1]) + block - 1
        index = num_before * (3 if batch_norm else 2) + stage - 1  # ReLUs and poolings are numbered too
        return f"features/{index + (part == 'norm')}/"

    convolutions = ((r"^stem_", "stage1_block1/"), (r"^stage(\d)_block(\d+)/(conv|norm)/", place))
    torchvision = (*convolutions, (r"^dense1/", "classifier/0/"), (r"^dense2/", "classifier/3/"))
    timm = (  # for images of 256 pixels and more, timm slides a 7x7 convolution instead of pooling to 7x7
        *convolutions,
        (r"^dense1/kernel", "dense1/kernel7x7"),
        (r"^dense2/kernel", "dense2/kernel1x1"),
        (r"^dense", "pre_logits/fc"),
    )
    return {
        "torchvision": (*torchvision, (r"^head/", "classifier/6/")),
        "timm": (*timm, (r"^head/", "head/fc/")),
    }


def conv3x3(channels: int, name: str) -> nn.Module:
    return Conv(channels, (3, 3), padding=((1, 1), (1, 1)), kernel_init=he_normal, name=name)


class Block(nn.Module):
    channels: int
    batch_norm: bool

    @nn.compact
    def __call__(self, x, train: bool):
        x = conv3x3(self.channels, "conv")(x)
        if self.batch_norm:
            x = BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.relu(x)


class VGG(nn.Module):
    output_size: int
    depths: tuple[int, ...]
    batch_norm: bool
    dropout: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        require_least_size(x, name="vgg", least=LEAST)
        x = conv3x3(CHANNELS[0], "stem_conv")(x)
        if self.batch_norm:
            x = BatchNorm(use_running_average=not train, name="stem_norm")(x)
        x = tap(self, "stem", nn.relu(x))
        for stage, (depth, channels) in enumerate(zip(self.depths, CHANNELS, strict=True), 1):
            for index in range(2 if stage == 1 else 1, depth + 1):
                x = Block(channels, self.batch_norm, name=f"stage{stage}_block{index}")(x, train)
            x = max_pool(tap(self, f"stage{stage}", x))
        x = adaptive_average_pool(x, (7, 7)).transpose(0, 3, 1, 2)  # channels first, as in the pretrained weights
        x = x.reshape(x.shape[0], -1)
        for index in (1, 2):
            x = nn.relu(nn.Dense(4096, name=f"dense{index}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.output_size, name="head")(tap(self, "pooled", x))


def _register(name: str, num_parameters: int, depths: tuple[int, ...], *, batch_norm: bool = False) -> None:
    """Register a network, and as name_bn the same with batch norm, which adds a scale and a bias per channel."""

    @register(
        name,
        num_parameters=num_parameters,
        input_size=(224, 224, 3),
        least_size=LEAST,
        names=_names(depths, batch_norm),
        torchvision=name,
        weights=f"timm/{name}.tv_in1k",
    )
    def factory(*, output_size: int, dropout: float = 0.0) -> Model:
        require_probability(dropout=dropout)
        module = VGG(output_size, depths=depths, batch_norm=batch_norm, dropout=dropout)
        return from_linen(module, head="head", blocks=(Block,))

    normed = " with batch norm after each convolution" if batch_norm else ""
    factory.__doc__ = (
        f"Build VGG-{sum(depths) + 3} (table 1){normed}.\n\n"
        "Dropout follows both hidden dense layers; the paper uses 0.5."
    )
    if not batch_norm:
        num_scales = sum(2 * depth * channels for depth, channels in zip(depths, CHANNELS, strict=True))
        _register(f"{name}_bn", num_parameters + num_scales, depths, batch_norm=True)


_register("vgg11", 132_863_336, (1, 1, 2, 2, 2))
_register("vgg13", 133_047_848, (2, 2, 2, 2, 2))
_register("vgg16", 138_357_544, (2, 2, 3, 3, 3))
_register("vgg19", 143_667_240, (2, 2, 4, 4, 4))
