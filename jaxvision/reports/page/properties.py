"""Properties of images by which the page compares metrics: brightness, contrast, sharpness, size, aspect ratio."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxvision import image_files
from jaxvision.image_decoding import open_image, upright_size
from jaxvision.interfaces import Split

MOST_MEASURED = 10_000  # images
CHUNK = 256


def image_properties(split: Split, *, max_pixels: int) -> dict[str, np.ndarray]:
    """Measure evenly spaced images, at most MOST_MEASURED; return values [N] by property, NaN for the others.

    Brightness is the mean of the gray values in 0..1, contrast their standard deviation, sharpness that of their
    Laplacian over four neighbors, all of the image as the model gets it. Width, height and aspect ratio are those of
    the file.
    """
    size = len(split)
    chosen = np.unique(np.linspace(0, size - 1, min(size, MOST_MEASURED), dtype=int))
    found = {name: np.full(size, np.nan) for name in ("brightness", "contrast", "sharpness")}
    for start in range(0, len(chosen), CHUNK):
        part = chosen[start : start + CHUNK]
        gray = _gray(split.read(part))
        found["brightness"][part] = gray.mean(axis=(1, 2))
        found["contrast"][part] = gray.std(axis=(1, 2))
        if min(gray.shape[1:]) >= 3:
            found["sharpness"][part] = laplacian(gray).std(axis=(1, 2))
    return {**found, **_file_sizes(split, chosen, max_pixels)}


def _gray(images: np.ndarray) -> np.ndarray:
    gray = np.asarray(images[..., :3], np.float32).mean(axis=-1)
    return gray / 255 if images.dtype == np.uint8 else gray


def laplacian(gray: np.ndarray) -> np.ndarray:
    """Return the discrete Laplacian of gray images [N, H, W] without their borders."""
    sides = gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:] + gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1]
    return sides - 4 * gray[:, 1:-1, 1:-1]


def _file_sizes(split: Split, chosen: np.ndarray, max_pixels: int) -> dict[str, np.ndarray]:
    """Return the sizes of image files by their headers; an empty dict if the examples are no files."""
    files = [Path(str(split.names[int(i)])) for i in chosen] if len(split.names) else []
    if not files or not all(map(image_files.is_image, files)):
        return {}
    sizes = np.full((len(split), 2), np.nan)
    for index, file in zip(chosen, files, strict=True):
        with open(file, "rb") as stream, open_image(stream, str(file), max_pixels=max_pixels) as image:
            sizes[index] = upright_size(image)
    width, height = sizes.T
    return {"width": width, "height": height, "aspect ratio": width / height}
