"""Compare the preprocessing of evaluation with timm's and torchvision's, pixel by pixel.

Needs the extra `parity`. Each function returns rows of (quantity, reference, largest difference), in levels of 0..255;
`python scripts/numerics_preprocessing.py` prints them.
"""

from __future__ import annotations

import importlib
import io
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import parity
from PIL import Image

from jaxvision.image_decoding import read_image
from jaxvision.interfaces import Crop, Interpolation, Preprocessing

Row = tuple[str, str, float]
SIZES = ((500, 375), (375, 500), (331, 467), (1023, 767), (160, 213), (225, 1001))  # (width, height) of photographs
INPUTS: tuple[tuple[int, int], ...] = ((224, 224), (256, 256), (299, 299), (384, 384), (224, 320))  # (height, width)
CROPS = (0.875, 0.9, 0.95, 1.0)
INTERPOLATIONS: tuple[Interpolation, ...] = ("bilinear", "bicubic", "nearest")
LARGE = (2000, 1500)  # of the JPEG whose decoder scales


def photograph(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """Return an image with smooth colors and fine grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + rng.integers(-20, 21, smooth.shape)).clip(0, 255).astype(np.uint8))


def _wanted(size: tuple[int, int], crop: Crop, interpolation: Interpolation) -> Preprocessing:
    return Preprocessing(size, 3, (0.0,) * 3, (1.0,) * 3, crop, interpolation)


def _timms(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Return what timm's transform for evaluation makes of an image."""
    parity.import_torchvision()  # timm imports it
    factory: Any = importlib.import_module("timm.data.transforms_factory")
    modes: dict[Crop, str] = {"pad": "border", None: "squash"}
    mode = modes.get(preprocessing.crop, "center")
    transform = factory.transforms_imagenet_eval(
        preprocessing.size,
        crop_pct=preprocessing.crop if mode == "center" else 1.0,
        crop_mode=mode,
        interpolation=preprocessing.interpolation,
        normalize=False,
    )
    return transform(image).numpy().transpose(1, 2, 0).astype(int)


def _torchvisions(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Return what torchvision's presets for classification make of an image: `Resize`, then `CenterCrop`."""
    transforms = parity.import_torchvision().transforms
    assert isinstance(preprocessing.crop, float)
    short = int(preprocessing.size[0] / preprocessing.crop)
    mode = transforms.InterpolationMode(preprocessing.interpolation)
    both = transforms.Compose([transforms.Resize(short, mode), transforms.CenterCrop(preprocessing.size)])
    return np.asarray(both(image)).astype(int)


def _largest(cases: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    return float(max(np.abs(ours - theirs).max() for ours, theirs in cases))


def _cases(
    inputs: Iterable[tuple[int, int]], crops: Iterable[Any], interpolation: Interpolation, reference: Any
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            image, file = photograph(width, height), Path(folder) / "image.png"
            image.save(file, compress_level=1)
            for size, crop in itertools.product(inputs, crops):
                preprocessing = _wanted(size, crop, interpolation)
                yield read_image(file, preprocessing).astype(int), reference(image, preprocessing)


def resizing_rows() -> list[Row]:
    """Compare resizing and cropping for all sizes, crops and interpolations, with full decoding."""
    square = [size for size in INPUTS if size[0] == size[1]]
    rows: list[Row] = []
    for each in INTERPOLATIONS:
        crops = f"short side, crops {min(CROPS)} to {max(CROPS)}, {each}"
        rows.append((crops, "timm transforms_imagenet_eval", _largest(_cases(INPUTS, CROPS, each, _timms))))
        rows.append((crops, "torchvision Resize, CenterCrop", _largest(_cases(square, CROPS, each, _torchvisions))))
        rows.append((f"squash, {each}", "timm crop_mode=squash", _largest(_cases(INPUTS, [None], each, _timms))))
        rows.append((f"pad, {each}", "timm crop_mode=border", _largest(_cases(INPUTS, ["pad"], each, _timms))))
    return rows


def scaled_decoding_rows() -> list[Row]:
    """Compare the JPEG decoder's own scaling, which only training uses, with full decoding: mean and largest."""
    content = io.BytesIO()
    photograph(*LARGE).save(content, "JPEG", quality=90)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.jpg"
        file.write_bytes(content.getvalue())
        for size, interpolation in itertools.product(((64, 64), (128, 128), (224, 224)), ("bilinear", "bicubic")):
            preprocessing = _wanted(size, 1.0, interpolation)
            full = read_image(file, preprocessing).astype(int)
            difference = np.abs(read_image(file, preprocessing, is_scaled=True) - full)
            name = f"scaled JPEG decoding in training, {LARGE[0]} x {LARGE[1]} to {size[0]}, {interpolation}"
            rows += [(f"{name}, mean", "full decoding", float(difference.mean()))]
            rows += [(f"{name}, largest", "full decoding", float(difference.max()))]
    return rows


def rows() -> list[tuple[str, str, str]]:
    """Return all comparisons, with their differences as text."""
    return [(name, source, f"{most:.3g} levels") for name, source, most in (*resizing_rows(), *scaled_decoding_rows())]


if __name__ == "__main__":
    for quantity, reference, difference in rows():
        print(f"| {quantity} | {reference} | {difference} |")
