"""Find near-duplicate images within and across splits, by hashes and thumbnails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxvision.engine import logs
from jaxvision.interfaces import Split

MOST_BITS = 3  # maximum number of differing hash bits, of 64
MOST_DIFFERENCE = 0.01  # maximum mean squared difference of standardized thumbnails
THUMBNAIL = 16  # pixels a side
NUM_LISTED = 1000  # pairs in the report
CHUNK = 256


class Pair(NamedTuple):
    """Two similar examples as (split, index), and the mean squared difference of their thumbnails."""

    one: tuple[str, int]
    other: tuple[str, int]
    difference: float


def near_duplicates(splits: dict[str, Split]) -> list[Pair]:
    """Find the pairs of near-duplicate images, the most similar first."""
    places = [(name, index) for name, split in splits.items() for index in range(len(split))]
    hashes, thumbnails = (np.concatenate(chunks) for chunks in zip(*_looked_at(splits), strict=True))
    thumbnails -= thumbnails.mean(axis=1, keepdims=True)
    thumbnails /= np.maximum(thumbnails.std(axis=1, keepdims=True), 1)
    pairs = []
    with logs.progress(len(places), "compare") as bar:
        for start in range(0, len(places), CHUNK):
            rows = hashes[start : start + CHUNK]
            close = np.bitwise_count(rows[:, None] ^ hashes[None, start:]) <= MOST_BITS
            ones, others = np.nonzero(np.triu(close, 1))
            ones, others = ones + start, others + start
            differences = ((thumbnails[ones] - thumbnails[others]) ** 2).mean(axis=1)
            alike = np.flatnonzero(differences <= MOST_DIFFERENCE)
            pairs += [Pair(places[ones[i]], places[others[i]], float(differences[i])) for i in alike]
            bar.update(len(rows))
    return sorted(pairs, key=lambda pair: pair.difference)


def _looked_at(splits: dict[str, Split]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Yield the hashes, uint64 [n], and thumbnails, float32 [n, pixels], of all images in chunks."""
    from PIL import Image

    for split in splits.values():
        for start in range(0, len(split), CHUNK):
            hashes, thumbnails = [], []
            for image in split.read(np.arange(start, min(start + CHUNK, len(split)))):
                pixels = image if image.dtype == np.uint8 else np.round(255 * image).astype(np.uint8)
                pil_image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
                gray = np.asarray(pil_image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
                bits = np.packbits((np.diff(gray, axis=1) > 0).ravel())
                hashes.append(bits.view(np.uint64)[0])
                small = pil_image.convert("RGB").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
                thumbnails.append(np.asarray(small, np.float32).ravel())
            yield np.array(hashes, np.uint64), np.array(thumbnails)


def name_of(place: tuple[str, int], splits: dict[str, Split]) -> str:
    """Return the name of an example: its file, or its split and index."""
    split = splits[place[0]]
    return str(split.names[place[1]]) if len(split.names) else f"{place[0]} {place[1]}"


def describe_pairs(pairs: Sequence[Pair], splits: dict[str, Split]) -> dict[str, Any]:
    """Count the pairs within and across splits and those with different targets, and list them by name."""
    across = Counter(" and ".join(sorted({pair.one[0], pair.other[0]})) for pair in pairs)
    listed = [
        {
            "one": name_of(pair.one, splits),
            "other": name_of(pair.other, splits),
            "splits": [pair.one[0], pair.other[0]],
            "same_target": _same_target(pair, splits),
            "difference": round(pair.difference, 4),
        }
        for pair in pairs[:NUM_LISTED]
    ]
    return {
        "num_near_duplicates": len(pairs),
        "near_duplicates_by_splits": dict(across.most_common()),
        "num_leaks": sum(pair.one[0] != pair.other[0] for pair in pairs),
        "num_of_other_targets": sum(not _same_target(pair, splits) for pair in pairs),
        "near_duplicates": listed,
    }


def _same_target(pair: Pair, splits: dict[str, Split]) -> bool:
    one, other = (splits[name].targets[index] for name, index in (pair.one, pair.other))
    return bool(np.array_equal(one, other))
