"""Many image files: which they are, how they are read on all cores, and what their heads say."""

from __future__ import annotations

import glob
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.images import Box, fit
from jaxvision.interfaces import Preprocessing
from jaxvision.machine import num_cores

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SCALED = ("JPEG", "MPO")  # formats whose decoder scales by itself


def read_image(
    file: str | Path, preprocessing: Preprocessing, *, part: Callable[[int, int], Box] | None = None
) -> np.ndarray:
    """Decode one file to uint8 [H, W, C]: turned as its EXIF says, transparent parts white, cropped and resized.

    `part(width, height)` gives the box of the upright picture that is kept, in place of the preprocessing's crop.
    Raise ValueError naming the file where it is no image or is damaged, FileNotFoundError where it is missing.
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
    """Return the (width, height) of a picture once it is turned as its EXIF says."""
    from PIL import ExifTags

    is_lying = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return image.size[::-1] if is_lying else image.size


def _draft_size(size: tuple[int, int], preprocessing: Preprocessing, box: Box | None) -> tuple[int, int]:
    """Return the least size (width, height) to which a JPEG decoder may scale down by itself, averaging as we would."""
    share = preprocessing.crop or 1.0
    kept = min(size) * share if box is None else min(box[2] - box[0], box[3] - box[1])
    scale = 2 * max(preprocessing.size) / kept  # twice, so that the final resampling still has pixels to average
    return (round(size[0] * scale) + 1, round(size[1] * scale) + 1)


def random_part(width: int, height: int, *, share: tuple[float, float], rng: np.random.Generator) -> Box:
    """Draw a part of a picture: a share of its area between two, of an aspect ratio from 3/4 to 4/3.

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


def is_image(path: Path) -> bool:
    """Return whether a path looks like an image file; what is hidden does not."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()


def find_images(paths: Iterable[str]) -> list[str]:
    """Expand files, folders (searched to the bottom) and glob patterns to image files, sorted within each.

    Raise FileNotFoundError for what matches nothing.
    """
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


def read_images(
    files: Sequence[str | Path],
    preprocessing: Preprocessing,
    *,
    advance: Callable[[int], object] = lambda count: None,
    chunk_size: int = 256,
) -> Iterator[tuple[slice, list[np.ndarray | Exception]]]:
    """Decode many files on all cores, a chunk at a time and in order; an unreadable one gives its error."""

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


def measure_files(files: Sequence[Path]) -> dict[str, Any]:
    """Read the heads of image files: return their modes, formats and sizes in pixels."""
    from PIL import Image

    modes, formats, found = Counter(), Counter(), []
    for file in files:
        with Image.open(file) as image:
            modes[image.mode] += 1
            formats[str(image.format)] += 1
            found.append(image.size)
    width, height = np.array(found).T
    sizes = {"least": np.min, "median": np.median, "largest": np.max}
    return {
        "modes": dict(modes.most_common()),
        "formats": dict(formats.most_common()),
        "sizes": {name: [int(measure(width)), int(measure(height))] for name, measure in sizes.items()},
    }
