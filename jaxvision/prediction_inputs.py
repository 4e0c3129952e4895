"""What `predict` is given: names of files, or images in memory, of any size and kind."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.arrays import check_pixels, check_sides
from jaxvision.image_decoding import from_pillow
from jaxvision.images import from_array
from jaxvision.interfaces import Preprocessing

CHANNELS = (1, 3, 4)  # of an array: gray, color, color with transparency
EXPECTED = "expected image files, arrays [H, W, C] or [N, H, W, C], PIL images, or a list of these"


def as_sequence(inputs: Any) -> Any:
    """Return inputs as a list of file names, an array, or a list of images: of a path, a Series, a generator or a set.

    Raises ValueError for a table, a dict or bytes, and if files are mixed with images.
    """
    if isinstance(inputs, str | os.PathLike):
        return [os.fspath(inputs)]
    if _is_pillow(inputs):
        return [inputs]
    if isinstance(inputs, bytes | Mapping) or hasattr(inputs, "columns") or not isinstance(inputs, Iterable):
        repair = "; open them as PIL.Image.open(io.BytesIO(…))" if isinstance(inputs, bytes) else ""
        repair = "; give the column of the files' names" if hasattr(inputs, "columns") else repair
        raise ValueError(f"predict was given {type(inputs).__name__}; {EXPECTED}{repair}")
    if hasattr(inputs, "__array__") and hasattr(inputs, "shape"):
        _refuse_masked(inputs)
        array = np.asarray(inputs)
        if array.dtype.kind not in "OUS":
            return array
        inputs = array.ravel().tolist()
    items = sorted(inputs) if isinstance(inputs, Set) else list(inputs)
    are_files = [isinstance(item, str | os.PathLike) for item in items]
    if not any(are_files):
        return items
    if not all(are_files):
        other = items[are_files.index(False)]
        raise ValueError(
            f"input {are_files.index(False)} is {type(other).__name__}, and others are files; give one kind"
        )
    return [os.fspath(item) for item in items]


def are_files(inputs: Any) -> bool:
    """Return whether inputs from `as_sequence` are names of files."""
    return isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], str | Path)


def _is_pillow(image: Any) -> bool:
    return hasattr(image, "getbands") and hasattr(image, "convert")


def _refuse_masked(array: Any) -> None:
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError("predict was given a masked array, whose mask would be lost; fill it, as in array.filled(0)")


@dataclass(frozen=True)
class Images:
    """Images in memory, converted to the size and channels of a model as they are read.

    `exact` images are floats that already have the model's shape; others are rounded to 8 bits, so that a batch has one
    type.
    """

    images: Any
    preprocessing: Preprocessing
    exact: bool

    def __len__(self) -> int:
        return len(self.images)

    def chunks(self, size: int) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Yield slices of at most `size` images, with these images."""
        for start in range(0, len(self), size):
            chunk = slice(start, min(start + size, len(self)))
            yield chunk, [self._read(index, self.images[index]) for index in range(chunk.start, chunk.stop)]

    def _read(self, index: int, image: Any) -> np.ndarray:
        if _is_pillow(image):
            try:
                return from_pillow(image, self.preprocessing)
            except (ValueError, OSError) as error:
                raise ValueError(f"image {index} cannot be read: {error}") from None
        if image.dtype != np.uint8 and not self.exact:
            image = np.round(255 * image).astype(np.uint8)
        return from_array(image, self.preprocessing)


def in_memory(inputs: Any, preprocessing: Preprocessing) -> Images:
    """Return images from an array [H, W], [H, W, C], [N, H, W] or [N, H, W, C], or a list of arrays and PIL images.

    Images of a list may have several sizes. Raises ValueError for another shape, type or range, for pixels that are not
    finite, and for channels that come first.
    """
    if not len(inputs):
        raise ValueError(f"there are no images; {EXPECTED}")
    shape = (*preprocessing.size, preprocessing.channels)
    if isinstance(inputs, list) and (_is_pillow(inputs[0]) or np.ndim(inputs[0]) in (2, 3)):
        images = [image if _is_pillow(image) else _single(image, index) for index, image in enumerate(inputs)]
        exact = all(not _is_pillow(each) and each.dtype != np.uint8 and each.shape == shape for each in images)
    else:
        images = _batched(np.asarray(inputs), preprocessing)
        check_sides(images.shape[1:3], source="predict")
        check_pixels(images, source="predict")
        exact = images.dtype != np.uint8 and images.shape[1:] == shape
    return Images(images, preprocessing, exact and preprocessing.crop in (None, 1.0, "pad"))


def _single(image: Any, index: int) -> np.ndarray:
    """Return one image of a list as an array [H, W, C]."""
    _refuse_masked(image)
    array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[-1] not in CHANNELS:
        is_first = array.ndim == 3 and array.shape[0] in CHANNELS
        raise ValueError(
            f"image {index} has shape {array.shape}; expected [H, W] or [H, W, C] with 1, 3 or 4 channels"
            + "; channels come first: give image.transpose(1, 2, 0)" * is_first
        )
    check_sides(array.shape[:2], source=f"predict, image {index}")
    check_pixels(array[None], source="predict", first=index)
    return array


def _batched(inputs: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Return an array as [N, H, W, C]. Raises ValueError for another shape."""
    shape = inputs.shape
    if inputs.ndim == 2:
        return inputs[None, ..., None]
    if inputs.ndim == 3 and shape[1:] != preprocessing.size and shape[-1] in CHANNELS and shape[0] > 3:
        return inputs[None]
    if inputs.ndim == 3 and shape[0] == 3 == preprocessing.channels and min(shape[1:]) > 4:
        raise ValueError(
            f"an array of shape {shape} is one image with its channels first, or three gray ones: give "
            "image.transpose(1, 2, 0), or images[..., None]"
        )
    if inputs.ndim == 3:
        return inputs[..., None]
    if inputs.ndim != 4 or shape[-1] not in CHANNELS:
        is_first = inputs.ndim == 4 and shape[1] in CHANNELS
        raise ValueError(
            f"images have shape {shape}; expected [H, W, C] or [N, H, W, C] with 1, 3 or 4 channels"
            + "; channels come first: give images.transpose(0, 2, 3, 1)" * is_first
        )
    return inputs
