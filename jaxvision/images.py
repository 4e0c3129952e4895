"""Convert one image or array to the uint8 input of a `Preprocessing`, on the host."""

from __future__ import annotations

import numpy as np

from jaxvision.interfaces import Preprocessing

Box = tuple[float, float, float, float]  # left, top, right and bottom, in pixels

# Mean and standard deviation of ImageNet's training pixels in 0..1, as published by torchvision.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _central(size: tuple[int, int], preprocessing: Preprocessing) -> Box:
    """Return the box of an image that the preprocessing keeps."""
    width, height = size
    if preprocessing.crop is None:
        return 0, 0, width, height
    scale = min(width / preprocessing.size[1], height / preprocessing.size[0]) * preprocessing.crop
    kept_width, kept_height = preprocessing.size[1] * scale, preprocessing.size[0] * scale
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    return max(left, 0), max(top, 0), min(left + kept_width, width), min(top + kept_height, height)


def fit(image, preprocessing: Preprocessing, *, box: Box | None = None) -> np.ndarray:
    """Convert a Pillow image to uint8 [H, W, C] of the preprocessing's size and channels; may rotate it in place.

    The kept box is `box` of the upright image, or else that of the preprocessing.
    """
    from PIL import Image, ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    image = _convert(image, "L" if preprocessing.channels == 1 else "RGB")
    box = box or _central(image.size, preprocessing)
    size = preprocessing.size[1], preprocessing.size[0]
    if box != (0, 0, *image.size) or image.size != size:
        image = image.resize(size, Image.Resampling[preprocessing.interpolation.upper()], box=box)
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def _convert(image, mode: str):
    """Convert an image to "L" or "RGB": 16-bit grayscale is scaled, not clipped, and transparency is laid on white."""
    from PIL import Image

    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise ValueError(
            f"its pixels have mode {image.mode!r}, which does not define black and white; expected 8 or 16 bits"
        )
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def from_array(array: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Convert an image [H, W], [H, W, 1] or [H, W, 3], uint8 or float in 0..1, to the preprocessing's format."""
    from PIL import Image

    array = np.asarray(array)
    if array.shape == (*preprocessing.size, preprocessing.channels) and preprocessing.crop in (None, 1.0):
        return array
    if array.dtype != np.uint8:
        array = np.round(255 * array).astype(np.uint8)
    return fit(Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array), preprocessing)
