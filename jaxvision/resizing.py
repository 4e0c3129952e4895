"""How an image becomes the size of a model's input: which part of it is kept, and how that is resampled."""

from __future__ import annotations

import math

import numpy as np

from jaxvision.config import Config
from jaxvision.images import IMAGENET_MEAN
from jaxvision.interfaces import Preprocessing
from jaxvision.pixel_modes import to_mode

Box = tuple[float, float, float, float]  # left, top, right and bottom, in pixels
Size = tuple[int, int]  # width and height

# The color of borders: ImageNet's mean, which normalization maps to about 0. timm's crop_mode="border" uses the same.
BORDER = {3: tuple(round(255 * value) for value in IMAGENET_MEAN), 1: (114,)}


def resized_size(size: Size, preprocessing: Preprocessing) -> Size:
    """Return the (width, height) of the whole image once its short side is resized, before the crop.

    The rounding is timm's (`transforms_imagenet_eval`): the model's size divided by the crop fraction, rounded down.
    For square inputs the long side is then torchvision's `Resize`, rounded down; for others timm's `ResizeKeepRatio`.

    >>> resized_size((500, 375), Preprocessing((224, 224), 3, (0.0,) * 3, (1.0,) * 3, crop=0.875))
    (341, 256)
    """
    assert isinstance(preprocessing.crop, float | int)
    width, height = size
    least_height, least_width = (math.floor(side / preprocessing.crop) for side in preprocessing.size)
    if least_height == least_width:
        if width <= height:
            return least_width, int(least_width * height / width)
        return int(least_height * width / height), least_height
    ratio = min(height / least_height, width / least_width)
    return round(width / ratio), round(height / ratio)


def _kept_by_resizing_first(size: Size, preprocessing: Preprocessing) -> Box:
    """Return the box, in pixels of the image, that the central crop of the resized image covers."""
    resized = resized_size(size, preprocessing)
    crop = preprocessing.size[::-1]
    starts = [_start(whole, kept) for whole, kept in zip(resized, crop, strict=True)]
    scales = [before / after for before, after in zip(size, resized, strict=True)]
    left, top = (max(start * scale, 0.0) for start, scale in zip(starts, scales, strict=True))
    right, bottom = (
        min((start + kept) * scale, float(side))
        for start, kept, scale, side in zip(starts, crop, scales, size, strict=True)
    )
    return left, top, right, bottom


def _kept_by_cropping_first(size: Size, preprocessing: Preprocessing) -> Box:
    """Return the box of an image that versions before 0.4 kept: a fraction of the largest centered rectangle."""
    assert isinstance(preprocessing.crop, float | int)
    width, height = size
    scale = min(width / preprocessing.size[1], height / preprocessing.size[0]) * preprocessing.crop
    kept_width, kept_height = preprocessing.size[1] * scale, preprocessing.size[0] * scale
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    return max(left, 0), max(top, 0), min(left + kept_width, width), min(top + kept_height, height)


def kept_box(size: Size, preprocessing: Preprocessing) -> Box:
    """Return the box of an image of that (width, height) that the preprocessing keeps.

    >>> kept_box((500, 375), Preprocessing((224, 224), 3, (0.0,) * 3, (1.0,) * 3))
    (62.080536912751676, 0.0, 437.91946308724835, 375.0)
    """
    if preprocessing.crop in (None, "pad"):
        return 0, 0, *size
    is_old = preprocessing.resize == "crop_first"
    return (_kept_by_cropping_first if is_old else _kept_by_resizing_first)(size, preprocessing)


def fit(image, preprocessing: Preprocessing, *, box: Box | None = None) -> np.ndarray:
    """Convert an upright Pillow image to uint8 [H, W, C] of the preprocessing's size and channels.

    The kept box is `box`, or else that of the preprocessing.
    """
    image = to_mode(image, "L" if preprocessing.channels == 1 else "RGB")
    if box is None and preprocessing.crop == "pad":
        image = _with_borders(image, preprocessing)
    else:
        image = _resampled(image, preprocessing, box)
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, -1)  # faster than np.asarray


def _resampled(image, preprocessing: Preprocessing, box: Box | None):
    """Resample the box of an image, by default the preprocessing's, to the preprocessing's size.

    Resampling the box alone is cheaper than cropping the resized image, but Pillow may then take columns before rows,
    and rounds and clips between: up to 9 levels in 0.5% of the pixels with `bicubic`. So without a box, the image is
    resized as a whole, unless it is so narrow that this would take more memory than any image may.
    """
    from PIL import Image

    size, method = preprocessing.size[::-1], Image.Resampling[preprocessing.interpolation.upper()]
    if box is None and preprocessing.resize == "short_side" and preprocessing.crop is not None:
        resized = resized_size(image.size, preprocessing)
        if math.prod(resized) <= Config.max_image_pixels:
            left, top = _start(resized[0], size[0]), _start(resized[1], size[1])
            image = image if resized == image.size else image.resize(resized, method)
            return image if resized == size else image.crop((left, top, left + size[0], top + size[1]))
    box = box or kept_box(image.size, preprocessing)
    return image if box == (0, 0, *image.size) and image.size == size else image.resize(size, method, box=box)


def _start(whole: int, kept: int) -> int:
    """Return where a centered crop of one side starts, with torchvision's rounding (to even)."""
    return round((whole - kept) / 2.0)


def _with_borders(image, preprocessing: Preprocessing):
    """Resize an image so that all of it fits into the preprocessing's size, and fill the rest with `BORDER`.

    The rounding is that of timm's `ResizeKeepRatio(longest=1.0)` and `CenterCropOrPad`.
    """
    from PIL import Image

    height, width = preprocessing.size
    ratio = max(image.width / width, image.height / height)
    inner = max(round(image.width / ratio), 1), max(round(image.height / ratio), 1)
    color = BORDER[preprocessing.channels]
    canvas = Image.new(image.mode, (width, height), color if len(color) == 3 else color[0])
    resized = image.resize(inner, Image.Resampling[preprocessing.interpolation.upper()])
    canvas.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def fit_array(array: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Convert an image [H, W], [H, W, 1] or [H, W, 3], uint8 or float in 0..1, as `fit` does."""
    from PIL import Image

    if array.dtype != np.uint8:
        array = np.round(255 * array).astype(np.uint8)
    return fit(Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array), preprocessing)
