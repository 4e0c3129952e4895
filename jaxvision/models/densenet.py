"""DenseNet: G. Huang et al., Densely Connected Convolutional Networks, CVPR 2017.

Each layer takes the concatenated maps of all previous layers of its stage. All models are DenseNet-BC (section 3), with
bottlenecks and a compression of 0.5 between stages.
"""

from __future__ import annotations

import re
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import BatchNorm, NormFreeConv, conv3x3, require_least_size, require_probability
from jaxvision.models.linen import from_linen, tap
from jaxvision.models.pooling import max_pool

LEAST = 29  # five downsamplings by 2, the first two rounding up


def _transition(match: re.Match[str]) -> str:
    return f"features/transition{int(match[1]) - 1}/"


THEIRS = (
    (r"^stage(\d)_block(\d+)/", r"features/denseblock\1/denselayer\2/"),
    (r"^stage(\d)_down_", _transition),
    (r"^stem_(conv|norm)/", r"features/\g<1>0/"),
    (r"^norm/", "features/norm5/"),
    (r"^head/", "classifier/"),
)
FILES = (*THEIRS, (r"/(norm|conv)([12])/", r"/\1/\2/"))  # names in the files that torchvision loads
NAMES = {"torchvision": THEIRS, "timm": THEIRS, "files": FILES}


class Layer(nn.Module):
    """Compute `growth` new maps from a tuple of maps; taking a tuple avoids storing the concatenation under remat."""

    growth: int
    dropout: float

    @nn.compact
    def __call__(self, maps, train: bool):
        norm = partial(BatchNorm, use_running_average=not train)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = nn.relu(norm(name="norm1")(jnp.concatenate(maps, axis=-1)))
        x = drop(NormFreeConv(4 * self.growth, (1, 1), name="conv1")(x))
        x = nn.relu(norm(name="norm2")(x))
        return drop(conv3x3(self.growth, 1, "conv2")(x))


class DenseNet(nn.Module):
    output_size: int
    depths: tuple[int, ...]
    growth: int
    dropout: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        require_least_size(x, name="densenet", least=LEAST)
        norm = partial(BatchNorm, use_running_average=not train)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = NormFreeConv(2 * self.growth, (7, 7), (2, 2), padding=((3, 3), (3, 3)), name="stem_conv")(x)
        x = max_pool(nn.relu(norm(name="stem_norm")(x)), (3, 3), (2, 2), ((1, 1), (1, 1)))
        x = tap(self, "stem", x)
        for stage, depth in enumerate(self.depths, 1):
            if stage > 1:
                x = nn.relu(norm(name=f"stage{stage}_down_norm")(x))
                x = drop(NormFreeConv(x.shape[-1] // 2, (1, 1), name=f"stage{stage}_down_conv")(x))
                x = nn.avg_pool(x, (2, 2), (2, 2))
            maps = (x,)
            for index in range(1, depth + 1):
                layer = Layer(self.growth, self.dropout, name=f"stage{stage}_block{index}")
                maps = (*maps, layer(maps, train))
            x = jnp.concatenate(maps, axis=-1)
            x = tap(self, f"stage{stage}", x if stage < len(self.depths) else nn.relu(norm(name="norm")(x)))
        return nn.Dense(self.output_size, name="head")(tap(self, "pooled", x.mean(axis=(1, 2))))


def _register(name, tag, num_parameters, summary, depths, growth=32) -> None:
    def factory(*, output_size: int, dropout: float = 0.0) -> Model:
        require_probability(dropout=dropout)
        return from_linen(DenseNet(output_size, depths, growth, dropout), head="head", blocks=(Layer,))

    factory.__doc__ = f"""Build {summary}; dropout follows all convolutions but the first.

    The paper uses dropout=0.2 on images without augmentation (section 4.2). --remat saves memory as in G. Pleiss et
    al., Memory-Efficient Implementation of DenseNets, 2017.
    """
    metadata = {"num_parameters": num_parameters, "input_size": (224, 224, 3), "least_size": LEAST, "names": NAMES}
    register(name, **metadata, torchvision=name, weights=f"timm/{name}.{tag}")(factory)


_register("densenet121", "ra_in1k", 7_978_856, "DenseNet-121 (table 1)", (6, 12, 24, 16))
_register("densenet161", "tv_in1k", 28_681_000, "DenseNet-161 (authors' code)", (6, 12, 36, 24), growth=48)
_register("densenet169", "tv_in1k", 14_149_480, "DenseNet-169 (table 1)", (6, 12, 32, 32))
_register("densenet201", "tv_in1k", 20_013_928, "DenseNet-201 (table 1)", (6, 12, 48, 32))
