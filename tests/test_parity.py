"""Every family against torchvision or timm: the same weights give the same logits, and go back as they came.

Here a small variant of each family at a small size; `scripts/parity.py` compares all of them.
"""

import importlib.util

import parity
import pytest

SMALL = {  # the variant of each family that is compared on every change, and the size at which it is
    "resnet18": (64, 64),
    "vit_tiny_patch16": (32, 48),
    "resnext50_32x4d": (33, 33),
    "vgg11": (32, 37),
    "inception_v3": (75, 75),
    "densenet121": (32, 32),
    "mobilenet_v3_small": (64, 64),
    "efficientnet_b0": (64, 64),
    "convnext_tiny": (64, 64),
}


def needs_originals():
    absent = [each for each in ("torch", "torchvision", "timm", "safetensors") if not importlib.util.find_spec(each)]
    if absent:
        pytest.skip(f"{', '.join(absent)} not installed: pip install -e '.[parity]'")


def small():
    """Each family against one library; the other is for slow tests."""
    for name in SMALL:
        for place, source in enumerate(reversed(parity.peers(name))):  # timm first, to which there is a way back
            yield pytest.param(name, source, marks=pytest.mark.slow) if place else (name, source)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite1", "tf_efficientnet_lite1"])
def test_both_paddings_of_efficientnet_lite_agree_with_timm(name):
    needs_originals()
    row = parity.compare(name, "timm", size=(65, 98))  # "same" padding differs at even sizes, as 98
    assert row.back is not None and max(row.logits, row.back) < 1e-6


@pytest.mark.parametrize(("name", "source"), list(small()))
def test_agrees_with_its_original(name, source):
    needs_originals()
    row = parity.compare(name, source, size=SMALL[name], gradient=True)
    assert max(row.logits, row.gradient, row.back or 0) < 1e-6
