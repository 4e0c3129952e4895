"""Small pictures of inputs as data in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np

from jaxvision.interfaces import Split
from jaxvision.reports.page.html import Html, tag

SIDE = 96  # pixels of the longer side
SMALL = 40  # pixels of a side up to which an image is stored as it is, and enlarged without smoothing


def pixels_of(split: Split, indices: Sequence[int]) -> list[np.ndarray]:
    """Read images as uint8 [H, W, C]."""
    if not len(indices):
        return []
    return [as_uint8(image) for image in split.read(np.asarray(indices, dtype=int))]


def as_uint8(image: np.ndarray) -> np.ndarray:
    """Return an image, uint8 or float in 0..1, as uint8."""
    image = np.asarray(image)
    return image if image.dtype == np.uint8 else np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)


def encoded(pixels: np.ndarray, *, side: int = SIDE) -> tuple[str, int, int]:
    """Return an image [H, W, C] as a data URI, with the width and height at which it is shown.

    Images of up to SMALL pixels a side are PNG, larger ones JPEG of at most `side` pixels.
    """
    from PIL import Image

    channels = pixels.shape[-1]
    image = Image.fromarray(pixels[..., 0] if channels in (1, 2) else pixels[..., :3])
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    shown = max(round(width * scale), 1), max(round(height * scale), 1)
    file, is_small = io.BytesIO(), max(height, width) <= SMALL
    if is_small:
        image.save(file, "PNG", optimize=True)
    else:
        image = image.resize(shown, Image.Resampling.LANCZOS, reducing_gap=3.0)
        image.save(file, "JPEG", quality=82)
    data = base64.b64encode(file.getvalue()).decode()
    return f"data:image/{'png' if is_small else 'jpeg'};base64,{data}", *shown


def picture(pixels: np.ndarray, description: str, *, side: int = SIDE) -> Html:
    """Return an image [H, W, C] as an element; `description` is what a reader without images gets."""
    source, width, height = encoded(pixels, side=side)
    is_small = max(pixels.shape[:2]) <= SMALL
    return tag(
        "img", src=source, width=width, height=height, alt=description, title=description,
        class_="small" if is_small else None,
    )  # fmt: skip


def gray_picture(shades: np.ndarray, description: str) -> Html:
    """Return a map [H, W] of 0 to 1 as an image, from white to black, a pixel a value."""
    from PIL import Image

    file = io.BytesIO()
    pixels = 255 - np.round(255 * np.clip(shades, 0, 1)).astype(np.uint8)
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    return tag("img", src=f"data:image/png;base64,{data}", alt=description, class_="map")


def overlaid(pixels: np.ndarray, heat_map: np.ndarray) -> np.ndarray:
    """Return an image [H, W, C] as RGB, bright where a heat map [h, w] is large, and dark and gray elsewhere.

    So it is read by its light, without color.
    """
    from PIL import Image

    heat = np.nan_to_num(np.maximum(heat_map, 0).astype(np.float32))
    heat = heat / (heat.max() or 1.0)
    height, width = pixels.shape[:2]
    if heat.shape != (height, width):
        heat = np.asarray(Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR))
    color = np.repeat(pixels[..., :1], 3, axis=-1) if pixels.shape[-1] < 3 else pixels[..., :3]
    color = color.astype(np.float32)
    gray = color.mean(axis=-1, keepdims=True)
    weight = heat[..., None]
    tint = np.array([255.0, 150.0, 60.0], np.float32)
    lit = 0.82 * color + 0.18 * tint
    return np.clip(np.round(weight * lit + (1 - weight) * 0.4 * gray), 0, 255).astype(np.uint8)
