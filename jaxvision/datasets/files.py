"""Read image files with targets into a split, decoded once into the cache or streamed from disk."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from jaxvision.array_cache import ArrayFile, cached, stamps
from jaxvision.image_decoding import MAX_PIXELS
from jaxvision.image_files import UnreadableImages, random_part, read_image, read_images
from jaxvision.interfaces import Decode, Kind, Preprocessing, Split


def _read_all(
    files: Sequence[Path],
    preprocessing: Preprocessing,
    *,
    doing: str,
    keep: Callable[[int, np.ndarray], None],
    max_pixels: int,
    is_scaled: bool = False,
) -> np.ndarray:
    """Decode all files and pass each (index, image) to `keep`; return the error message per file, or ""."""
    from tqdm import tqdm

    errors = np.zeros(len(files), object)
    with tqdm(total=len(files), desc=doing, unit="img", disable=not sys.stderr.isatty()) as bar:
        for chunk, results in read_images(
            files, preprocessing, advance=bar.update, max_pixels=max_pixels, is_scaled=is_scaled
        ):
            for index, result in enumerate(results, chunk.start):
                if isinstance(result, OSError):  # a system error, not a bad file: do not cache it
                    raise result
                if isinstance(result, Exception):
                    errors[index] = str(result)
                else:
                    keep(index, result)
    return np.array([e or "" for e in errors], np.str_)


def _decoded(
    files: Sequence[Path], preprocessing: Preprocessing, name: str, max_pixels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cached images [N, H, W, C] and the error message per file, or ""."""
    shape = {k: v for k, v in asdict(preprocessing).items() if k not in ("mean", "std")}

    def make(folder: Path) -> None:
        size = (len(files), *preprocessing.size, preprocessing.channels)
        with ArrayFile(folder / "images.npy", np.uint8, size) as images:
            errors = _read_all(
                files, preprocessing, doing=f"decoding {name}", keep=images.__setitem__, max_pixels=max_pixels
            )
        np.save(folder / "errors.npy", errors)

    arrays = cached("folder", f"{shape} {max_pixels}\n{stamps(files)}", make)
    return arrays["images"], arrays["errors"]


def _errors_of(files: Sequence[Path], preprocessing: Preprocessing, name: str, max_pixels: int) -> np.ndarray:
    """Return the error message per file, or "", so that bad files are found before training."""

    def make(folder: Path) -> None:
        errors = _read_all(
            files,
            preprocessing,
            doing=f"checking {name}",
            keep=lambda index, image: None,
            max_pixels=max_pixels,
            is_scaled=True,
        )
        np.save(folder / "errors.npy", errors)

    return cached("checked", f"{max_pixels}\n{stamps(files)}", make)["errors"]


def _read_anew(files: Sequence[Path], preprocessing: Preprocessing, max_pixels: int, chosen: np.ndarray) -> np.ndarray:
    """Decode the chosen files; raises the error of the first unreadable one."""
    images = np.empty((len(chosen), *preprocessing.size, preprocessing.channels), np.uint8)
    for chunk, results in read_images([files[int(i)] for i in chosen], preprocessing, max_pixels=max_pixels):
        for index, result in enumerate(results, chunk.start):
            if isinstance(result, Exception):
                raise result
            images[index] = result
    return images


def _make_decode(
    files: Sequence[Path], preprocessing: Preprocessing, random_crop: tuple[float, float] | None, max_pixels: int
) -> Decode:
    """Return a function that decodes one file for training, and crops it at random if given a generator."""

    def decode(index: int, rng: np.random.Generator | None) -> np.ndarray:
        part = None
        if rng is not None and random_crop is not None:
            part = functools.partial(random_part, area_range=random_crop, rng=rng)
        return read_image(files[index], preprocessing, part=part, is_scaled=True, max_pixels=max_pixels)

    return decode


def read_files(
    files: Sequence[Path],
    targets: np.ndarray,
    preprocessing: Preprocessing,
    *,
    kind: Kind,
    name: str,
    on_bad_image: str,
    groups: np.ndarray | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
    stream: bool = False,
    random_crop: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Split:
    """Read image files into a split.

    Args:
        files: image files, N.
        targets: targets of `kind`, [N] or [N, T].
        preprocessing: size, channels, crop and interpolation to decode to.
        kind: type of the targets.
        name: name of the split, for messages.
        on_bad_image: "error" raises ValueError for an unreadable file, "skip" warns and leaves it out.
        groups: group number per file, [N]; rows of one group stay in one split.
        columns: what else is known of each file, strings [N] by name.
        stream: decode at each use instead of once into the cache; files are still checked now.
        random_crop: range of the crop's fraction of the area; training then decodes at each use and crops at random.
        max_pixels: the largest number of pixels of a file; one with more is unreadable.
    """
    if stream:
        messages = _errors_of(files, preprocessing, name, max_pixels)
        read = functools.partial(_read_anew, files, preprocessing, max_pixels)
    else:
        images, messages = _decoded(files, preprocessing, name, max_pixels)
        read = images.__getitem__
    errors = [str(message) for message in messages[messages != ""]]
    if errors and on_bad_image == "error":
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ValueError(f"{errors[0]}{more}; repair or remove it, or use --on_bad_image=skip")
    if errors:
        warnings.warn(UnreadableImages(name, errors), stacklevel=2)
    decode = _make_decode(files, preprocessing, random_crop, max_pixels) if stream or random_crop else None
    split = Split(
        read,
        targets,
        kind=kind,
        names=[str(file) for file in files],
        groups=groups,
        columns=columns or {},
        decode=decode,
        is_random=bool(random_crop),
    )
    return split.select(np.flatnonzero(messages == "")) if errors else split
