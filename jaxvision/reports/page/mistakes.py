"""The worst mistakes and the least sure answers, with heat maps and the nearest training images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxvision.reports.page.html import Html, join, paragraph, percent, section, tag
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.selection import least_sure, worst_mistakes
from jaxvision.reports.page.svg import number
from jaxvision.reports.page.thumbnails import overlaid, picture, pixels_of

NEIGHBOR_SIDE = 56  # pixels
MOST_LABELS = 4  # wrong labels that are named


def mistakes(data: PageData) -> Html | None:
    """Return the worst mistakes, and the least sure answers."""
    worst, unsure = worst_mistakes(data), least_sure(data)
    if not worst and not unsure:
        return None
    parts = [_legend(data)]
    if worst:
        how = {"classes": "the most confident wrong answers", "labels": "the most confidently wrong labels"}
        first = how.get(data.form, "the largest errors")
        parts += [tag("h3", "Worst mistakes"), paragraph(f"These are {first}, the worst first."), _cards(data, worst)]
    if unsure:
        text = "These are further examples whose two most probable classes are closest."
        parts += [tag("h3", "Least sure answers"), paragraph(text), _cards(data, unsure)]
    return section("Mistakes", "mistakes", *parts)


def _legend(data: PageData) -> Html | None:
    """Return what the pictures beside an example are."""
    examples = data.examples.values()
    lines = []
    if any(example.heat_map is not None for example in examples):
        lines.append("The second image is bright where Grad-CAM finds what speaks for the predicted class.")
    if data.features is not None and any(example.neighbors for example in examples):
        count = len(data.features.train_indices)
        of = "" if data.train is None or count == len(data.train) else f" of a sample of {count:,}"
        lines.append(
            f"Below are the nearest training images{of} by the features of this model, with their labels: what it "
            "learned from."
        )
    return paragraph(" ".join(lines), note=True) if lines and data.has_images else None


def _cards(data: PageData, indices: Sequence[int]) -> Html:
    images = pixels_of(data.split, indices) if data.has_images and data.are_pictures else [None] * len(indices)
    return tag("ul", *(_card(data, *pair) for pair in zip(indices, images, strict=True)), class_="cards")


def _card(data: PageData, index: int, pixels: np.ndarray | None) -> Html:
    answer, truth = _answer(data, index)
    shown = []
    example = data.examples.get(index)
    if pixels is not None:
        shown.append(picture(pixels, f"{data.name(index)}: {truth}"))
        if example is not None and example.heat_map is not None:
            shown.append(picture(overlaid(pixels, example.heat_map), f"heat map of {data.name(index)}"))
    around = _neighbors(data, example.neighbors) if example is not None else None
    lines = [paragraph(answer), paragraph(truth), paragraph(data.name(index), note=True)]
    return tag("li", tag("div", *shown, class_="pictures") if shown else None, *lines, around)


def _answer(data: PageData, index: int) -> tuple[Html, str]:
    """Return the prediction and the truth as lines."""
    if data.form == "classes":
        order = np.argsort(-data.probabilities[index], kind="stable")[:2].tolist()
        first = int(data.predicted[index])
        other = next(i for i in order if i != first)
        probabilities = data.probabilities[index]
        said = join(("predicted ", tag("b", data.classes[first]), f" ({percent(float(probabilities[first]))}), "))
        then = f"then {data.classes[other]} ({percent(float(probabilities[other]))})"
        verdict = (
            "right" if data.correct[index] else f"wrong, true class {data.classes[int(data.split.targets[index])]}"
        )
        return join((said, then)), verdict
    if data.form == "labels":
        truth = data.split.targets[index] >= 0.5
        extra = _named(data, np.flatnonzero(data.predicted[index] & ~truth), index)
        missing = _named(data, np.flatnonzero(~data.predicted[index].astype(bool) & truth), index)
        return join(("wrongly predicted: ", extra)), f"missed: {missing}"
    truth, said = data.split.targets[index], data.outputs.predictions[index]
    return join(("predicted ", tag("b", number(float(said))))), f"true value {number(float(truth))}"


def _named(data: PageData, labels: np.ndarray, index: int) -> str:
    ordered = sorted(labels.tolist(), key=lambda i: -abs(data.probabilities[index, i] - data.split.targets[index, i]))
    shown = [f"{data.classes[i]} ({percent(float(data.probabilities[index, i]), 0)})" for i in ordered[:MOST_LABELS]]
    more = [f"and {len(ordered) - MOST_LABELS} more"] if len(ordered) > MOST_LABELS else []
    return ", ".join(shown + more) or "none"


def _neighbors(data: PageData, indices: Sequence[int]) -> Html | None:
    if not indices or data.train is None:
        return None
    labels = [target_text(data, data.train.targets[i]) for i in indices]
    if not data.has_images:
        return paragraph(f"nearest training images: {'; '.join(labels)}", note=True)
    figures = []
    for label, pixels in zip(labels, pixels_of(data.train, indices), strict=True):
        image = picture(pixels, f"training image, {label}", side=NEIGHBOR_SIDE)
        figures.append(tag("figure", image, tag("figcaption", label, style=f"max-width:{NEIGHBOR_SIDE + 10}px")))
    return tag("div", *figures, class_="thumbs")


def target_text(data: PageData, target: np.ndarray) -> str:
    """Return a target as text: its class, its first labels without their columns, or the number."""
    if data.form == "classes":
        return data.classes[int(target)]
    if data.form == "labels":
        names = [data.classes[i].rpartition("=")[2] for i in np.flatnonzero(target >= 0.5).tolist()]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "none"
    return number(float(target))
