"""Arguments that several data sets of images have in common -> the preprocessing they ask for."""

from __future__ import annotations

from typing import Literal

from jaxvision.images import IMAGENET_MEAN, IMAGENET_STD
from jaxvision.interfaces import Interpolation, Preprocessing


def requested_preprocessing(
    wanted: Preprocessing | None,
    *,
    image_size: int | tuple[int, int] | None,
    channels: int,
    crop: float | Literal["squash"] | None,
    interpolation: Interpolation | None,
) -> Preprocessing:
    """Return what a data set's arguments ask for; what they leave open is as `wanted`, or else as commonly done.

    Mean and deviation are ImageNet's. Raise ValueError for a size, crop or number of channels that cannot be.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels={channels}; wanted 1 (grey) or 3 (colour)")
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.449,), (0.226,))  # the grey of ImageNet
    size = (64, 64) if wanted is None else wanted.size
    if image_size is not None:
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(size) < 1:
        raise ValueError(f"image_size={image_size}; wanted at least 1 pixel")
    usual = wanted or Preprocessing(size, channels, mean, std)
    share = usual.crop if crop is None else None if crop == "squash" else crop
    return Preprocessing(size, channels, mean, std, share, interpolation or usual.interpolation)
