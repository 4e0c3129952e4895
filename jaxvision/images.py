"""Convert arrays of pixels to the input of a `Preprocessing`, on the host."""

from __future__ import annotations

import numpy as np

from jaxvision.interfaces import Preprocessing

# Mean and standard deviation of ImageNet's training pixels in 0..1, as published by torchvision.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def from_array(array: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Convert an image [H, W], [H, W, 1] or [H, W, 3], uint8 or float in 0..1, to the preprocessing's format."""
    array = np.asarray(array)
    if array.shape == (*preprocessing.size, preprocessing.channels) and preprocessing.crop in (None, 1.0, "pad"):
        return array
    from jaxvision.resizing import fit_array

    return fit_array(array, preprocessing)
