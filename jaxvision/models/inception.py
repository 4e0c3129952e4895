"""Inception: C. Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016.

A block concatenates the outputs of its branches. A branch is a name and a sequence of steps: a step (channels, window)
is a convolution, a tuple of steps is parallel convolutions.
"""

from __future__ import annotations

import re
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import BatchNorm, NormFreeConv, require_least_size, require_probability
from jaxvision.models.linen import from_linen, tap
from jaxvision.models.pooling import max_pool

LEAST = 75  # one pixel remains after the last reduction
ONE, THREE, FIVE, ROW, COLUMN = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)
STEM = ((32, THREE, "VALID"), (64, THREE, "SAME"), (80, ONE, "VALID"), (192, THREE, "VALID"))  # after stem_conv


def _block35(pool: int):  # figure 5, at 35x35
    return (
        ("branch1x1", (64, ONE)),
        ("branch5x5", (48, ONE), (64, FIVE)),
        ("branch3x3double", (64, ONE), (96, THREE), (96, THREE)),
        ("branch_pool", (pool, ONE)),
    )


def _block17(inner: int):  # figure 6, at 17x17
    return (
        ("branch1x1", (192, ONE)),
        ("branch7x7", (inner, ONE), (inner, ROW), (192, COLUMN)),
        ("branch7x7double", (inner, ONE), (inner, COLUMN), (inner, ROW), (inner, COLUMN), (192, ROW)),
        ("branch_pool", (192, ONE)),
    )


SPLIT = ((384, (1, 3)), (384, (3, 1)))
BLOCK8 = (  # figure 7, at 8x8
    ("branch1x1", (320, ONE)),
    ("branch3x3", (384, ONE), SPLIT),
    ("branch3x3double", (448, ONE), (384, THREE), SPLIT),
    ("branch_pool", (192, ONE)),
)
DOWN17 = (("branch3x3", (384, THREE)), ("branch3x3double", (64, ONE), (96, THREE), (96, THREE)))  # figure 10
DOWN8 = (
    ("branch3x3", (192, ONE), (320, THREE)),
    ("branch7x7x3", (192, ONE), (192, ROW), (192, COLUMN), (192, THREE)),
)
STAGES = (
    (None, (_block35(32), _block35(64), _block35(64))),
    (DOWN17, (_block17(128), _block17(160), _block17(160), _block17(192))),
    (DOWN8, (BLOCK8, BLOCK8)),
)


def _mixed(match: re.Match[str]) -> str:
    return f"Mixed_{int(match[1]) + 4}{'abcde'[int(match[2] or 0)]}/"


THEIRS = (
    (r"^stem_", "Conv2d_1a_3x3/"),
    (r"^stem2/", "Conv2d_2a_3x3/"),
    (r"^stem3/", "Conv2d_2b_3x3/"),
    (r"^stem4/", "Conv2d_3b_1x1/"),
    (r"^stem5/", "Conv2d_4a_3x3/"),
    (r"^stage(\d)_(?:down|block(\d))/", _mixed),
    (r"double", "dbl"),
    (r"/norm/", "/bn/"),
    (r"^head/", "fc/"),
)


def batch_norm(train: bool, name: str) -> nn.Module:
    return BatchNorm(use_running_average=not train, epsilon=1e-3, name=name)


class ConvNorm(nn.Module):
    channels: int
    window: tuple[int, int]
    stride: int
    padding: str

    @nn.compact
    def __call__(self, x, train: bool):
        strides = (self.stride, self.stride)
        x = NormFreeConv(self.channels, self.window, strides, padding=self.padding, name="conv")(x)
        return nn.relu(batch_norm(train, "norm")(x))


class Block(nn.Module):
    branches: tuple[Any, ...]
    reduces: bool = False  # the last convolutions have stride 2, and max-pooling is one more branch

    def _step(self, x, convolutions, name: str, train: bool, *, is_last: bool):
        stride, padding = (2, "VALID") if self.reduces and is_last else (1, "SAME")
        ends = zip(convolutions, ("",) if len(convolutions) == 1 else "ab", strict=True)
        return [
            ConvNorm(channels, window, stride, padding, name=name + end)(x, train) for (channels, window), end in ends
        ]

    @nn.compact
    def __call__(self, x, train: bool):
        outputs = []
        for branch, *steps in self.branches:
            y = [
                nn.avg_pool(x, (3, 3), padding="SAME") if branch == "branch_pool" else x
            ]  # padding counts in the average
            for index, step in enumerate(steps, 1):
                name = branch if len(steps) == 1 else f"{branch}_{index}"
                step = step if isinstance(step[0], tuple) else (step,)
                y = self._step(y[0], step, name, train, is_last=index == len(steps))
            outputs += y
        return jnp.concatenate([*outputs, max_pool(x, (3, 3), (2, 2))] if self.reduces else outputs, axis=-1)


class InceptionV3(nn.Module):
    output_size: int
    dropout: float

    def _stem(self, x, train: bool):
        x = NormFreeConv(32, THREE, (2, 2), padding="VALID", name="stem_conv")(x)
        x = nn.relu(batch_norm(train, "stem_norm")(x))
        for index, (channels, window, padding) in enumerate(STEM, 2):
            x = ConvNorm(channels, window, 1, padding, name=f"stem{index}")(x, train)
            if index in (3, 5):
                x = max_pool(x, (3, 3), (2, 2))
        return x

    @nn.compact
    def __call__(self, x, *, train: bool):
        require_least_size(x, name="inception_v3", least=LEAST)
        x = tap(self, "stem", self._stem(x, train))
        for stage, (down, blocks) in enumerate(STAGES, 1):
            if down:
                x = Block(down, reduces=True, name=f"stage{stage}_down")(x, train)
            for index, branches in enumerate(blocks, 1):
                x = Block(branches, name=f"stage{stage}_block{index}")(x, train)
            x = tap(self, f"stage{stage}", x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean(axis=(1, 2)))
        return nn.Dense(self.output_size, name="head")(tap(self, "pooled", x))


@register(
    "inception_v3",
    num_parameters=23_834_568,
    input_size=(299, 299, 3),
    least_size=LEAST,
    names={"torchvision": THEIRS, "timm": THEIRS},
    unused=("AuxLogits",),  # the auxiliary head, used only in training
    torchvision="inception_v3",
    weights="timm/inception_v3.tv_in1k",
    mean=(0.5, 0.5, 0.5),  # the original's input scaling
    std=(0.5, 0.5, 0.5),
)
def inception_v3(*, output_size: int, dropout: float = 0.0) -> Model:
    """Build Inception-v3 (section 6) without the auxiliary head; torchvision uses dropout=0.5."""
    require_probability(dropout=dropout)
    return from_linen(InceptionV3(output_size, dropout), head="head", blocks=(Block,))
