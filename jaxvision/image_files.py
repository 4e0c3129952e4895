"""Find, decode and measure image files, on all cores."""

from __future__ import annotations

import glob
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.images import Box, fit
from jaxvision.interfaces import Preprocessing
from jaxvision.machine import num_cores

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
OTHERS = {  # suffixes of pictures that are not read, and how to make images of them
    **dict.fromkeys((".heic", ".heif", ".hif"), "convert them to JPEG"),
    **dict.fromkeys((".avif", ".jxl", ".jp2", ".psd", ".ai", ".eps", ".svg", ".ico"), "convert them to JPEG or PNG"),
    **dict.fromkeys((".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"), "develop them to JPEG"),
    **dict.fromkeys((".pdf", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"), "extract images from them"),
}
SCALED = ("JPEG", "MPO")  # formats whose decoder can scale down


def read_image(
    file: str | Path, preprocessing: Preprocessing, *, part: Callable[[int, int], Box] | None = None
) -> np.ndarray:
    """Decode one file to uint8 [H, W, C]: rotated by its EXIF tag, transparency on white, cropped and resized.

    `part(width, height)` returns the box of the upright image to keep, instead of the preprocessing's crop. Raises
    ValueError if the file is not an image or is damaged, FileNotFoundError if it does not exist, and OSError if it
    cannot be opened.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            if part and image.format not in SCALED:
                ImageOps.exif_transpose(
                    image, in_place=True
                )  # first, because a TIFF may report another size once it is loaded
            box = part(*_upright(image)) if part else None
            if preprocessing.interpolation != "nearest":
                width = image.width
                draft_size = _draft_size(image.size, preprocessing, box)
                drafted = image.draft("RGB" if preprocessing.channels == 3 else "L", draft_size)
                if drafted and box:  # the decoder has scaled by 1, 1/2, 1/4 or 1/8
                    left, top, right, bottom = (side * drafted[1][2] / width for side in box)
                    box = left, top, right, bottom
            return fit(image, preprocessing, box=box)
    except FileNotFoundError:
        raise FileNotFoundError(f"no image file {os.fspath(file)!r}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno:  # an error of the system, not of the file's content
            raise OSError(f"cannot open the image {os.fspath(file)!r}: {error.strerror}") from None
        why = "not an image that Pillow can read" if isinstance(error, Image.UnidentifiedImageError) else error
        repair = OTHERS.get(Path(file).suffix.lower())
        why = f"a {Path(file).suffix} file is not read; {repair.replace('them', 'it')}" if repair else why
        raise ValueError(f"cannot read the image {os.fspath(file)!r}: {why}") from None


def _upright(image) -> tuple[int, int]:
    """Return the (width, height) of an image after its EXIF rotation."""
    from PIL import ExifTags

    is_rotated = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return image.size[::-1] if is_rotated else image.size


def _draft_size(size: tuple[int, int], preprocessing: Preprocessing, box: Box | None) -> tuple[int, int]:
    """Return the smallest (width, height) to which a JPEG decoder may scale down before resampling."""
    fraction = preprocessing.crop or 1.0
    kept = min(size) * fraction if box is None else min(box[2] - box[0], box[3] - box[1])
    scale = 2 * max(preprocessing.size) / kept  # twice the output size, so that the final resampling still averages
    return (round(size[0] * scale) + 1, round(size[1] * scale) + 1)


def random_part(width: int, height: int, *, area_range: tuple[float, float], rng: np.random.Generator) -> Box:
    """Draw a crop of an image: a fraction of its area in the range `area_range`, an aspect ratio from 3/4 to 4/3.

    If ten draws do not fit into the image, return the largest central crop with such an aspect ratio (C. Szegedy et
    al., Going Deeper with Convolutions, CVPR 2015, section 6).

    >>> random_part(30, 9, area_range=(1.0, 1.0), rng=np.random.default_rng(0))
    (9.0, 0.0, 21.0, 9.0)
    """
    for _ in range(10):
        area = width * height * rng.uniform(*area_range)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        part_width, part_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if part_width <= width and part_height <= height:
            left, top = rng.uniform(0, width - part_width), rng.uniform(0, height - part_height)
            return left, top, min(left + part_width, width), min(top + part_height, height)
    part_width, part_height = min(width, height * 4 / 3), min(height, width * 4 / 3)
    left, top = (width - part_width) / 2, (height - part_height) / 2
    return left, top, width - left, height - top


def is_image(path: Path) -> bool:
    """Return whether a path is a file with an image extension that is not hidden."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()


class SkippedFiles(UserWarning):
    """Warning that files of a folder look like pictures and are not read; `counts` has their number by suffix."""

    def __init__(self, folder: str | Path, counts: Mapping[str, int]):
        super().__init__(f"{os.fspath(folder)}: skipped {describe_skipped(counts)}")
        self.counts = dict(counts)


def count_skipped(paths: Iterable[Path]) -> dict[str, int]:
    """Count by suffix the files that look like pictures and are not read, most frequent first.

    >>> count_skipped([Path("a.HEIC"), Path("b.mov"), Path("c.heic"), Path("d.jpg"), Path("notes.txt")])
    {'.heic': 2, '.mov': 1}
    """
    suffixes = [path.suffix.lower() for path in paths if not path.name.startswith(".")]
    return dict(Counter(suffix for suffix in suffixes if suffix in OTHERS).most_common())


def describe_skipped(counts: Mapping[str, int]) -> str:
    """Return in words which files were skipped, and how to make images of them.

    >>> describe_skipped({".heic": 2, ".mov": 1})
    '2 .heic (convert them to JPEG), 1 .mov (extract images from them)'
    """
    return ", ".join(f"{count:,} {suffix} ({OTHERS[suffix]})" for suffix, count in counts.items())


def walk(folder: str | Path) -> tuple[list[Path], dict[str, int]]:
    """Return the image files below a folder, sorted, and the numbers of other pictures by suffix (`count_skipped`)."""
    paths = sorted(Path(folder).rglob("*"))
    others = [path for path in paths if path.suffix.lower() in OTHERS and path.is_file()]
    return [path for path in paths if is_image(path)], count_skipped(others)


def find_images(paths: Iterable[str]) -> list[str]:
    """Expand files, folders (recursively) and glob patterns to image files, sorted within each argument.

    Warns about files in folders that look like pictures and are not read. Raises FileNotFoundError if an argument
    matches nothing.
    """
    files: list[str] = []
    for path in paths:
        path, skipped = os.path.expanduser(path), {}
        if os.path.isdir(path):
            images, skipped = walk(path)
            matches = [str(image) for image in images]
        else:
            matches = (
                [path] if os.path.isfile(path) else sorted(filter(os.path.isfile, glob.glob(path, recursive=True)))
            )
        if not matches:
            what = "images in the folder" if os.path.isdir(path) else "file, folder or pattern"
            others = f", and it has {describe_skipped(skipped)}" if skipped else ""
            raise FileNotFoundError(f"no {what} {path!r}; expected files ending in {' '.join(EXTENSIONS)}{others}")
        if skipped:
            warnings.warn(SkippedFiles(path, skipped), stacklevel=2)
        files += matches
    return files


def read_images(
    files: Sequence[str | Path],
    preprocessing: Preprocessing,
    *,
    advance: Callable[[int], object] = lambda count: None,
    chunk_size: int = 256,
) -> Iterator[tuple[slice, list[np.ndarray | Exception]]]:
    """Decode many files on all cores, in chunks and in order; an unreadable file yields its error.

    Args:
        files: image files.
        preprocessing: size, channels, crop and interpolation.
        advance: called with the size of each finished chunk, e.g. to update a progress bar.
        chunk_size: number of files in a chunk.

    Yields:
        The slice of the chunk in `files`, and its images or exceptions.
    """

    def read(file: str | Path) -> np.ndarray | Exception:
        try:
            return read_image(file, preprocessing)
        except (ValueError, OSError) as error:
            return error

    with ThreadPoolExecutor(num_cores()) as pool:
        chunks = [slice(start, min(start + chunk_size, len(files))) for start in range(0, len(files), chunk_size)]
        pending = pool.map(read, files[chunks[0]]) if chunks else ()
        for chunk, following in zip(chunks, [*chunks[1:], slice(0)], strict=False):
            results, pending = (
                list(pending),
                pool.map(read, files[following]),
            )  # decoded while the caller works on this chunk
            yield chunk, results
            advance(chunk.stop - chunk.start)


class UnreadableImages(UserWarning):
    """Warning that images of a split were skipped; `errors` has the message of each."""

    def __init__(self, split: str, errors: Sequence[str]):
        counted = f"{len(errors)} unreadable images, the first" if len(errors) > 1 else "1 unreadable image"
        super().__init__(f"{split}: skipped {counted}: {errors[0]}")
        self.errors = errors


def measure_files(files: Sequence[Path]) -> dict[str, Any]:
    """Read the headers of image files; return counts of modes and formats, and the sizes in pixels."""
    from PIL import Image

    modes, formats, file_sizes = Counter(), Counter(), []
    for file in files:
        with Image.open(file) as image:
            modes[image.mode] += 1
            formats[str(image.format)] += 1
            file_sizes.append(image.size)
    width, height = np.array(file_sizes).T
    sizes = {"least": np.min, "median": np.median, "largest": np.max}
    return {
        "modes": dict(modes.most_common()),
        "formats": dict(formats.most_common()),
        "sizes": {name: [int(measure(width)), int(measure(height))] for name, measure in sizes.items()},
    }
