"""Image files with their targets -> a split: decoded once, kept in the cache; what several datasets share."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from jaxvision.datasets.cache import cached
from jaxvision.images import UnreadableImages, read_images
from jaxvision.interfaces import Preprocessing, Split


def _decode(files: list[Path], preprocessing: Preprocessing, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Gives the images [N, H, W, C], which of them could be read, and why the others could not."""
    shape = {k: v for k, v in asdict(preprocessing).items() if k not in ("mean", "std")}
    stats = [p.stat() for p in files]
    key = "\n".join([str(shape), *(f"{p} {s.st_size} {s.st_mtime_ns}" for p, s in zip(files, stats, strict=True))])

    def make(folder: Path) -> None:
        from tqdm import tqdm

        size = (len(files), *preprocessing.size, preprocessing.channels)
        images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, size)
        errors = np.zeros(len(files), object)
        with tqdm(total=size[0], desc=f"decoding {name}", unit="img", disable=not sys.stderr.isatty()) as bar:
            for chunk, results in read_images(files, preprocessing, advance=bar.update):
                for index, result in enumerate(results, chunk.start):
                    if isinstance(result, OSError):  # not the file's own fault, so nothing to remember of it
                        raise result
                    if isinstance(result, Exception):
                        errors[index] = str(result)
                    else:
                        images[index] = result
        images.flush()
        np.save(folder / "errors.npy", np.array([e or "" for e in errors], np.str_))

    arrays = cached("folder", key, make)
    good = arrays["errors"] == ""
    return arrays["images"], good, [str(e) for e in arrays["errors"][~good]]


def read_files(
    files: Sequence[Path],
    targets: np.ndarray,
    preprocessing: Preprocessing,
    *,
    name: str,
    on_bad_image: str,
    groups: np.ndarray | None = None,
) -> Split:
    """Reads files into the split of a name. Raises ValueError for one that is unreadable, or warns and skips it."""
    images, good, errors = _decode(list(files), preprocessing, name)
    if errors and on_bad_image == "error":
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ValueError(f"{errors[0]}{more}; mend or remove it, or --on_bad_image=skip")
    if errors:
        warnings.warn(UnreadableImages(name, errors), stacklevel=2)
    split = Split(lambda chosen: images[chosen], targets, [str(file) for file in files], groups)
    return split.take(np.flatnonzero(good)) if errors else split
