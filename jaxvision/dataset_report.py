"""Report on a dataset before training: counts, sizes, unreadable files and near-duplicates."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import data as datas
from jaxvision import failures, image_files, storage
from jaxvision.config import Config, is_same
from jaxvision.interfaces import Dataset, Split
from jaxvision.near_duplicates import Pair, describe_pairs, name_of, near_duplicates
from jaxvision.reports import plots
from jaxvision.reports.page.dataset_page import DatasetFacts, save_dataset_page
from jaxvision.splits import target_stats

FILE = "report.json"
PICTURES = ("counts.png", "histogram.png", "series.png", "samples.png", "near_duplicates.png")
NUM_SHOWN = 16  # pairs in the plot
LEAST_KEPT = 0.8  # of the area of a typical image, below which the crop is worth a warning
NUM_TOLD = 5  # lines of one kind in the terminal output
QUARTILES = ("least", "lower_quartile", "median", "upper_quartile", "largest")


def dataset_report(
    config: Config,
    *,
    out: str | Path = "dataset_report",
    workdir: str | Path | None = None,
    data_dir: str | None = None,
    dataset: Any = None,
    no_images: bool = False,
    plugins: Sequence[str] = (),
) -> dict[str, Any]:
    """Count and measure a dataset, find near-duplicates, write report.json, report.html and plots; return it.

    Two images are near-duplicates if their difference hashes (each pixel of 9 x 8 compared with its right neighbor)
    differ in at most 3 of 64 bits, and the mean squared difference of their standardized thumbnails is at most 0.01:
    the same image in another size, format or brightness. Pairs across splits leak test data into training; pairs with
    different targets are mislabeled or ambiguous. Unreadable files are listed, not raised, and files that look like
    pictures and are not read are counted by suffix. With a workdir, the labels that its predictions contradict are
    listed.

    Args:
        config: names the dataset and its splits.
        out: folder to write to; new, empty, or with an earlier dataset report.
        workdir: a run on the same dataset, for suspected label errors in its validation split; or a sweep with folds,
            for those among all examples outside test.
        data_dir: folder of the datasets.
        dataset: a dataset that replaces the config's.
        no_images: leave images out of report.html and draw none.
        plugins: plug-in files that the run needs.

    Returns:
        The content of report.json.

    Raises:
        ValueError: if the folder holds anything else, or the run cannot judge the labels of this dataset.
    """
    folder = Path(out).expanduser()
    _check(folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = datas.open_dataset(config.replace(on_bad_image="skip"), data_dir=data_dir, dataset=dataset)
    unreadable, skipped = [], Counter()
    for message in (warning.message for warning in caught):
        if isinstance(message, image_files.UnreadableImages):
            unreadable += message.errors
        elif isinstance(message, image_files.SkippedFiles):
            skipped.update(message.counts)
        else:
            warnings.warn(message, stacklevel=2)
    splits = datas.splits_of(data)
    report: dict[str, Any] = {
        "dataset": config.dataset,
        "notes": list(data.notes),
        "splits": {name: _described(split, data, config.max_image_pixels) for name, split in splits.items()},
        "unreadable": unreadable,
        "skipped": dict(skipped.most_common()),
    }
    pairs = near_duplicates(splits) if data.preprocessing.is_image else None
    if pairs is not None:
        report |= describe_pairs(pairs, splits)
    if workdir is not None:
        report["label_suspects"] = _suspects(config, workdir, data_dir=data_dir, dataset=dataset, plugins=plugins)
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_json(folder / FILE, report)  # first, because it marks the folder as a report
    for name in PICTURES:
        (folder / name).unlink(missing_ok=True)
    _draw_targets(folder, splits, data.classes)
    if pairs is not None and not no_images:
        _draw_images(folder, splits, data.classes, pairs)
    save_dataset_page(folder, DatasetFacts(report, splits, data.classes, pairs, has_images=not no_images))
    return report


def _suspects(config: Config, workdir: str | Path, **options: Any) -> dict[str, Any]:
    """Return the label suspects of a run. Raises ValueError if it was trained on another dataset than the config's."""
    from jaxvision.label_suspects import label_suspects, trained_on

    expected = datas.IN_MEMORY if options["dataset"] is not None else config.dataset
    if not is_same("dataset", trained_on(workdir), expected):
        raise ValueError(failures.run_of_other_data(workdir, trained_on(workdir), config.dataset))
    return label_suspects(workdir, **options)


def _check(folder: Path) -> None:
    """Raise ValueError if the folder is neither new, empty, nor an earlier dataset report."""
    if not folder.exists() or _is_report(folder / FILE):
        return
    if storage.foreign_files(folder, (storage.temporary(Path(FILE)).name,)):  # report.json may be another command's
        what = "holds other things than a dataset_report" if folder.is_dir() else "is a file"
        raise ValueError(f"{str(folder)!r} {what}; give a new or empty folder as --out")


def _is_report(file: Path) -> bool:
    """Return whether a file is a dataset report; other commands write a report.json too."""
    try:
        return {"dataset", "splits", "unreadable"} <= set(storage.read_json(file))
    except (OSError, ValueError):
        return False


def _described(split: Split, data: Dataset, max_pixels: int) -> dict[str, Any]:
    """Return a split's number of examples, target counts or statistics, and file sizes and modes."""
    description: dict[str, Any] = {"num_examples": len(split)}
    if split.ordered:
        description["window"] = data.preprocessing.size[0]
        if len(split.names):
            description["span"] = [str(split.names[0]), str(split.names[-1])]
    if split.kind == "continuous":
        description["targets"] = _spread(_numbers(split))
    else:
        description["counts"] = dict(zip(data.classes, target_stats(split, len(data.classes)).counts, strict=True))
    files = [Path(str(name)) for name in split.names]
    if files and all(map(image_files.is_image, files[:10])):
        description |= image_files.measure_files(files, data.preprocessing, max_pixels=max_pixels)
    return description


def _numbers(split: Split) -> np.ndarray:
    """Return the targets in original units: the values of a series, not their changes."""
    return split.in_original_units(split.targets)[0].astype(np.float64)


def _spread(values: np.ndarray) -> dict[str, float]:
    quartiles = dict(zip(QUARTILES, np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist(), strict=True))
    return {**quartiles, "mean": float(values.mean()), "standard_deviation": float(values.std())}


def _draw_targets(folder: Path, splits: dict[str, Split], classes: Sequence[str]) -> None:
    """Draw the counts of classes or labels, a series over its steps, or the histogram of other numbers."""
    train = splits["train"]
    if train.kind != "continuous":
        counts = {name: target_stats(split, len(classes)).counts for name, split in splits.items()}
        plots.counts(counts, classes, folder / "counts.png")
        return
    numbers = {name: _numbers(split) for name, split in splits.items()}
    if train.ordered:
        plots.series(numbers, [name for split in splits.values() for name in split.names], folder / "series.png")
    else:
        plots.histogram(numbers, folder / "histogram.png")


def _draw_images(folder: Path, splits: dict[str, Split], classes: Sequence[str], pairs: Sequence[Pair]) -> None:
    """Draw samples of train and the most similar pairs, those across splits first."""
    train = splits["train"]
    chosen = _sample(train)
    plots.images(train.read(chosen), [_target(train, int(i), classes) for i in chosen], folder / "samples.png")
    shown = sorted(pairs, key=lambda pair: (pair.one[0] == pair.other[0], pair.difference))[:NUM_SHOWN]
    if shown:
        places = [place for pair in shown for place in (pair.one, pair.other)]
        images = np.stack([splits[name].read(np.array([index]))[0] for name, index in places])
        captions = [_caption(place, splits, classes) for place in places]
        plots.images(images, captions, folder / "near_duplicates.png", columns=8)


def _caption(place: tuple[str, int], splits: dict[str, Split], classes: Sequence[str]) -> str:
    """Return an example's split, its target and its file, if it has one."""
    split = splits[place[0]]
    caption = f"{place[0]}\n{_target(split, place[1], classes)}"
    return f"{caption}\n{plots.shortened(Path(name_of(place, splits)).name)}" if len(split.names) else caption


def _sample(split: Split, *, num_images: int = 40) -> np.ndarray:
    """Choose examples to show: of classes, the first few of each in turn; else evenly spaced."""
    if split.kind != "multiclass":
        return np.linspace(0, len(split) - 1, min(num_images, len(split)), dtype=int)
    rank = np.zeros(len(split), int)
    for target in np.unique(split.targets):
        members = np.flatnonzero(split.targets == target)
        rank[members] = np.arange(len(members))
    return np.lexsort((split.targets, rank))[:num_images]


def _target(split: Split, index: int, classes: Sequence[str]) -> str:
    target = split.targets[index]
    if split.kind == "multiclass":
        return classes[int(target)]
    if split.kind == "continuous":
        return f"{float(target):.4g}"
    return "\n".join(str(classes[i]).rpartition("=")[2] for i in np.flatnonzero(target)[:4])


def text(report: dict[str, Any]) -> str:
    """Format the report as a table for the terminal."""
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
        if split.get("kept_fraction", 1.0) < LEAST_KEPT:
            lines.append(
                f"{name}: warning: the crop drops {1 - split['kept_fraction']:.0%} of a typical image; crop='pad' or "
                "crop='squash' in the dataset spec keeps all of it"
            )
    lines += report["notes"]
    unreadable = report["unreadable"]
    lines.append(f"unreadable: {_counted(len(unreadable), 'image') if unreadable else 'none'}")
    lines += _first(unreadable, len(unreadable))
    if report["skipped"]:
        lines.append(f"skipped: {image_files.describe_skipped(report['skipped'])}")
    if "num_near_duplicates" in report:
        lines.append(
            f"near-duplicates: {_counted(report['num_near_duplicates'], 'pair')}, {report['num_leaks']:,} of them "
            f"across splits, {report['num_of_other_targets']:,} with different targets"
        )
        pairs = sorted(report["near_duplicates"], key=lambda pair: len(set(pair["splits"])), reverse=True)
        shown = [f"{pair['one']} in {pair['splits'][0]} and {pair['other']} in {pair['splits'][1]}" for pair in pairs]
        lines += _first(shown, report["num_near_duplicates"])
    return "\n".join(lines + _suspect_lines(report))


def _suspect_lines(report: dict[str, Any]) -> list[str]:
    """Return the number of label suspects, whose predictions these are, and the first of them."""
    if "label_suspects" not in report:
        return []
    part = report["label_suspects"]
    counted = f"{part['num_suspects']:,} of {_counted(part['num_examples'], 'example')}"
    shown = [
        f"{each['name']}: labeled {each['given']} ({each['self_confidence']:.4f}), predicted {each['suggested']}"
        for each in part["suspects"]
    ]
    return [f"label suspects: {counted}, by {part['predictions']}", *_first(shown, part["num_suspects"])]


def _rows(split: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a split's class counts or target statistics, and last its number of examples, as text."""
    figures = [(name.replace("_", " "), f"{value:.4g}") for name, value in split.get("targets", {}).items()]
    counts = [(name, f"{count:,}") for name, count in split.get("counts", {}).items()]
    return [*figures, *counts, ("all", f"{split['num_examples']:,}")]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _first(lines: Sequence[str], count: int) -> list[str]:
    """Indent the first lines and append how many of `count` are not shown."""
    shown = [f"  {line}" for line in lines[:NUM_TOLD]]
    return shown + [f"  and {count - len(shown):,} more"] * (count > len(shown))
