"""Find, decode and measure image files, on all cores."""

from __future__ import annotations

import functools
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

from jaxvision import walk
from jaxvision.image_decoding import FORMATS, MAX_PIXELS, OTHERS, decodable, open_image, upright_size
from jaxvision.image_decoding import read_image as read_image
from jaxvision.interfaces import Preprocessing
from jaxvision.machine import num_cores
from jaxvision.resizing import Box, kept_box


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


@functools.cache
def suffixes() -> tuple[str, ...]:
    """Return the suffixes of files, in lowercase, whose format is in FORMATS and that the installed Pillow decodes."""
    return tuple(suffix for name in decodable() for suffix in FORMATS[name][1].split())


def is_image(path: Path) -> bool:
    """Return whether a path is a file with the suffix of an image that is not hidden."""
    return path.suffix.lower() in suffixes() and not walk.is_skipped(path.name) and path.is_file()


def images_in(folder: str | Path, tally: walk.Tally | None = None) -> Iterator[str]:
    """Yield the image files below a folder in the order of their paths, as `walk.files_below` finds them."""
    return walk.files_below(folder, suffixes(), walk.Tally() if tally is None else tally)


class SkippedFiles(UserWarning):
    """Warning that files of a folder look like pictures and are not read; `counts` has their number by suffix."""

    def __init__(self, folder: str | Path, counts: Mapping[str, int]):
        super().__init__(f"{os.fspath(folder)}: skipped {describe_skipped(counts)}")
        self.counts = dict(counts)


def skipped_by(tally: walk.Tally) -> dict[str, int]:
    """Return by suffix the number of files that look like pictures and were not read, most frequent first."""
    return {suffix: count for suffix, count in tally.left_out.most_common() if suffix in OTHERS}


def describe_skipped(counts: Mapping[str, int]) -> str:
    """Return in words which files were skipped, and how to make images of them.

    >>> describe_skipped({".heic": 2, ".mov": 1})
    '2 .heic (convert them to JPEG), 1 .mov (extract images from them)'
    """
    return walk.listed(counts, OTHERS)


def find_images(paths: Iterable[str]) -> list[str]:
    """Expand files, folders (recursively) and glob patterns to image files, sorted within each argument.

    Warns about files in folders that look like pictures and are not read. Raises FileNotFoundError if an argument
    matches nothing, or for a link that leads nowhere.
    """
    files: list[str] = []
    for path in paths:
        path, tally = os.path.expanduser(path), walk.Tally()
        if os.path.isdir(path):
            matches = list(images_in(path, tally))
        elif os.path.isfile(path):
            matches = [path]
        elif os.path.islink(path):
            raise FileNotFoundError(walk.dangling(path))
        else:
            matches = _matching(path)
        if not matches and os.path.isdir(path):
            raise FileNotFoundError(f"the folder {path!r} has {no_images(tally)}")
        if not matches:
            raise FileNotFoundError(
                f"no file, folder or pattern {path!r}; expected files ending in {' '.join(suffixes())}"
            )
        if skipped_by(tally):
            warnings.warn(SkippedFiles(path, skipped_by(tally)), stacklevel=2)
        files += matches
    return files


def _matching(pattern: str) -> list[str]:
    """Return the files that a pattern matches, each once, without those in hidden folders that it does not name.

    Raises FileNotFoundError for a link that leads nowhere.
    """
    literal, files = pattern.split(os.sep), {}
    for file in sorted(glob.glob(pattern, recursive=True)):
        if any(walk.is_skipped(part) and part not in (*literal, "..") for part in file.split(os.sep)):
            continue
        if not os.path.exists(file):
            raise FileNotFoundError(walk.dangling(file))
        if os.path.isfile(file):
            files.setdefault((os.path.realpath(os.path.dirname(file)), os.path.basename(file)), file)
    return list(files.values())


def no_images(tally: walk.Tally) -> str:
    """Return in words that a folder has no images, what is expected, and which other files there are."""
    others = f", and it has {walk.listed(tally.left_out, OTHERS)}" if tally.left_out else ""
    return f"no images; expected files ending in {' '.join(suffixes())}{others}"


def read_images(
    files: Sequence[str | Path],
    preprocessing: Preprocessing,
    *,
    advance: Callable[[int], object] = lambda count: None,
    chunk_size: int = 256,
    max_pixels: int = MAX_PIXELS,
    is_scaled: bool = False,
) -> Iterator[tuple[slice, list[np.ndarray | Exception]]]:
    """Decode many files on all cores, in chunks and in order; an unreadable file yields its error.

    Args:
        files: image files.
        preprocessing: size, channels, crop and interpolation.
        advance: called with the size of each finished chunk, e.g. to update a progress bar.
        chunk_size: number of files in a chunk.
        max_pixels: the largest number of pixels that a file may declare.
        is_scaled: as for `read_image`.

    Yields:
        The slice of the chunk in `files`, and its images or exceptions.
    """

    def read(file: str | Path) -> np.ndarray | Exception:
        try:
            return read_image(file, preprocessing, max_pixels=max_pixels, is_scaled=is_scaled)
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


def measure_files(
    files: Sequence[Path], preprocessing: Preprocessing, *, max_pixels: int = MAX_PIXELS
) -> dict[str, Any]:
    """Read the headers of image files; return counts of modes and formats, the sizes in pixels, and how much is kept.

    `kept_fraction` is the median fraction of the area that the preprocessing keeps.
    """
    modes, formats, file_sizes = Counter(), Counter(), []
    for file in files:
        with open(file, "rb") as stream, open_image(stream, str(file), max_pixels=max_pixels) as image:
            modes[image.mode] += 1
            formats[str(image.format)] += 1
            file_sizes.append(upright_size(image))
    width, height = np.array(file_sizes).T
    boxes = [kept_box(size, preprocessing) for size in file_sizes]
    kept = [(right - left) * (bottom - top) for left, top, right, bottom in boxes]
    sizes = {"least": np.min, "median": np.median, "largest": np.max}
    return {
        "modes": dict(modes.most_common()),
        "formats": dict(formats.most_common()),
        "sizes": {name: [int(measure(width)), int(measure(height))] for name, measure in sizes.items()},
        "kept_fraction": round(float(np.median(kept / (width * height))), 4),
    }
