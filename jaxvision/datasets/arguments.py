"""Preprocessing from the arguments that image datasets have in common."""

from __future__ import annotations

import math
from typing import Literal

from jaxvision.images import IMAGENET_MEAN, IMAGENET_STD
from jaxvision.interfaces import Interpolation, Preprocessing, Resize
from jaxvision.machine import require_memory


def requested_preprocessing(
    wanted: Preprocessing | None,
    *,
    image_size: int | tuple[int, int] | None,
    channels: int,
    crop: float | Literal["squash", "pad"] | None,
    interpolation: Interpolation | None,
    resize: Resize = "short_side",
) -> Preprocessing:
    """Build the preprocessing from a dataset's arguments.

    Arguments that are None fall back to `wanted`, the preprocessing of the initial weights, or else to 64x64 pixels, a
    full central crop, bilinear interpolation and the rule `resize`. Mean and standard deviation are ImageNet's. Raises
    ValueError if the size, crop or number of channels is invalid.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels={channels}; expected 1 (grayscale) or 3 (color)")
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.449,), (0.226,))  # ImageNet in grayscale
    size = (64, 64) if wanted is None else wanted.size
    if image_size is not None:
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(size) < 1:
        raise ValueError(f"image_size={image_size}; expected at least 1 pixel")
    require_memory(5 * math.prod(size) * channels, f"image_size={image_size}, one image as bytes and float32,")
    usual = wanted or Preprocessing(size, channels, mean, std)
    crop_fraction = usual.crop if crop is None else None if crop == "squash" else crop
    rule = resize if wanted is None else wanted.resize
    return Preprocessing(size, channels, mean, std, crop_fraction, interpolation or usual.interpolation, rule)
