"""Near-duplicate images: leaks between splits, and duplicates with different targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from jaxvision.interfaces import Split
from jaxvision.near_duplicates import Pair, name_of
from jaxvision.reports.page.html import Html, counted, paragraph, section, tag
from jaxvision.reports.page.mistakes import target_text
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.thumbnails import picture, pixels_of

NUM_SHOWN = 12


def leaks(data: PageData) -> list[Pair]:
    """Return the pairs of near-duplicates across splits."""
    return [pair for pair in data.pairs or () if pair.one[0] != pair.other[0]]


def contradictions(data: PageData) -> list[Pair]:
    """Return the pairs of near-duplicates with different targets."""
    return [pair for pair in data.pairs or () if not _same_target(data, pair)]


def duplicates(data: PageData) -> Html | None:
    """Return how many near-duplicates there are, and the first of them, leaks before others."""
    if not data.are_pictures or data.form not in ("classes", "labels", "numbers") or data.run is None:
        return None
    if data.pairs is None:
        text = "The images were not compared: there are too many for the end of a run. jaxvision dataset_report does."
        return section("Duplicates and leaks", "duplicates", paragraph(text, note=True))
    if not data.pairs:
        return section("Duplicates and leaks", "duplicates", paragraph("No two images are near-duplicates."))
    across = leaks(data)
    text = (
        f"{counted(len(data.pairs), 'pair')} of near-duplicate images, {len(across):,} across splits (leaks), "
        f"{len(contradictions(data)):,} with different targets."
    )
    ordered = sorted(
        data.pairs, key=lambda pair: (pair.one[0] == pair.other[0], _same_target(data, pair), pair.difference)
    )

    def text_of(split: Split, index: int) -> str:
        return target_text(data, split.targets[index])

    shown = (pair_card(pair, data.splits, text_of, has_images=data.has_images) for pair in ordered[:NUM_SHOWN])
    cards = tag("ul", *shown, class_="cards")
    more = len(ordered) - NUM_SHOWN
    rest = paragraph(f"And {more:,} more; jaxvision dataset_report lists them.", note=True) if more > 0 else None
    return section("Duplicates and leaks", "duplicates", paragraph(text), cards, rest)


def pair_card(pair: Pair, splits: Mapping[str, Split], text: Callable[[Split, int], str], *, has_images: bool) -> Html:
    """Return the two images of a pair, with their splits, targets as `text(split, index)` and names."""
    figures, lines = [], []
    for part, index in (pair.one, pair.other):
        split = splits[part]
        name = Path(name_of((part, index), dict(splits))).name
        if has_images:
            figures.append(picture(pixels_of(split, [index])[0], f"{name}, {part}"))
        lines.append(paragraph(f"{part}: {text(split, index)}, ", tag("span", name, class_="note")))
    return tag("li", tag("div", *figures, class_="pictures") if figures else None, *lines)


def _same_target(data: PageData, pair: Pair) -> bool:
    one, other = (data.splits[name].targets[index] for name, index in (pair.one, pair.other))
    return bool(np.array_equal(one, other))
