"""The verb dataset_report: a data set, before anyone trains -> counts, sizes, what is unreadable or there twice."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision import images, logs, pictures
from jaxvision import run as runs
from jaxvision.config import Config, write_json
from jaxvision.interfaces import Dataset, Split, Targets

FILE = "report.json"
PICTURES = ("counts.png", "histogram.png", "series.png", "samples.png", "near_duplicates.png")
MOST_BITS = 3  # of 64 in which the hashes of near-duplicates differ
MOST_DIFFERENCE = 0.01  # of their thumbnails, squared, whose mean is 0 and variance 1
THUMBNAIL = 16  # pixels a side
NUM_SHOWN = 16  # pairs in the picture
NUM_LISTED = 1000  # pairs in the report
NUM_TOLD = 5  # lines of one kind in the terminal
CHUNK = 256
QUARTILES = ("least", "lower_quartile", "median", "upper_quartile", "largest")


class Pair(NamedTuple):
    """Two examples that look alike, by (split, index), and the mean squared difference of their thumbnails."""

    one: tuple[str, int]
    other: tuple[str, int]
    difference: float


def dataset_report(
    config: Config,
    *,
    folder: str | Path = "dataset_report",
    data_dir: str | None = None,
    dataset: Any = None,
) -> dict[str, Any]:
    """Counts and measures a data set and looks for near-duplicates; writes report.json and pictures, gives the report.

    Images are alike whose difference hashes (each pixel of 9 x 8 against its right neighbour) differ in at most 3 of
    64 bits, and whose thumbnails, brought to one mean and variance, differ by at most a hundredth: the same picture in
    another size, file or brightness. Pairs across splits leak; pairs of other targets are mislabelled or ambiguous.
    Unreadable files are listed, not raised. Raises ValueError where the folder holds other things than an
    earlier report.
    """
    place = Path(folder).expanduser()
    _check(place)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        data = runs.open_dataset(config.replace(on_bad_image="skip"), data_dir=data_dir, dataset=dataset)
    unreadable = []
    for message in (each.message for each in told):
        if isinstance(message, images.UnreadableImages):
            unreadable += message.errors
        else:
            warnings.warn(message, stacklevel=2)
    splits = runs.splits(data)
    report: dict[str, Any] = {
        "dataset": config.dataset,
        "splits": {name: _described(split, data) for name, split in splits.items()},
        "unreadable": unreadable,
    }
    pairs = near_duplicates(splits) if len(data.preprocessing.size) == 2 else None
    if pairs is not None:
        report |= _told(pairs, splits)
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / FILE, report)  # first: by it the folder is known
    for name in PICTURES:
        (place / name).unlink(missing_ok=True)
    _draw_targets(place, splits, data.classes)
    if pairs is not None:
        _draw_images(place, splits, data.classes, pairs)
    return report


def _check(place: Path) -> None:
    """Raises ValueError where there is something else than an empty folder or an earlier report of a data set."""
    if not place.exists() or _is_report(place / FILE):
        return
    if not place.is_dir() or any(file.name != f".{FILE}.tmp" for file in place.iterdir()):
        what = "holds other things than a dataset_report" if place.is_dir() else "is a file"
        raise ValueError(f"{str(place)!r} {what}; give a new or empty folder as --out")


def _is_report(file: Path) -> bool:
    """Says whether a file is the report of a data set: other verbs write a report.json too."""
    try:
        return {"dataset", "splits", "unreadable"} <= set(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return False


def _described(split: Split, data: Dataset) -> dict[str, Any]:
    """Counts a split's examples, counts or measures its targets, and gives the sizes and modes of its files."""
    found: dict[str, Any] = {"num_examples": len(split)}
    if split.ordered:
        found["window"] = data.preprocessing.size[0]
        if len(split.names):
            found["span"] = [str(split.names[0]), str(split.names[-1])]
    if split.kind == "numbers":
        found["targets"] = _spread(_numbers(split))
    else:
        found["counts"] = dict(zip(data.classes, Targets.of(split, len(data.classes)).counts, strict=True))
    files = [Path(str(name)) for name in split.names]
    if files and all(map(images.is_image, files[:10])):
        found |= _measured(files)
    return found


def _numbers(split: Split) -> np.ndarray:
    """Gives the targets as they are judged: of a series its values, not their changes."""
    return split.judged(split.targets)[0].astype(np.float64)


def _spread(values: np.ndarray) -> dict[str, float]:
    quartiles = dict(zip(QUARTILES, np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist(), strict=True))
    return {**quartiles, "mean": float(values.mean()), "standard_deviation": float(values.std())}


def _measured(files: Sequence[Path]) -> dict[str, Any]:
    """Reads the heads of image files: their modes, formats and sizes in pixels."""
    from PIL import Image

    modes, formats, found = Counter(), Counter(), []
    for file in files:
        with Image.open(file) as image:
            modes[image.mode] += 1
            formats[str(image.format)] += 1
            found.append(image.size)
    width, height = np.array(found).T
    sizes = {"least": np.min, "median": np.median, "largest": np.max}
    return {
        "modes": dict(modes.most_common()),
        "formats": dict(formats.most_common()),
        "sizes": {name: [int(measure(width)), int(measure(height))] for name, measure in sizes.items()},
    }


def near_duplicates(splits: dict[str, Split]) -> list[Pair]:
    """Finds the pairs of images that look alike, the most alike first."""
    places = [(name, index) for name, split in splits.items() for index in range(len(split))]
    hashes, thumbnails = (np.concatenate(each) for each in zip(*_looked_at(splits), strict=True))
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
    """Gives the hashes, uint64 [n], and thumbnails, float32 [n, pixels], of chunks of all images."""
    from PIL import Image

    for split in splits.values():
        for start in range(0, len(split), CHUNK):
            hashes, thumbnails = [], []
            for image in split.read(np.arange(start, min(start + CHUNK, len(split)))):
                pixels = image if image.dtype == np.uint8 else np.round(255 * image).astype(np.uint8)
                picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
                grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
                bits = np.packbits((np.diff(grey, axis=1) > 0).ravel())
                hashes.append(bits.view(np.uint64)[0])
                small = picture.convert("RGB").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
                thumbnails.append(np.asarray(small, np.float32).ravel())
            yield np.array(hashes, np.uint64), np.array(thumbnails)


def _name(place: tuple[str, int], splits: dict[str, Split]) -> str:
    split = splits[place[0]]
    return str(split.names[place[1]]) if len(split.names) else f"{place[0]} {place[1]}"


def _told(pairs: Sequence[Pair], splits: dict[str, Split]) -> dict[str, Any]:
    """Counts pairs within and across splits and of other targets, and lists them by name."""
    across = Counter(" and ".join(sorted({pair.one[0], pair.other[0]})) for pair in pairs)
    listed = [
        {
            "one": _name(pair.one, splits),
            "other": _name(pair.other, splits),
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


def _draw_targets(folder: Path, splits: dict[str, Split], classes: Sequence[str]) -> None:
    """Draws the counts of classes or tags, a series by its steps, or how other numbers spread."""
    train = splits["train"]
    if train.kind != "numbers":
        counts = {name: Targets.of(split, len(classes)).counts for name, split in splits.items()}
        pictures.counts(counts, classes, folder / "counts.png")
        return
    numbers = {name: _numbers(split) for name, split in splits.items()}
    if train.ordered:
        pictures.series(numbers, [name for split in splits.values() for name in split.names], folder / "series.png")
    else:
        pictures.histogram(numbers, folder / "histogram.png")


def _draw_images(folder: Path, splits: dict[str, Split], classes: Sequence[str], pairs: Sequence[Pair]) -> None:
    """Draws a sample of train, and the pairs that look most alike, those across splits first."""
    train = splits["train"]
    chosen = _sample(train)
    pictures.images(train.read(chosen), [_target(train, int(i), classes) for i in chosen], folder / "samples.png")
    shown = sorted(pairs, key=lambda pair: (pair.one[0] == pair.other[0], pair.difference))[:NUM_SHOWN]
    if shown:
        places = [place for pair in shown for place in (pair.one, pair.other)]
        found = np.stack([splits[name].read(np.array([index]))[0] for name, index in places])
        captions = [_caption(place, splits, classes) for place in places]
        pictures.images(found, captions, folder / "near_duplicates.png", columns=8)


def _caption(place: tuple[str, int], splits: dict[str, Split], classes: Sequence[str]) -> str:
    """Says an example's split, its target and, where it has a name, its file."""
    split = splits[place[0]]
    caption = f"{place[0]}\n{_target(split, place[1], classes)}"
    return f"{caption}\n{pictures.shortened(Path(_name(place, splits)).name)}" if len(split.names) else caption


def _sample(split: Split, *, num_images: int = 40) -> np.ndarray:
    """Chooses examples to show: of classes the first few of each in turn, else evenly spread."""
    if split.kind != "classes":
        return np.linspace(0, len(split) - 1, min(num_images, len(split)), dtype=int)
    rank = np.zeros(len(split), int)
    for target in np.unique(split.targets):
        members = np.flatnonzero(split.targets == target)
        rank[members] = np.arange(len(members))
    return np.lexsort((split.targets, rank))[:num_images]


def _target(split: Split, index: int, classes: Sequence[str]) -> str:
    target = split.targets[index]
    if split.kind == "classes":
        return classes[int(target)]
    if split.kind == "numbers":
        return f"{float(target):.4g}"
    return "\n".join(str(classes[i]).rpartition("=")[2] for i in np.flatnonzero(target)[:4])


def text(report: dict[str, Any]) -> str:
    """Writes the report as a table for the terminal."""
    splits = report["splits"]
    rows = list(zip(*map(_rows, splits.values()), strict=True))
    width = max(14, *(len(row[0][0]) for row in rows))
    lines = [f"{'':{width}} " + " ".join(f"{name:>10}" for name in splits)]
    lines += [f"{row[0][0]:{width}} " + " ".join(f"{figure:>10}" for _, figure in row) for row in rows]
    for name, split in splits.items():
        if "window" in split:
            span = f", followed by {' to '.join(split['span'])}" if "span" in split else ""
            windows = _counted(split["num_examples"], "window")
            lines.append(f"{name}: {windows} of {_counted(split['window'], 'step')}{span}")
        if "sizes" in split:
            least, median, largest = ("x".join(map(str, size)) for size in split["sizes"].values())
            modes = ", ".join(f"{count:,} {mode}" for mode, count in split["modes"].items())
            lines.append(f"{name}: {least} to {largest} pixels, median {median}; {modes}")
    unreadable = report["unreadable"]
    lines.append(f"unreadable: {_counted(len(unreadable), 'image') if unreadable else 'none'}")
    lines += _first(unreadable, len(unreadable))
    if "num_near_duplicates" in report:
        lines.append(
            f"near-duplicates: {_counted(report['num_near_duplicates'], 'pair')}, {report['num_leaks']:,} of them "
            f"across splits, {report['num_of_other_targets']:,} of other targets"
        )
        leaks = [each for each in report["near_duplicates"] if len(set(each["splits"])) == 2]
        told = [f"{each['one']} in {each['splits'][0]} and {each['other']} in {each['splits'][1]}" for each in leaks]
        lines += _first(told, report["num_leaks"])
    return "\n".join(lines)


def _rows(split: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and writes the counts of a split, or the figures of its numbers, and last how many examples there are."""
    figures = [(name.replace("_", " "), f"{value:.4g}") for name, value in split.get("targets", {}).items()]
    counts = [(name, f"{count:,}") for name, count in split.get("counts", {}).items()]
    return [*figures, *counts, ("all", f"{split['num_examples']:,}")]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _first(lines: Sequence[str], count: int) -> list[str]:
    """Indents the first few of so many lines, and says how many more there are."""
    shown = [f"  {line}" for line in lines[:NUM_TOLD]]
    return shown + [f"  and {count - len(shown):,} more"] * (count > len(shown))
