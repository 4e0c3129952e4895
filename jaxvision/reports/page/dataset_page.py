"""The page about a dataset before training: counts, sizes, samples, duplicates, suspected labels."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision import storage
from jaxvision.initial_weights import without_folders
from jaxvision.interfaces import Split
from jaxvision.near_duplicates import Pair
from jaxvision.reports.page.document import document, named
from jaxvision.reports.page.duplicates import pair_card
from jaxvision.reports.page.html import Cell, Html, bullets, counted, join, names_only, paragraph, section, table, tag
from jaxvision.reports.page.svg import Axes, bar, chart, number
from jaxvision.reports.page.thumbnails import picture, pixels_of

FILE = "report.html"
NUM_SAMPLES = 40
NUM_PAIRS = 24
NUM_LISTED = 200
NUM_BARS = 25


class DatasetFacts(NamedTuple):
    """A dataset report with what it is about: the splits, the names of the classes, and pairs of near-duplicates."""

    report: Mapping[str, Any]
    splits: Mapping[str, Split]
    classes: Sequence[str]
    pairs: Sequence[Pair] | None
    has_images: bool = True


def save_dataset_page(folder: Path, facts: DatasetFacts) -> Path:
    """Write report.html into a folder and return it."""
    sections = (_summary, _targets, _files, _samples, _duplicates, _suspects)
    body = join(each(facts) for each in sections)
    file = folder / FILE
    storage.write_text(file, document(f"Dataset {named(facts.report['dataset'])}", body))
    return file


def _summary(facts: DatasetFacts) -> Html:
    report = facts.report
    sizes = [f"{name} {len(split):,}" for name, split in facts.splits.items()]
    total = counted(sum(map(len, facts.splits.values())), "example")
    kind = facts.splits["train"].kind
    what = {"multiclass": counted(len(facts.classes), "class"), "multilabel": counted(len(facts.classes), "label")}
    of = f" of {what[kind]}" if kind in what else ""
    found = list(_findings(facts))
    box = tag("b", "Look at this first"), bullets(found)
    nothing = (tag("b", "Nothing stands out"),)
    spec = tag("code", without_folders(report["dataset"]))
    return section(
        "Summary", "summary",
        paragraph("The dataset ", spec, f" has {total}{of}: {', '.join(sizes)}."),
        bullets(report["notes"]) if report["notes"] else None,
        tag("div", *(box if found else nothing), class_="findings" if found else "findings none"),
    )  # fmt: skip


def _findings(facts: DatasetFacts) -> Iterator[Html]:
    report = facts.report
    if report["unreadable"]:
        yield join((tag("a", counted(len(report["unreadable"]), "unreadable image"), href="#files"), "."))
    if report.get("num_leaks"):
        link = tag("a", counted(report["num_leaks"], "leaked pair"), href="#duplicates")
        yield join((link, " of near-duplicates in different splits, which makes figures too good."))
    if report.get("num_of_other_targets"):
        link = tag("a", counted(report["num_of_other_targets"], "pair"), href="#duplicates")
        yield join((link, " of near-duplicates with different targets."))
    if report.get("label_suspects", {}).get("num_suspects"):
        count = report["label_suspects"]["num_suspects"]
        yield join((tag("a", counted(count, "suspected label error"), href="#suspects"), "."))


def _targets(facts: DatasetFacts) -> Html | None:
    """Return the counts of classes or labels in each split, or the distribution of numbers."""
    described = facts.report["splits"]
    if all("counts" in each for each in described.values()):
        what = "class" if facts.splits["train"].kind == "multiclass" else "label"
        rows = []
        for name in facts.classes:
            counts = [each["counts"][name] for each in described.values()]
            share = counts[0] / max(described["train"]["num_examples"], 1)
            rows.append([name, *map(int, counts), Cell(f"{100 * share:.2f}", share)])
        heads = [what, *described, "% of train"]
        title = "Classes" if what == "class" else "Labels"
        return section(title, "classes", table(f"Examples of each {what}", heads, rows, sortable=True))
    charts = [_histogram(name, split) for name, split in facts.splits.items()]
    names = list(dict.fromkeys(key for each in described.values() for key in each.get("targets", {})))
    rows = [[key.replace("_", " "), *(number(each["targets"][key]) for each in described.values())] for key in names]
    figures = table("Statistics of the targets", ["statistic", *described], rows)
    return section("Targets", "classes", tag("div", *charts, class_="charts"), figures)


def _histogram(name: str, split: Split) -> Html:
    values = split.in_original_units(split.targets)[0].astype(np.float64)
    counts, edges = np.histogram(values, NUM_BARS)
    axes = Axes((float(edges[0]), float(edges[-1])), (0.0, counts.max() * 1.05), "target", "examples", width=400)
    spans = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    marks = [bar(a, b, n, axes, title=f"{number(a)} to {number(b)}: {n:,}") for a, b, n in spans if n]
    return chart(name, axes, *marks)


def _files(facts: DatasetFacts) -> Html | None:
    """Return the sizes and modes of image files, and those that cannot be read."""
    rows = []
    for name, each in facts.report["splits"].items():
        if "sizes" in each:
            sizes = [" x ".join(map(str, size)) for size in each["sizes"].values()]
            modes = ", ".join(f"{count:,} {mode}" for mode, count in each["modes"].items())
            rows.append([name, *sizes, modes, f"{100 * each.get('kept_fraction', 1.0):.0f} %"])
    heads = ["split", "smallest", "median", "largest", "modes", "kept by the crop"]
    shown = table("Sizes in pixels, width x height", heads, rows, num_texts=5) if rows else None
    unreadable, skipped = facts.report["unreadable"], facts.report["skipped"]
    lines = (
        [
            paragraph("Unreadable images, which are left out:"),
            bullets([names_only(line) for line in unreadable[:NUM_LISTED]]),
        ]
        if unreadable
        else []
    )
    if len(unreadable) > NUM_LISTED:
        lines.append(paragraph(f"And {len(unreadable) - NUM_LISTED:,} more in report.json."))
    if skipped:
        listed = ", ".join(f"{count:,} {suffix}" for suffix, count in skipped.items())
        lines.append(paragraph(f"Files that look like pictures and are not read: {listed}."))
    return section("Files", "files", shown, *lines) if shown is not None or lines else None


def _samples(facts: DatasetFacts) -> Html | None:
    """Return the first examples of each class in turn, or evenly spaced ones."""
    if facts.pairs is None or not facts.has_images:
        return None
    train = facts.splits["train"]
    chosen = _chosen(train)
    figures = [
        tag("figure", picture(pixels, _target(facts, train, i), side=72), tag("figcaption", _target(facts, train, i)))
        for i, pixels in zip(chosen, pixels_of(train, chosen), strict=True)
    ]
    return section("Samples of train", "samples", tag("div", *figures, class_="thumbs"))


def _chosen(split: Split) -> list[int]:
    if split.kind != "multiclass":
        return np.unique(np.linspace(0, len(split) - 1, min(NUM_SAMPLES, len(split)), dtype=int)).tolist()
    rank = np.zeros(len(split), int)
    for target in np.unique(split.targets):
        members = np.flatnonzero(split.targets == target)
        rank[members] = np.arange(len(members))
    return np.lexsort((split.targets, rank))[:NUM_SAMPLES].tolist()


def _target(facts: DatasetFacts, split: Split, index: int) -> str:
    target = split.targets[index]
    if split.kind == "multiclass":
        return facts.classes[int(target)]
    if split.kind == "continuous":
        return number(float(target))
    return ", ".join(_labels(facts, target)[:3]) or "none"


def _labels(facts: DatasetFacts, target: np.ndarray) -> list[str]:
    return [name for name, has in zip(facts.classes, target >= 0.5, strict=True) if has]


def _duplicates(facts: DatasetFacts) -> Html | None:
    if facts.pairs is None:
        return None
    report = facts.report
    if not facts.pairs:
        return section("Duplicates and leaks", "duplicates", paragraph("No two images are near-duplicates."))
    text = (
        f"{counted(report['num_near_duplicates'], 'pair')} of near-duplicate images, {report['num_leaks']:,} across "
        f"splits (leaks), {report['num_of_other_targets']:,} with different targets."
    )
    ordered = sorted(facts.pairs, key=lambda pair: (pair.one[0] == pair.other[0], pair.difference))
    text_of = functools.partial(_target, facts)
    shown = (pair_card(pair, facts.splits, text_of, has_images=facts.has_images) for pair in ordered[:NUM_PAIRS])
    cards = tag("ul", *shown, class_="cards")
    more = len(ordered) - NUM_PAIRS
    rest = paragraph(f"And {more:,} more; report.json lists the first 1,000.", note=True) if more > 0 else None
    return section("Duplicates and leaks", "duplicates", paragraph(text), cards, rest)


def _suspects(facts: DatasetFacts) -> Html | None:
    """Return the labels that a run's predictions contradict, if the report has them."""
    part = facts.report.get("label_suspects")
    if part is None:
        return None
    text = (
        f"{part['num_suspects']:,} of {counted(part['num_examples'], 'example')}, by {names_only(part['predictions'])}."
    )
    rows = [
        [Path(str(each["name"])).name, each["given"], each["suggested"],
         Cell(f"{each['self_confidence']:.4f}", each["self_confidence"])]
        for each in part["suspects"][:NUM_LISTED]
    ]  # fmt: skip
    heads = ["example", "label", "suggested", "probability of the label"]
    listed = table("Suspected label errors", heads, rows, sortable=True, num_texts=3) if rows else None
    return section("Suspected label errors", "suspects", paragraph(text), listed)
