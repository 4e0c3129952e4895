"""A map of the split by the features of the model: similar images lie together."""

from __future__ import annotations

import numpy as np

from jaxvision.reports.page.html import Html, paragraph, percent, section, tag
from jaxvision.reports.page.mistakes import target_text
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.svg import STYLES, shape
from jaxvision.reports.page.thumbnails import encoded, pixels_of

MOST_THUMBNAILS = 500
WIDTH, HEIGHT = 960, 680
SIDE = 26  # pixels of a thumbnail
MARGIN = 20


def embedding(data: PageData) -> Html | None:
    """Return the map of a sample of the split, its first two principal components."""
    if data.features is None or len(data.features.indices) < 3:
        return None
    values = data.features.values.astype(np.float64)
    places, explained = principal_components(values)
    most = MOST_THUMBNAILS if data.has_images else len(values)
    chosen = np.unique(np.linspace(0, len(values) - 1, min(most, len(values)), dtype=int))
    marks = _thumbnails(data, places, chosen) if data.has_images else _points(data, places, chosen)
    what = f"Map of {len(chosen)} examples by the features of the model"
    drawn = tag("svg", *marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", width=WIDTH, role="img", aria_label=what)
    of = "all" if len(chosen) == len(data.split) else f"an evenly spaced sample of {len(chosen):,} of"
    wrong = " Those with a frame are classified wrongly." if data.form == "classes" else ""
    note = (
        f"The map shows {of} {len(data.split):,} examples at the first two principal components of the pooled "
        f"features, which hold {percent(explained, 0)} of their variance.{wrong} Point at one for its name."
    )
    return section("Map of the features", "embedding", paragraph(note, note=True), tag("figure", drawn))


def principal_components(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the first two principal components of rows [N, D], scaled to 0..1, and their share of the variance."""
    centered = values - values.mean(axis=0)
    if len(centered) < centered.shape[1]:
        axes = np.linalg.svd(centered, full_matrices=False)[2][:2].T
    else:
        axes = np.linalg.eigh(centered.T @ centered)[1][:, ::-1][:, :2]
    axes = axes * np.where(
        axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1, 1
    )  # signs are arbitrary
    places = centered @ axes
    if places.shape[1] < 2:
        places = np.concatenate([places, np.zeros_like(places)], axis=1)
    explained = (places**2).sum() / max((centered**2).sum(), 1e-30)
    low, high = np.quantile(places, 0.005, axis=0), np.quantile(places, 0.995, axis=0)  # a few far ones would rule
    scaled = np.clip((places - low) / np.maximum(high - low, 1e-12), 0, 1)
    return scaled, float(explained)


def _place(point: np.ndarray) -> tuple[float, float]:
    return MARGIN + point[0] * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - point[1] * (HEIGHT - 2 * MARGIN)


def _title(data: PageData, index: int) -> str:
    truth = target_text(data, data.split.targets[index])
    said = f", predicted {data.classes[int(data.predicted[index])]}" if data.form == "classes" else ""
    return f"{data.name(index)}: {truth}{said}"


def _thumbnails(data: PageData, places: np.ndarray, chosen: np.ndarray) -> list[Html]:
    assert data.features is not None
    indices = data.features.indices[chosen].tolist()
    made = []
    for row, index, pixels in zip(chosen, indices, pixels_of(data.split, indices), strict=True):
        source, width, height = encoded(pixels, side=SIDE)
        x, y = _place(places[row])
        box = {"x": f"{x - width / 2:.1f}", "y": f"{y - height / 2:.1f}", "width": width, "height": height}
        frame = tag("rect", **box, class_="wrong") if data.form == "classes" and not data.correct[index] else None
        made.append(tag("g", tag("title", _title(data, index)), tag("image", href=source, **box), frame))
    return made


def _points(data: PageData, places: np.ndarray, chosen: np.ndarray) -> list[Html]:
    assert data.features is not None
    made = []
    for row in chosen.tolist():
        index = int(data.features.indices[row])
        is_wrong = data.form == "classes" and not data.correct[index]
        made.append(shape(*_place(places[row]), STYLES[1] if is_wrong else STYLES[0], title=_title(data, index)))
    return made
