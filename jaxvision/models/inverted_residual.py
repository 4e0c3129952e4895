"""Networks of inverted residual blocks, the base of MobileNet and EfficientNet (M. Sandler et al., CVPR 2018).

A block expands its input, applies a depthwise convolution, reweights the channels (squeeze-and-excitation: J. Hu et
al., CVPR 2018) and projects the result without an activation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax

from jaxvision.interfaces import Model
from jaxvision.models.layers import BatchNorm, Conv, drop_path, he_normal, require_probability
from jaxvision.models.linen import from_linen, tap

Activation = Callable[[jax.Array], jax.Array]

# A depthwise kernel [h, w, 1, C] has a fan-in of h * w; its fan_out would count the outputs of all channels.
depthwise_normal = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


class Block(NamedTuple):
    """One block, a row of the papers' tables. squeezed is the width of squeeze-and-excitation; 0 leaves it out."""

    kernel: int
    stride: int
    expanded: int
    channels: int
    squeezed: int
    activation: Activation


Stages = tuple[tuple[Block, ...], ...]


class Style(NamedTuple):
    """Options that all blocks of a network have in common."""

    activation: Activation  # after the stem and the last convolution
    squeeze_activation: Activation = nn.relu
    gate: Activation = nn.sigmoid
    momentum: float = 0.9
    epsilon: float = 1e-5
    is_same_padded: bool = False  # TensorFlow's "same" padding, which differs at stride 2

    def padding(self, kernel: int) -> str | tuple[tuple[int, int], tuple[int, int]]:
        """Return the padding of a convolution."""
        return "SAME" if self.is_same_padded else ((kernel // 2, kernel // 2), (kernel // 2, kernel // 2))


def multiple_of_8(channels: float) -> int:
    """Round a number of channels to the nearest multiple of 8, or up if that loses more than a tenth of them.

    >>> [multiple_of_8(channels) for channels in (3, 18, 20, 42)]
    [8, 24, 24, 40]
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def make_stages(
    rows: Iterable[tuple[int, int, int, int, int]], *, inputs: int, squeeze: int, activation: Activation
) -> Stages:
    """Build stages from rows (expansion, kernel, stride, channels, depth); the stride is that of the first block.

    squeeze divides a block's input channels by the given number for squeeze-and-excitation; 0 leaves it out.
    """
    stages = []
    for expansion, kernel, stride, channels, depth in rows:
        before = (inputs, *[channels] * (depth - 1))
        stages.append(
            tuple(
                Block(
                    kernel, 1 if index else stride, expansion * size, channels, size // squeeze if squeeze else 0,
                    activation,
                )
                for index, size in enumerate(before)
            )
        )  # fmt: skip
        inputs = channels
    return tuple(stages)


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate in 0..1, computed from the global averages of all channels."""

    channels: int
    style: Style

    @nn.compact
    def __call__(self, x):
        y = x.mean(axis=(1, 2), keepdims=True)
        y = self.style.squeeze_activation(Conv(self.channels, (1, 1), name="reduce")(y))
        return x * self.style.gate(Conv(x.shape[-1], (1, 1), name="expand")(y))


class InvertedResidual(nn.Module):
    block: Block
    style: Style
    drop_path: float

    @nn.compact
    def __call__(self, x, train: bool):
        block, act = self.block, self.block.activation
        norm = _norm(self.style, train)
        y = x
        if block.expanded != x.shape[-1]:
            y = act(norm(name="expand_norm")(_conv1x1(block.expanded, "expand_conv")(y)))
        y = Conv(
            block.expanded, (block.kernel, block.kernel), (block.stride, block.stride),
            padding=self.style.padding(block.kernel), feature_group_count=block.expanded, use_bias=False,
            kernel_init=depthwise_normal, name="depthwise_conv",
        )(y)  # fmt: skip
        y = act(norm(name="depthwise_norm")(y))
        if block.squeezed:
            y = SqueezeExcite(block.squeezed, self.style, name="squeeze")(y)
        y = norm(name="project_norm")(_conv1x1(block.channels, "project_conv")(y))
        if block.stride != 1 or block.channels != x.shape[-1]:
            return y
        return x + drop_path(y, self.drop_path, train=train)


def _norm(style: Style, train: bool) -> Callable[..., nn.Module]:
    return partial(BatchNorm, use_running_average=not train, momentum=style.momentum, epsilon=style.epsilon)


def _conv1x1(channels: int, name: str) -> nn.Module:
    return Conv(channels, (1, 1), use_bias=False, kernel_init=he_normal, name=name)


class InvertedResiduals(nn.Module):
    """A 3x3 stem of stride 2, the stages, a 1x1 convolution, global average, a hidden layer if hidden > 0, the head."""

    output_size: int
    stem: int
    stages: Stages
    last: int
    hidden: int
    style: Style
    dropout: float
    drop_path: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        act, norm = self.style.activation, _norm(self.style, train)
        x = Conv(
            self.stem, (3, 3), (2, 2), padding=self.style.padding(3), use_bias=False, kernel_init=he_normal,
            name="stem_conv",
        )(x)  # fmt: skip
        x = tap(self, "stem", act(norm(name="stem_norm")(x)))
        x = self._blocks(x, train)
        x = act(norm(name="last_norm")(_conv1x1(self.last, "last_conv")(x)))
        x = x.mean(axis=(1, 2), keepdims=True)
        if self.hidden:  # a 1x1 convolution, as in timm
            x = act(Conv(self.hidden, (1, 1), name="hidden")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(tap(self, "pooled", x.reshape(x.shape[0], -1)))
        return nn.Dense(self.output_size, name="head")(x)

    def _blocks(self, x, train):
        number, total = 0, sum(map(len, self.stages))
        for stage, blocks in enumerate(self.stages, 1):
            for index, block in enumerate(blocks, 1):
                rate = self.drop_path * number / total  # G. Huang et al. 2016, section 3
                x = InvertedResidual(block, self.style, rate, name=f"stage{stage}_block{index}")(x, train)
                number += 1
            x = tap(self, f"stage{stage}", x)
        return x


def build(
    *, output_size: int, stem: int, stages: Stages, last: int, hidden: int = 0, style: Style, dropout: float,
    drop_path: float = 0.0,
) -> Model:  # fmt: skip
    """Build a model of these blocks.

    Args:
        output_size: number of outputs.
        stem: channels of the stem.
        stages: the blocks of each stage.
        last: channels of the last 1x1 convolution.
        hidden: size of the hidden layer before the head; 0 for none.
        style: activations and batch-norm options.
        dropout: dropout rate before the head.
        drop_path: stochastic-depth rate of the last block; the rate increases linearly with depth.
    """
    require_probability(dropout=dropout, drop_path=drop_path)
    module = InvertedResiduals(output_size, stem, stages, last, hidden, style, dropout, drop_path)
    return from_linen(module, head="head", blocks=(InvertedResidual,))


def torchvision_block(stages: Stages, place: Callable[[int, int], str]) -> tuple[str, Callable[[re.Match[str]], str]]:
    """Return the renaming rule for torchvision's blocks, whose parts are numbered; `place` names a block."""
    layers = {"conv": "0", "norm": "1", "reduce": "fc1", "expand": "fc2"}

    def name(match: re.Match[str]) -> str:
        stage, block = int(match[1]), int(match[2])
        parts = ["expand"] if stage > 1 else []  # the first stage does not expand
        parts += (
            ["depthwise", "squeeze", "project"] if stages[stage - 1][block - 1].squeezed else ["depthwise", "project"]
        )
        return f"{place(stage, block)}/block/{parts.index(match[3])}/{layers[match[4]]}/"

    return r"^stage(\d+)_block(\d+)/([a-z]+)[_/]([a-z]+)/", name


TIMM = (  # names of timm's builder for all of these families
    (r"^stem_conv/", "conv_stem/"),
    (r"^stem_norm/", "bn1/"),
    (r"^head/", "classifier/"),
    (r"^(stage1_block\d+)/depthwise_norm/", r"\1/bn1/"),  # the first stage does not expand
    (r"^(stage1_block\d+)/project_conv/", r"\1/conv_pw/"),
    (r"^(stage1_block\d+)/project_norm/", r"\1/bn2/"),
    (r"/expand_conv/", "/conv_pw/"),
    (r"/expand_norm/", "/bn1/"),
    (r"/depthwise_conv/", "/conv_dw/"),
    (r"/depthwise_norm/", "/bn2/"),
    (r"/project_conv/", "/conv_pwl/"),
    (r"/project_norm/", "/bn3/"),
    (r"/squeeze/", "/se/conv_"),
    (r"^stage(\d+)_block(\d+)/", lambda match: f"blocks/{int(match[1]) - 1}/{int(match[2]) - 1}/"),
)
