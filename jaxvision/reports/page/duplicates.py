"""Near-duplicate images: leaks between splits, and duplicates with different targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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
    cards = tag("ul", *(_card(data, pair) for pair in ordered[:NUM_SHOWN]), class_="cards")
    more = len(ordered) - NUM_SHOWN
    rest = paragraph(f"And {more:,} more; jaxvision dataset_report lists them.", note=True) if more > 0 else None
    return section("Duplicates and leaks", "duplicates", paragraph(text), cards, rest)


def _card(data: PageData, pair: Pair) -> Html:
    figures, lines = [], []
    for place in (pair.one, pair.other):
        split = data.splits[place[0]]
        name = Path(name_of(place, dict(data.splits))).name
        target = target_text(data, split.targets[place[1]])
        if data.has_images:
            image = picture(pixels_of(split, [place[1]])[0], f"{name}, {place[0]}")
            figures.append(image)
        lines.append(paragraph(f"{place[0]}: {target}, ", tag("span", name, class_="note")))
    return tag("li", tag("div", *figures, class_="pictures") if figures else None, *lines)


def _same_target(data: PageData, pair: Pair) -> bool:
    one, other = (data.splits[name].targets[index] for name, index in (pair.one, pair.other))
    return bool(np.array_equal(one, other))
