"""Heat maps drawn over images."""

from __future__ import annotations

import numpy as np

FOR, AGAINST = np.array([0.835, 0.369, 0.0]), np.array([0.0, 0.447, 0.698])  # two colors of the plots' palette
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue: ITU-R BT.601
MOST = 0.85  # opacity of the largest value


def overlay(image: np.ndarray, heat_map: np.ndarray) -> np.ndarray:
    """Return an image [H, W, C], uint8 or floats in 0..1, in gray under its heat map [H, W]: float [H, W, 3] in 0..1.

    Orange parts speak for what is explained, blue ones against it. The opacity is the value over the largest size of
    a value in the map.
    """
    pixels = in_color(image)
    gray = (0.2 + 0.7 * (pixels @ LUMA))[..., None]
    largest = np.abs(heat_map).max()
    opacity = MOST * np.abs(heat_map / (largest or 1))[..., None]
    color = np.where(heat_map[..., None] >= 0, FOR, AGAINST)
    return (1 - opacity) * gray + opacity * color


def in_color(image: np.ndarray) -> np.ndarray:
    """Return an image [H, W, C] of one or three channels, uint8 or floats in 0..1, as floats in 0..1 [H, W, 3]."""
    pixels = image / 255 if image.dtype == np.uint8 else image
    return np.broadcast_to(pixels, (*image.shape[:2], 3)).astype(float).clip(0, 1)
