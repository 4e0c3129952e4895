"""ConvNeXt: Z. Liu et al., A ConvNet for the 2020s, CVPR 2022."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import Conv, Dense, drop_path, require_probability
from jaxvision.models.linen import from_linen, tap

LEAST_SIZE = 32  # stem of stride 4, then three downsamplings by 2
NAMES = {
    "torchvision": (  # numbers stem, stages and downsampling layers consecutively
        (r"^stem_conv/", "features/0/0/"),
        (r"^stem_norm/", "features/0/1/"),
        (r"^stage(\d)_down_norm/", lambda match: f"features/{2 * int(match[1]) - 2}/0/"),
        (r"^stage(\d)_down_conv/", lambda match: f"features/{2 * int(match[1]) - 2}/1/"),
        (r"^stage(\d)_block(\d+)/", lambda match: f"features/{2 * int(match[1]) - 1}/{int(match[2]) - 1}/"),
        (r"/conv/", "/block/0/"),
        (r"/norm/", "/block/2/"),
        (r"/dense1/", "/block/3/"),
        (r"/dense2/", "/block/5/"),
        (r"^last_norm/", "classifier/0/"),
        (r"^head/", "classifier/2/"),
    ),
    "timm": (
        (r"^stem_conv/", "stem/0/"),
        (r"^stem_norm/", "stem/1/"),
        (r"^stage(\d)_down_norm/", lambda match: f"stages/{int(match[1]) - 1}/downsample/0/"),
        (r"^stage(\d)_down_conv/", lambda match: f"stages/{int(match[1]) - 1}/downsample/1/"),
        (r"^stage(\d)_block(\d+)/", lambda match: f"stages/{int(match[1]) - 1}/blocks/{int(match[2]) - 1}/"),
        (r"/conv/", "/conv_dw/"),
        (r"/dense(\d)/", r"/mlp/fc\1/"),
        (r"/layer_scale$", "/gamma"),
        (r"^head/", "head/fc/"),
        (r"^last_norm/", "head/norm/"),
    ),
}

normal = nn.initializers.truncated_normal(0.02)  # table 5
LayerNorm = partial(nn.LayerNorm, epsilon=1e-6, use_fast_variance=False)


class ConvNeXtBlock(nn.Module):
    """Figure 4: a 7x7 depthwise convolution, then an MLP at each position."""

    drop_path: float

    @nn.compact
    def __call__(self, x, train: bool):
        size = x.shape[-1]
        y = Conv(
            size, (7, 7), padding=((3, 3), (3, 3)), feature_group_count=size, kernel_init=normal, name="conv"
        )(x)  # fmt: skip
        y = Dense(4 * size, kernel_init=normal, name="dense1")(LayerNorm(name="norm")(y))
        y = Dense(size, kernel_init=normal, name="dense2")(nn.gelu(y, approximate=False))
        scale = self.param("layer_scale", nn.initializers.constant(1e-6), (size,), jnp.float32)  # table 5
        y = y * scale.reshape(1, 1, 1, size)
        return x + drop_path(y, self.drop_path, train=train)


class ConvNeXt(nn.Module):
    output_size: int
    depths: tuple[int, ...]
    channels: tuple[int, ...]
    drop_path: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        if min(x.shape[1:3]) < LEAST_SIZE:
            raise ValueError(
                f"images of {x.shape[1]}x{x.shape[2]} pixels are too small for convnext, which takes "
                f"{LEAST_SIZE}x{LEAST_SIZE} and larger; enlarge them (image_size=…)"
            )
        x = Conv(self.channels[0], (4, 4), (4, 4), padding="VALID", kernel_init=normal, name="stem_conv")(x)
        x = tap(self, "stem", LayerNorm(name="stem_norm")(x))
        number, last = 0, sum(self.depths) - 1
        for stage, (depth, channels) in enumerate(zip(self.depths, self.channels, strict=True), 1):
            if stage > 1:
                x = _halve(x, channels, f"stage{stage}_down")
            for index in range(1, depth + 1):
                # G. Huang et al. 2016, section 3: the rate increases linearly with depth
                x = ConvNeXtBlock(self.drop_path * number / last, name=f"stage{stage}_block{index}")(x, train)
                number += 1
            x = tap(self, f"stage{stage}", x)
        x = tap(self, "pooled", LayerNorm(name="last_norm")(x.mean(axis=(1, 2))))
        return nn.Dense(self.output_size, kernel_init=normal, name="head")(x)


def _halve(x, channels: int, name: str):
    x = LayerNorm(name=f"{name}_norm")(x)
    return Conv(channels, (2, 2), (2, 2), padding="VALID", kernel_init=normal, name=f"{name}_conv")(x)


def _register(
    variant: str, depths: tuple[int, ...], width: int, paper_drop_path: float, num_parameters: int, weights: str
) -> None:
    """Register a variant of section 3; each stage doubles the channels of the previous one."""
    channels, name = tuple(width * 2**stage for stage in range(len(depths))), f"convnext_{variant}"

    def factory(*, output_size: int, drop_path: float = 0.0) -> Model:
        require_probability(drop_path=drop_path)
        module = ConvNeXt(output_size, depths, channels, drop_path)
        return from_linen(module, head="head", blocks=(ConvNeXtBlock,))

    factory.__name__ = name
    factory.__doc__ = f"Build ConvNeXt-{variant.title()} (section 3); table 5 uses drop_path={paper_drop_path}."
    register(
        name,
        num_parameters=num_parameters,
        input_size=(224, 224, 3),
        least_size=LEAST_SIZE,
        names=NAMES,
        torchvision=name,
        weights=f"timm/{name}.{weights}",
    )(factory)


_register("tiny", (3, 3, 9, 3), 96, 0.1, 28_589_128, "in12k_ft_in1k")
_register("small", (3, 3, 27, 3), 96, 0.4, 50_223_688, "in12k_ft_in1k")
_register("base", (3, 3, 27, 3), 128, 0.5, 88_591_464, "fb_in22k_ft_in1k")
_register("large", (3, 3, 27, 3), 192, 0.5, 197_767_336, "fb_in22k_ft_in1k")
