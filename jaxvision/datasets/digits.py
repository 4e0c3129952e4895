"""The 1,797 handwritten digits included in scikit-learn; no download needed."""

from __future__ import annotations

import numpy as np

from jaxvision.datasets import register
from jaxvision.interfaces import Dataset, Preprocessing, Split
from jaxvision.machine import require_memory
from jaxvision.splits import holdout, statistics_of


@register("digits", input_size=(32, 32, 1), num_classes=10)
def digits(*, image_size: int = 32, test_fraction: float = 0.2, split_seed: int = 0) -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits, 8x8 grayscale, resized to image_size.

    A stratified test_fraction is held out as test. Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten
    Digits, UCI Machine Learning Repository, 1998.
    """
    if image_size < 1:
        raise ValueError(f"digits: image_size={image_size}; expected at least 1 pixel")
    if image_size > 512:  # smaller ones take less than 1 GiB
        require_memory(2 * 1797 * image_size**2, f"digits: image_size={image_size}")
    from PIL import Image
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    small = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # stored as 0..16
    size = (image_size, image_size)
    resized = [Image.fromarray(image).resize(size, Image.Resampling.BICUBIC) for image in small]
    images = np.stack([np.asarray(image)[..., None] for image in resized])
    names = [f"digit {index}" for index in range(len(targets))]
    whole = Split.of(images, targets.astype(np.int32), kind="multiclass", names=names)
    train, test = holdout(whole, test_fraction, seed=split_seed)
    mean, std = statistics_of(train)
    preprocessing = Preprocessing(size, 1, mean, std, interpolation="bicubic")
    return Dataset(train, None, test, tuple("0123456789"), preprocessing)
