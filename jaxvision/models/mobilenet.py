"""MobileNetV2 (M. Sandler et al., CVPR 2018) and MobileNetV3 (A. Howard et al., ICCV 2019).

The epsilon of MobileNetV3's batch norm is 1e-3 in torchvision and 1e-5 in timm. The default is timm's, whose weights
are registered; `norm_epsilon=0.001` computes as torchvision does.
"""

from __future__ import annotations

import flax.linen as nn
from jax.nn import hard_sigmoid

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.inverted_residual import (
    TIMM,
    Block,
    Stages,
    Style,
    build,
    make_stages,
    multiple_of_8,
    torchvision_block,
)

V2_ROWS = (  # table 2: expansion, kernel, stride, channels, depth
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 3, 2, 32, 3),
    (6, 3, 2, 64, 4),
    (6, 3, 1, 96, 3),
    (6, 3, 2, 160, 3),
    (6, 3, 1, 320, 1),
)
# Tables 1 and 2, one line per stage: blocks (kernel, stride, expanded, channels), squeeze-and-excitation, activation.
LARGE_ROWS = (
    ([(3, 1, 16, 16)], False, nn.relu),
    ([(3, 2, 64, 24), (3, 1, 72, 24)], False, nn.relu),
    ([(5, 2, 72, 40), (5, 1, 120, 40), (5, 1, 120, 40)], True, nn.relu),
    ([(3, 2, 240, 80), (3, 1, 200, 80), (3, 1, 184, 80), (3, 1, 184, 80)], False, nn.hard_swish),
    ([(3, 1, 480, 112), (3, 1, 672, 112)], True, nn.hard_swish),
    ([(5, 2, 672, 160), (5, 1, 960, 160), (5, 1, 960, 160)], True, nn.hard_swish),
)
SMALL_ROWS = (
    ([(3, 2, 16, 16)], True, nn.relu),
    ([(3, 2, 72, 24), (3, 1, 88, 24)], False, nn.relu),
    ([(5, 2, 96, 40), (5, 1, 240, 40), (5, 1, 240, 40)], True, nn.hard_swish),
    ([(5, 1, 120, 48), (5, 1, 144, 48)], True, nn.hard_swish),
    ([(5, 2, 288, 96), (5, 1, 576, 96), (5, 1, 576, 96)], True, nn.hard_swish),
)


def _v3_stages(rows) -> Stages:
    """Build the stages; squeeze-and-excitation has a quarter of the expanded channels (section 5.3)."""
    return tuple(
        tuple(
            Block(kernel, stride, expanded, channels, multiple_of_8(expanded // 4) if squeezes else 0, activation)
            for kernel, stride, expanded, channels in blocks
        )
        for blocks, squeezes, activation in rows
    )


V2 = make_stages(V2_ROWS, inputs=32, squeeze=0, activation=nn.relu6)
LARGE, SMALL = _v3_stages(LARGE_ROWS), _v3_stages(SMALL_ROWS)


def _torchvision(stages: Stages):
    """Return torchvision's rules; it numbers stem, blocks and last convolution consecutively."""
    depths = [len(blocks) for blocks in stages]

    def place(stage: int, block: int) -> str:
        return f"features/{sum(depths[: stage - 1]) + block}"

    return (
        torchvision_block(stages, place),
        (r"^stem_conv/", "features/0/0/"),
        (r"^stem_norm/", "features/0/1/"),
        (r"^last_conv/", f"features/{sum(depths) + 1}/0/"),
        (r"^last_norm/", f"features/{sum(depths) + 1}/1/"),
    )


V2_NAMES = {
    "torchvision": (
        *_torchvision(V2),
        (r"^features/1/block/1/0/", "features/1/conv/1/"),  # the first block's projection is not nested
        (r"^features/1/block/1/1/", "features/1/conv/2/"),
        (r"/block/2/0/", "/conv/2/"),
        (r"/block/2/1/", "/conv/3/"),
        (r"/block/", "/conv/"),
        (r"^head/", "classifier/1/"),
    ),
    "timm": (*TIMM, (r"^last_conv/", "conv_head/"), (r"^last_norm/", "bn2/")),
}


def _v3_names(stages: Stages):
    last = f"blocks/{len(stages)}/0"
    return {
        "torchvision": (*_torchvision(stages), (r"^hidden/", "classifier/0/"), (r"^head/", "classifier/3/")),
        "timm": (
            *TIMM,
            (r"^last_conv/", f"{last}/conv/"),
            (r"^last_norm/", f"{last}/bn1/"),
            (r"^hidden/", "conv_head/"),
        ),
    }


@register(
    "mobilenet_v2",
    num_parameters=3_504_872,
    input_size=(224, 224, 3),
    names=V2_NAMES,
    torchvision="mobilenet_v2",
    weights="timm/mobilenetv2_100.ra_in1k",
)
def mobilenet_v2(*, output_size: int, dropout: float = 0.0) -> Model:
    """Build MobileNetV2 (table 2); torchvision uses dropout=0.2 before the output layer."""
    style = Style(nn.relu6)
    return build(output_size=output_size, stem=32, stages=V2, last=1280, style=style, dropout=dropout)


def _register(
    variant: str, tag: str, num_parameters: int, table: int, stages: Stages, *, last: int, hidden: int
) -> None:
    name = f"mobilenet_v3_{variant}"

    @register(
        name,
        num_parameters=num_parameters,
        input_size=(224, 224, 3),
        names=_v3_names(stages),
        torchvision=name,
        weights=f"timm/mobilenetv3_{variant}_100.{tag}",
        options={"torchvision": {"norm_epsilon": 1e-3}},
    )
    def factory(*, output_size: int, dropout: float = 0.0, norm_epsilon: float = 1e-5) -> Model:
        # momentum: section 6.1.1
        style = Style(nn.hard_swish, nn.relu, hard_sigmoid, momentum=0.99, epsilon=norm_epsilon)
        return build(
            output_size=output_size, stem=16, stages=stages, last=last, hidden=hidden, style=style, dropout=dropout
        )

    factory.__doc__ = (
        f"Build MobileNetV3-{variant.title()} (table {table}); torchvision uses dropout=0.2 before the head."
    )


_register("small", "lamb_in1k", 2_542_856, 2, SMALL, last=576, hidden=1024)
_register("large", "ra_in1k", 5_483_032, 1, LARGE, last=960, hidden=1280)
