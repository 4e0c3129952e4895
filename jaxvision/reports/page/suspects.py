"""Suspected label errors, and pairs of classes that are confused more often than the model's doubt explains."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxvision.label_errors import LabelError, label_errors
from jaxvision.reports.page.calibration import has_probabilities
from jaxvision.reports.page.doubt import Doubt, fit_doubt
from jaxvision.reports.page.html import Html, join, paragraph, percent, section, table, tag
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.significance import LEVEL, more_events
from jaxvision.reports.page.thumbnails import picture, pixels_of

NUM_SHOWN = 24
NUM_LISTED = 200
LEAST_ACCURACY = 0.6  # below it, a model that has not learned a class looks as if the class were mislabeled
LEAST_PAIR = 5  # examples of a pair of classes that is named


class MislabeledPair(NamedTuple):
    """Two classes, as indices: examples with the label `given` that are predicted as `other`."""

    given: int
    other: int
    observed: int
    expected: float


def suspects(data: PageData) -> list[LabelError]:
    """Return the suspected label errors, the most suspicious first; an empty list without classes or for train."""
    if data.form != "classes" or not has_probabilities(data) or data.report["split"] in ("train", "all"):
        return []  # a model knows the labels that it was trained on, wrong ones too
    return label_errors(data.probabilities, data.split.targets)


def contradicted(data: PageData, doubt: Doubt) -> tuple[int, float]:
    """Return the number of labels that are confidently contradicted, and the number that doubt without noise expects.

    A label is contradicted if another class is predicted with at least the mean probability of that class among the
    examples that have its label. If labels were drawn from the probabilities, each such example would be contradicted
    with the probability of the other classes.
    """
    targets, clean = data.split.targets, doubt.clean
    counts = np.bincount(targets, minlength=clean.shape[1])
    sums = np.bincount(targets, weights=clean[np.arange(len(targets)), targets], minlength=clean.shape[1])
    limits = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    first, top = clean.argmax(axis=1), clean.max(axis=1)
    is_confident = top >= limits[first]
    return int((is_confident & (first != targets)).sum()), float((1 - top)[is_confident].sum())


def mislabeled_pairs(data: PageData, doubt: Doubt) -> list[MislabeledPair]:
    """Return the pairs of classes that are confused more often than doubt and noise expect, the clearest first.

    The list is empty for a model that is wrong on more than two fifths of the examples.
    """
    if data.correct.mean() < LEAST_ACCURACY:
        return []
    honest = doubt.probabilities
    num_classes = honest.shape[1]
    observed = np.zeros((num_classes, num_classes))
    expected = np.zeros((num_classes, num_classes))
    first = honest.argmax(axis=1)
    np.add.at(observed, (data.split.targets, first), 1)
    np.add.at(expected.T, first, honest)
    p_values = np.minimum(more_events(observed, expected) * num_classes * max(num_classes - 1, 1), 1.0)
    np.fill_diagonal(p_values, 1.0)
    places = np.argwhere((p_values < LEVEL) & (observed >= LEAST_PAIR))
    ordered = sorted(places.tolist(), key=lambda pair: p_values[tuple(pair)])
    return [MislabeledPair(i, j, int(observed[i, j]), float(expected[i, j])) for i, j in ordered]


def label_suspects(data: PageData) -> Html | None:
    """Return the suspected label errors with their images, and how many honest doubt would explain."""
    found = suspects(data)
    if not found:
        return None
    doubt = fit_doubt(data.probabilities, data.split.targets)
    observed, expected = contradicted(data, doubt)
    share = percent(len(found) / len(data.split))
    end = ", so that its mistakes alone may be the reason."
    if doubt.is_noisy:
        end = f", as if {percent(doubt.noise)} of the labels were wrong."
    parts = [
        paragraph(
            f"Confident learning suspects {len(found):,} of {len(data.split):,} labels ({share}): "
            "the model, which did not train on these examples, is sure of another class. They may be wrong labels or "
            "mistakes of the model; look at them, the most suspicious first."
        ),
        paragraph(
            f"{observed:,} labels are confidently contradicted; the model's own doubt explains about "
            f"{expected:.0f}{end}",
            note=True,
        ),
    ]
    parts += [_pair_table(data, doubt), _cards(data, found)]
    return section("Suspected label errors", "labels", *parts)


def _pair_table(data: PageData, doubt: Doubt) -> Html | None:
    rows = [
        [data.classes[pair.given], data.classes[pair.other], pair.observed, f"{pair.expected:.1f}"]
        for pair in mislabeled_pairs(data, doubt)[:10]
    ]
    heads = ["label", "predicted", "examples", "expected from doubt"]
    return table("Pairs of classes that may be mislabeled", heads, rows, num_texts=2) if rows else None


def _cards(data: PageData, found: list[LabelError]) -> Html:
    shown = found[:NUM_SHOWN] if data.has_images and data.are_pictures else []
    items = []
    for suspect, pixels in zip(shown, pixels_of(data.split, [each.index for each in shown]), strict=True):
        name = data.name(suspect.index)
        lines = [
            paragraph("label ", tag("b", data.classes[int(suspect.given)]), f" ({percent(suspect.self_confidence)})"),
            paragraph("suggested ", tag("b", data.classes[int(suspect.suggested)])),
            paragraph(name, note=True),
        ]
        items.append(tag("li", tag("div", picture(pixels, name), class_="pictures"), *lines))
    rows = [
        [data.name(each.index), data.classes[each.given], data.classes[each.suggested], f"{each.self_confidence:.4f}"]
        for each in found[:NUM_LISTED]
    ]
    more = f", the first {NUM_LISTED} of {len(found):,}" if len(found) > NUM_LISTED else ""
    heads = [data.noun, "label", "suggested", "probability of the label"]
    listed = table(f"Suspected label errors{more}", heads, rows, num_texts=3)
    folded = tag("details", tag("summary", "All of them as a table"), listed)
    return join((tag("ul", *items, class_="cards") if items else None, folded))
