"""The verb dataset_report: a data set, before anyone trains -> counts, sizes, what is unreadable or there twice."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import data as datas
from jaxvision import image_files, storage
from jaxvision.config import Config
from jaxvision.interfaces import Dataset, Split
from jaxvision.near_duplicates import Pair, describe_pairs, name_of, near_duplicates
from jaxvision.reports import plots
from jaxvision.splits import measure_targets

FILE = "report.json"
PICTURES = ("counts.png", "histogram.png", "series.png", "samples.png", "near_duplicates.png")
NUM_SHOWN = 16  # pairs in the picture
NUM_TOLD = 5  # lines of one kind in the terminal
QUARTILES = ("least", "lower_quartile", "median", "upper_quartile", "largest")


def dataset_report(
    config: Config,
    *,
    folder: str | Path = "dataset_report",
    data_dir: str | None = None,
    dataset: Any = None,
) -> dict[str, Any]:
    """Count and measure a data set, look for near-duplicates, write report.json and pictures; return the report.

    Images are alike whose difference hashes (each pixel of 9 x 8 against its right neighbour) differ in at most 3 of
    64 bits, and whose thumbnails, brought to one mean and variance, differ by at most a hundredth: the same picture in
    another size, file or brightness. Pairs across splits leak; pairs of other targets are mislabelled or ambiguous.
    Unreadable files are listed, not raised. Raise ValueError where the folder holds other things than an
    earlier report.
    """
    place = Path(folder).expanduser()
    _check(place)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        data = datas.open_dataset(config.replace(on_bad_image="skip"), data_dir=data_dir, dataset=dataset)
    unreadable = []
    for message in (each.message for each in told):
        if isinstance(message, image_files.UnreadableImages):
            unreadable += message.errors
        else:
            warnings.warn(message, stacklevel=2)
    splits = datas.splits_of(data)
    report: dict[str, Any] = {
        "dataset": config.dataset,
        "splits": {name: _described(split, data) for name, split in splits.items()},
        "unreadable": unreadable,
    }
    pairs = near_duplicates(splits) if data.preprocessing.is_image else None
    if pairs is not None:
        report |= describe_pairs(pairs, splits)
    place.mkdir(parents=True, exist_ok=True)
    storage.write_json(place / FILE, report)  # first: by it the folder is known
    for name in PICTURES:
        (place / name).unlink(missing_ok=True)
    _draw_targets(place, splits, data.classes)
    if pairs is not None:
        _draw_images(place, splits, data.classes, pairs)
    return report


def _check(place: Path) -> None:
    """Raise ValueError where there is something else than an empty folder or an earlier report of a data set."""
    if not place.exists() or _is_report(place / FILE):
        return
    if storage.foreign_files(place, (storage.temporary(Path(FILE)).name,)):  # a report.json of another verb is not ours
        what = "holds other things than a dataset_report" if place.is_dir() else "is a file"
        raise ValueError(f"{str(place)!r} {what}; give a new or empty folder as --out")


def _is_report(file: Path) -> bool:
    """Return whether a file is the report of a data set: other verbs write a report.json too."""
    try:
        return {"dataset", "splits", "unreadable"} <= set(storage.read_json(file))
    except (OSError, ValueError):
        return False


def _described(split: Split, data: Dataset) -> dict[str, Any]:
    """Count a split's examples, count or measure its targets, and the sizes and modes of its files."""
    found: dict[str, Any] = {"num_examples": len(split)}
    if split.ordered:
        found["window"] = data.preprocessing.size[0]
        if len(split.names):
            found["span"] = [str(split.names[0]), str(split.names[-1])]
    if split.kind == "numbers":
        found["targets"] = _spread(_numbers(split))
    else:
        found["counts"] = dict(zip(data.classes, measure_targets(split, len(data.classes)).counts, strict=True))
    files = [Path(str(name)) for name in split.names]
    if files and all(map(image_files.is_image, files[:10])):
        found |= image_files.measure_files(files)
    return found


def _numbers(split: Split) -> np.ndarray:
    """Return the targets as they are judged: of a series its values, not their changes."""
    return split.judged(split.targets)[0].astype(np.float64)


def _spread(values: np.ndarray) -> dict[str, float]:
    quartiles = dict(zip(QUARTILES, np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist(), strict=True))
    return {**quartiles, "mean": float(values.mean()), "standard_deviation": float(values.std())}


def _draw_targets(folder: Path, splits: dict[str, Split], classes: Sequence[str]) -> None:
    """Draw the counts of classes or tags, a series by its steps, or how other numbers spread."""
    train = splits["train"]
    if train.kind != "numbers":
        counts = {name: measure_targets(split, len(classes)).counts for name, split in splits.items()}
        plots.counts(counts, classes, folder / "counts.png")
        return
    numbers = {name: _numbers(split) for name, split in splits.items()}
    if train.ordered:
        plots.series(numbers, [name for split in splits.values() for name in split.names], folder / "series.png")
    else:
        plots.histogram(numbers, folder / "histogram.png")


def _draw_images(folder: Path, splits: dict[str, Split], classes: Sequence[str], pairs: Sequence[Pair]) -> None:
    """Draw a sample of train, and the pairs that look most alike, those across splits first."""
    train = splits["train"]
    chosen = _sample(train)
    plots.images(train.read(chosen), [_target(train, int(i), classes) for i in chosen], folder / "samples.png")
    shown = sorted(pairs, key=lambda pair: (pair.one[0] == pair.other[0], pair.difference))[:NUM_SHOWN]
    if shown:
        places = [place for pair in shown for place in (pair.one, pair.other)]
        found = np.stack([splits[name].read(np.array([index]))[0] for name, index in places])
        captions = [_caption(place, splits, classes) for place in places]
        plots.images(found, captions, folder / "near_duplicates.png", columns=8)


def _caption(place: tuple[str, int], splits: dict[str, Split], classes: Sequence[str]) -> str:
    """Return an example's split, its target and, where it has a name, its file."""
    split = splits[place[0]]
    caption = f"{place[0]}\n{_target(split, place[1], classes)}"
    return f"{caption}\n{plots.shortened(Path(name_of(place, splits)).name)}" if len(split.names) else caption


def _sample(split: Split, *, num_images: int = 40) -> np.ndarray:
    """Choose examples to show: of classes the first few of each in turn, else evenly spread."""
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
    """Write the report as a table for the terminal."""
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
    """Return as text the counts of a split, or the figures of its numbers, and last how many examples there are."""
    figures = [(name.replace("_", " "), f"{value:.4g}") for name, value in split.get("targets", {}).items()]
    counts = [(name, f"{count:,}") for name, count in split.get("counts", {}).items()]
    return [*figures, *counts, ("all", f"{split['num_examples']:,}")]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _first(lines: Sequence[str], count: int) -> list[str]:
    """Indent the first few of so many lines, and add how many more there are."""
    shown = [f"  {line}" for line in lines[:NUM_TOLD]]
    return shown + [f"  and {count - len(shown):,} more"] * (count > len(shown))
