"""EfficientNet: M. Tan and Q. Le, EfficientNet: Rethinking Model Scaling for CNNs, ICML 2019.

For B5 to B7, the epsilon of torchvision's batch norm is 1e-3 and that of timm's 1e-5. The default of B5 is timm's,
whose weights are registered; `norm_epsilon=0.001` computes as torchvision does. For B6 and B7 only torchvision has
weights of this form, so the default is torchvision's.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.inverted_residual import (
    TIMM,
    Stages,
    Style,
    build,
    make_stages,
    multiple_of_8,
    torchvision_block,
)

ROWS = (  # table 1: expansion, kernel, stride, channels, depth
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def _stages(width: float, depth: float) -> Stages:
    """Scale all widths and depths by one factor each (section 3.3).

    Squeeze-and-excitation has a quarter of the block's inputs.
    """
    rows = (
        (expansion, kernel, stride, multiple_of_8(width * channels), math.ceil(depth * blocks))
        for expansion, kernel, stride, channels, blocks in ROWS
    )
    return make_stages(rows, inputs=multiple_of_8(width * 32), squeeze=4, activation=nn.silu)


def _names(stages: Stages):
    return {
        "torchvision": (
            torchvision_block(stages, lambda stage, block: f"features/{stage}/{block - 1}"),
            (r"^stem_conv/", "features/0/0/"),
            (r"^stem_norm/", "features/0/1/"),
            (r"^last_conv/", "features/8/0/"),
            (r"^last_norm/", "features/8/1/"),
            (r"^head/", "classifier/1/"),
        ),
        "timm": (*TIMM, (r"^last_conv/", "conv_head/"), (r"^last_norm/", "bn2/")),
    }


def _register(
    variant: str, width: float, depth: float, size: int, dropout: float, num_parameters: int, *,
    weights: str | None = None, epsilon: float = 1e-5, momentum: float = 0.9,
) -> None:  # fmt: skip
    """Register a variant; width, depth, size and dropout are those of the authors' code."""
    stages, paper_dropout, name = _stages(width, depth), dropout, f"efficientnet_{variant}"

    def factory(
        *, output_size: int, dropout: float = 0.0, drop_path: float = 0.0, norm_epsilon: float = epsilon,
    ) -> Model:  # fmt: skip
        style = Style(nn.silu, nn.silu, nn.sigmoid, momentum=momentum, epsilon=norm_epsilon)
        return build(
            output_size=output_size, stem=multiple_of_8(width * 32), stages=stages, last=multiple_of_8(width * 1280),
            style=style, dropout=dropout, drop_path=drop_path,
        )  # fmt: skip

    factory.__name__ = name
    factory.__doc__ = (
        f"Build EfficientNet-{variant.upper()} (tables 1, 2); the paper uses dropout={paper_dropout}, drop_path=0.2."
    )
    extra: dict[str, Any] = {"weights": f"timm/{name}.{weights}"} if weights else {}
    if variant in ("b5", "b6", "b7"):
        extra["options"] = {"torchvision": {"norm_epsilon": 1e-3}, "timm": {"norm_epsilon": 1e-5}}
    register(
        name, num_parameters=num_parameters, input_size=(size, size, 3), names=_names(stages), torchvision=name, **extra
    )(factory)


_register("b0", 1.0, 1.0, 224, 0.2, 5_288_548, weights="ra_in1k")
_register("b1", 1.0, 1.1, 240, 0.2, 7_794_184, weights="ra4_e3600_r240_in1k")
_register("b2", 1.1, 1.2, 260, 0.3, 9_109_994, weights="ra_in1k")
_register("b3", 1.2, 1.4, 300, 0.3, 12_233_232, weights="ra2_in1k")
_register("b4", 1.4, 1.8, 380, 0.4, 19_341_616, weights="ra2_in1k")
_register("b5", 1.6, 2.2, 456, 0.4, 30_389_784, weights="sw_in12k_ft_in1k", momentum=0.99)
_register("b6", 1.8, 2.6, 528, 0.5, 43_040_704, epsilon=1e-3, momentum=0.99)
_register("b7", 2.0, 3.1, 600, 0.5, 66_347_960, epsilon=1e-3, momentum=0.99)
