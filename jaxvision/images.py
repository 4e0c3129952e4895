"""Image files and arrays -> the raw uint8 inputs that a `Preprocessing` asks for, on the host."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np

from jaxvision.interfaces import Interpolation, Preprocessing

Box = tuple[float, float, float, float]  # left, top, right and bottom, in pixels
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

SCALED = ("JPEG", "MPO")  # formats whose decoder scales by itself

# Mean and deviation of ImageNet's training pixels in 0..1, as torchvision publishes them with its weights.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def num_cores() -> int:
    """Gives the number of cores that this process may run on: the threads that decode at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def asked(
    wanted: Preprocessing | None,
    *,
    image_size: int | tuple[int, int] | None,
    channels: int,
    crop: float | Literal["squash"] | None,
    interpolation: Interpolation | None,
) -> Preprocessing:
    """Gives what a data set's arguments ask for; what they leave open is as `wanted`, or else as commonly done.

    Mean and deviation are ImageNet's. Raises ValueError for a size, crop or number of channels that cannot be.
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


def read_image(
    file: str | Path, preprocessing: Preprocessing, *, part: Callable[[int, int], Box] | None = None
) -> np.ndarray:
    """Decodes one file to uint8 [H, W, C]: turned as its EXIF says, transparent parts white, cropped and resized.

    `part(width, height)` gives the box of the upright picture that is kept, in place of the preprocessing's crop.
    Raises ValueError naming the file where it is no image or is damaged, FileNotFoundError where it is missing.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            if part and image.format not in SCALED:
                ImageOps.exif_transpose(image, in_place=True)  # as it is loaded, a TIFF tells other sizes than before
            box = part(*_upright(image)) if part else None
            if preprocessing.interpolation != "nearest":
                width = image.width
                wanted = _draft_size(image.size, preprocessing, box)
                drafted = image.draft("RGB" if preprocessing.channels == 3 else "L", wanted)
                if drafted and box:  # the decoder scales by 1, 1/2, 1/4 or 1/8
                    left, top, right, bottom = (side * drafted[1][2] / width for side in box)
                    box = left, top, right, bottom
            return fit(image, preprocessing, box=box)
    except FileNotFoundError:
        raise FileNotFoundError(f"no image file {os.fspath(file)!r}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno:  # the system's word, not the file's content
            raise OSError(f"cannot open the image {os.fspath(file)!r}: {error.strerror}") from None
        why = "not an image that Pillow can read" if isinstance(error, Image.UnidentifiedImageError) else error
        raise ValueError(f"cannot read the image {os.fspath(file)!r}: {why}") from None


def _upright(image) -> tuple[int, int]:
    """The (width, height) of a picture once it is turned as its EXIF says."""
    from PIL import ExifTags

    is_lying = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return image.size[::-1] if is_lying else image.size


def _draft_size(size: tuple[int, int], preprocessing: Preprocessing, box: Box | None) -> tuple[int, int]:
    """The least size (width, height) to which a JPEG decoder may scale down by itself, averaging as we would."""
    share = preprocessing.crop or 1.0
    kept = min(size) * share if box is None else min(box[2] - box[0], box[3] - box[1])
    scale = 2 * max(preprocessing.size) / kept  # twice, so that the final resampling still has pixels to average
    return (round(size[0] * scale) + 1, round(size[1] * scale) + 1)


def random_part(width: int, height: int, *, share: tuple[float, float], rng: np.random.Generator) -> Box:
    """Draws a part of a picture: a share of its area between two, of an aspect ratio from 3/4 to 4/3.

    Where ten draws do not fit into the picture, it is the largest central part of such an aspect ratio (C. Szegedy et
    al., Going Deeper with Convolutions, CVPR 2015, section 6).

    >>> random_part(30, 9, share=(1.0, 1.0), rng=np.random.default_rng(0))
    (9.0, 0.0, 21.0, 9.0)
    """
    for _ in range(10):
        area = width * height * rng.uniform(*share)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        part_width, part_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if part_width <= width and part_height <= height:
            left, top = rng.uniform(0, width - part_width), rng.uniform(0, height - part_height)
            return left, top, min(left + part_width, width), min(top + part_height, height)
    part_width, part_height = min(width, height * 4 / 3), min(height, width * 4 / 3)
    left, top = (width - part_width) / 2, (height - part_height) / 2
    return left, top, width - left, height - top


def _central(size: tuple[int, int], preprocessing: Preprocessing) -> Box:
    """The box that the preprocessing keeps of a picture."""
    width, height = size
    if preprocessing.crop is None:
        return 0, 0, width, height
    scale = min(width / preprocessing.size[1], height / preprocessing.size[0]) * preprocessing.crop
    kept_width, kept_height = preprocessing.size[1] * scale, preprocessing.size[0] * scale
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    return max(left, 0), max(top, 0), min(left + kept_width, width), min(top + kept_height, height)


def fit(image, preprocessing: Preprocessing, *, box: Box | None = None) -> np.ndarray:
    """Brings a Pillow image, which it may turn, to uint8 [H, W, C] of the wanted size and channels.

    What is kept is the box of the upright image, or else what the preprocessing says.
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
    """To "L" or "RGB": 16-bit greys are scaled, not clipped, and transparency is laid on white."""
    from PIL import Image

    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise ValueError(f"its numbers are of the type {image.mode!r}, whose black and white are not defined")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def from_array(array: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Brings one image [H, W], [H, W, 1] or [H, W, 3], uint8 or float in 0..1, to the wanted size and channels."""
    from PIL import Image

    array = np.asarray(array)
    if array.shape == (*preprocessing.size, preprocessing.channels) and preprocessing.crop in (None, 1.0):
        return array
    if array.dtype != np.uint8:
        array = np.round(255 * array).astype(np.uint8)
    return fit(Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array), preprocessing)


def read_images(
    files: Sequence[str | Path],
    preprocessing: Preprocessing,
    *,
    advance: Callable[[int], object] = lambda count: None,
    chunk_size: int = 256,
) -> Iterator[tuple[slice, list[np.ndarray | Exception]]]:
    """Decodes many files on all cores, a chunk at a time and in order; an unreadable one gives its error."""

    def read(file: str | Path) -> np.ndarray | Exception:
        try:
            return read_image(file, preprocessing)
        except (ValueError, OSError) as error:
            return error

    with ThreadPoolExecutor(num_cores()) as pool:
        chunks = [slice(start, min(start + chunk_size, len(files))) for start in range(0, len(files), chunk_size)]
        pending = pool.map(read, files[chunks[0]]) if chunks else ()
        for chunk, following in zip(chunks, [*chunks[1:], slice(0)], strict=False):
            results, pending = list(pending), pool.map(read, files[following])  # while the caller works on these
            yield chunk, results
            advance(chunk.stop - chunk.start)


class UnreadableImages(UserWarning):
    """Images of a split were skipped; `errors` says of each why."""

    def __init__(self, split: str, errors: Sequence[str]):
        super().__init__(f"{split}: {len(errors)} unreadable images skipped, the first: {errors[0]}")
        self.errors = errors


def is_image(path: Path) -> bool:
    """Says whether a path looks like an image file; what is hidden does not."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()


def find_images(paths: Iterable[str]) -> list[str]:
    """Expands files, folders (searched to the bottom) and glob patterns to image files, sorted within each.

    Raises FileNotFoundError for what matches nothing.
    """
    import glob

    found: list[str] = []
    for path in paths:
        path = os.path.expanduser(path)
        if os.path.isdir(path):
            matches = sorted(str(p) for p in Path(path).rglob("*") if is_image(p))
        else:
            matches = (
                [path] if os.path.isfile(path) else sorted(filter(os.path.isfile, glob.glob(path, recursive=True)))
            )
        if not matches:
            what = "images in the folder" if os.path.isdir(path) else "file, folder or pattern"
            raise FileNotFoundError(f"no {what} {path!r}; images end in {' '.join(EXTENSIONS)}")
        found += matches
    return found
