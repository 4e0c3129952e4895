"""Which images to label next: those that a classifier is least sure about, and that differ from each other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxvision import failures, features, linear_head
from jaxvision.features import Backbone
from jaxvision.image_files import UnreadableImages, read_image, read_images
from jaxvision.interfaces import Preprocessing, Split
from jaxvision.linear_head import LinearHead
from jaxvision.reports import plots
from jaxvision.reports.prediction_table import TEXT, writer

CANDIDATES = 5  # times the number of images that are wanted, by uncertainty; different ones of these are taken
FILE, PICTURE = "label_next.csv", "label_next.png"
NUM_DRAWN = 25


def margins(probabilities: np.ndarray) -> np.ndarray:
    """Return by how much the most probable class of each row [N, C] exceeds the second: small if it is unsure."""
    ordered = np.sort(probabilities, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def choose(pooled: np.ndarray, probabilities: np.ndarray, count: int) -> np.ndarray:
    """Return the positions of `count` images, the most informative first.

    Of the images with the smallest margins, the farthest from those taken so far is taken next, by the cosine of their
    features (the greedy k-center rule of O. Sener and S. Savarese, Active Learning for CNNs, ICLR 2018, section 4.1).

    Args:
        pooled: Features, [N, D].
        probabilities: Of the classes, [N, C].
        count: How many; all if there are fewer.
    """
    unsure = np.argsort(margins(probabilities), kind="stable")[: CANDIDATES * count]
    directions = pooled[unsure] / np.maximum(np.linalg.norm(pooled[unsure], axis=1, keepdims=True), 1e-12)
    taken = [0]
    closest = directions @ directions[0]
    while len(taken) < min(count, len(unsure)):
        closest[taken] = np.inf
        taken.append(int(np.argmin(closest)))
        closest = np.maximum(closest, directions @ directions[taken[-1]])
    return unsure[taken]


def label_next(
    files: Sequence[str],
    backbone: Backbone,
    head: LinearHead,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    *,
    count: int,
    out: Path,
) -> int:
    """Write which images to label next, label_next.csv and a picture of the first; return their number.

    The rows are the file, the most probable class with its probability, and the margin to the second. Warns about
    unreadable images.

    Args:
        files: Images without labels.
        backbone: The model whose features are used.
        head: The linear head on them.
        classes: Names of the outputs of the head.
        preprocessing: Size, crop and normalization of the head's training images.
        count: How many images to name.
        out: Folder to write to.
    """
    files, errors = _readable(files, preprocessing)
    if errors:
        warnings.warn(UnreadableImages("unlabeled", errors), stacklevel=2)
    if not files:
        raise ValueError(failures.none_readable(len(errors), errors[0]))

    def read(chosen: np.ndarray) -> np.ndarray:
        return np.stack([read_image(files[int(i)], preprocessing) for i in chosen])

    split = Split(read, np.zeros(len(files), np.int32), kind="multiclass", names=files)
    pooled = features.features_of(backbone, split, preprocessing, doing="features of unlabeled images")
    probabilities = np.exp(linear_head.log_probabilities(head, pooled))
    chosen, unsure = choose(pooled, probabilities, count), margins(probabilities)
    rows = [
        (str(files[i]), str(classes[best]), f"{probabilities[i, best]:.4f}", f"{unsure[i]:.4f}")
        for i, best in zip(chosen, probabilities[chosen].argmax(axis=1), strict=True)
    ]
    with open(out / FILE, "w", **TEXT) as stream:
        writer(stream).writerows([("file", "predicted", "probability", "margin"), *rows])
    captions = [
        f"{plots.shortened(row[1], length=17)} ({float(row[2]):.0%})\n{Path(row[0]).name[-20:]}" for row in rows
    ]
    plots.images(read(chosen[:NUM_DRAWN]), captions[:NUM_DRAWN], out / PICTURE)
    return len(rows)


def _readable(files: Sequence[str], preprocessing: Preprocessing) -> tuple[list[str], list[str]]:
    """Return the files that can be decoded, and the errors of the others. Raises OSError for one of the system."""
    readable, errors = [], []
    for chunk, results in read_images(files, preprocessing):
        for file, result in zip(files[chunk], results, strict=True):
            if isinstance(result, OSError):
                raise result
            if isinstance(result, Exception):
                errors.append(str(result))
            else:
                readable.append(file)
    return readable, errors
