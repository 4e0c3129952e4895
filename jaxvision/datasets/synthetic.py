"""Generated images for tests, benchmarks, and checks that an architecture can learn."""

from __future__ import annotations

import numpy as np

from jaxvision.datasets import register
from jaxvision.interfaces import Dataset, Preprocessing, Split
from jaxvision.machine import require_memory
from jaxvision.splits import holdout, statistics_of


@register("synthetic")
def synthetic(
    *,
    num_classes: int = 10,
    num_examples: int = 1000,
    image_size: int = 32,
    channels: int = 3,
    noise: float = 0.2,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """Generate learnable random images: a smooth random pattern per class, plus noise.

    Args:
        num_classes: number of classes, 2 or more.
        num_examples: number of examples, at least 2 per class.
        image_size: side in pixels.
        channels: 1 or 3.
        noise: standard deviation of the noise, with pixels in 0..1.
        test_fraction: fraction of each class held out as test.
        split_seed: seed of the split.

    Raises:
        ValueError: if an argument is out of range.
    """
    if num_classes < 2 or num_examples < 2 * num_classes:
        raise ValueError(
            f"synthetic: num_examples={num_examples}, num_classes={num_classes}; expected 2 or more classes and 2 or "
            "more examples per class"
        )
    if image_size < 1 or channels not in (1, 3) or noise < 0:
        raise ValueError(
            f"synthetic: image_size={image_size}, channels={channels}, noise={noise}; "
            "expected at least 1 pixel, 1 or 3 channels, and noise of 0 or more"
        )
    need = 24 * max(num_examples, num_classes) * image_size**2 * channels  # three arrays of float64 at once
    require_memory(need, f"synthetic: num_examples={num_examples}, image_size={image_size}")
    rng = np.random.default_rng(0)
    cells = -(-image_size // 4)
    patterns = rng.random((num_classes, cells, cells, channels)).repeat(4, axis=1).repeat(4, axis=2)
    targets = (np.arange(num_examples) % num_classes).astype(np.int32)
    images = patterns[targets, :image_size, :image_size] + noise * rng.standard_normal(
        (num_examples, image_size, image_size, channels)
    )
    images = (255 * images.clip(0, 1)).astype(np.uint8)
    train, test = holdout(Split.of(images, targets, kind="multiclass"), test_fraction, seed=split_seed)
    mean, std = statistics_of(train)
    preprocessing = Preprocessing((image_size, image_size), channels, mean, std)
    return Dataset(train, None, test, tuple(f"class {i}" for i in range(num_classes)), preprocessing)
