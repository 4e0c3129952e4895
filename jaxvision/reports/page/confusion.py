"""The confusion matrix: all counts of few classes, an overview and the most confused of many, and the pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxvision.reports.page.html import Html, join, paragraph, percent, section, table, tag
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.thumbnails import gray_picture, picture, pixels_of

MOST_COUNTED = 20  # classes with a count in each cell
NUM_PAIRS = 10
NUM_EXAMPLES = 4  # images of a pair
SHORT = 3  # characters of a class name that fit above a column
MOST_CHARACTERS = 60  # of all names beside each other; more are written upward


def confusion(data: PageData) -> Html | None:
    """Return the confusion matrix and the most confused pairs with examples."""
    if data.form != "classes" or "confusion_matrix" not in data.report:
        return None
    matrix = np.array(data.report["confusion_matrix"])
    if len(data.classes) <= MOST_COUNTED:
        shown = _counts(matrix, data.classes, range(len(matrix)), "Confusion matrix: rows are true classes")
    else:
        shown = _overview(matrix, data.classes)
    return section("Confusion matrix", "confusion", shown, _pairs(data, matrix))


def order_by_similarity(matrix: np.ndarray) -> list[int]:
    """Return an order of classes in which confused ones are neighbors: by the Fiedler vector of their confusions.

    (M. Fiedler, Algebraic connectivity of graphs, 1973; J. Atkins et al., A spectral algorithm for seriation, 1998.)
    """
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    weights = shares + shares.T + 1e-6
    np.fill_diagonal(weights, 0)
    _, vectors = np.linalg.eigh(np.diag(weights.sum(axis=1)) - weights)
    fiedler = vectors[:, 1] if len(matrix) > 1 else vectors[:, 0]
    fiedler = fiedler * (1 if fiedler[np.abs(fiedler).argmax()] > 0 else -1)  # the sign is arbitrary
    return np.argsort(np.round(fiedler, 9), kind="stable").tolist()


def most_confused_group(mistakes: np.ndarray, *, size: int = MOST_COUNTED) -> set[int]:
    """Return classes with many mistakes between them: from the most confused pair on, the class that adds most."""
    both = mistakes + mistakes.T
    chosen = [int(i) for i in np.unravel_index(both.argmax(), both.shape)]
    while len(chosen) < min(size, len(both)):
        gain = both[chosen].sum(axis=0) + 1e-6 * both.sum(axis=0)
        gain[chosen] = -1.0
        chosen.append(int(gain.argmax()))
    return set(chosen)


def _counts(matrix: np.ndarray, classes: Sequence[str], order: Sequence[int], caption: str) -> Html:
    """Return a table with the count in each cell, shaded by its share of the true class."""
    totals = matrix.sum(axis=1)
    tall = sum(max(len(classes[i]), SHORT) for i in order) > MOST_CHARACTERS
    heads = [tag("th", classes[i], scope="col", class_="tall" if tall else None) for i in order]
    rows = []
    for i in order:
        cells = [_count_cell(int(matrix[i, j]), int(totals[i]), is_right=i == j) for j in order]
        rows.append(tag("tr", tag("th", classes[i], scope="row"), *cells))
    head = tag("tr", tag("th", "true ↓ predicted →", scope="col"), *heads)
    made = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *rows), class_="matrix")
    return tag("div", made, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _count_cell(count: int, total: int, *, is_right: bool) -> Html:
    share = count / max(total, 1)
    return tag(
        "td", f"{count:,}" if count else "", style=f"--share:{share:.3f}" if count else None,
        class_="right" if is_right else None, title=f"{percent(share)} of the true class" if count else None,
    )  # fmt: skip


def _overview(matrix: np.ndarray, classes: Sequence[str]) -> Html:
    """Return the whole matrix as an image, and the counts of the most confused classes."""
    order = order_by_similarity(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    mistakes = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    chosen = most_confused_group(mistakes)
    few = [i for i in order if i in chosen]
    inside = mistakes[np.ix_(few, few)].sum() / max(mistakes.sum(), 1)
    what = f"Confusion matrix of {len(classes):,} classes, rows true, columns predicted, dark cells frequent"
    names = f"from {classes[order[0]]} to {classes[order[-1]]}"
    return join(
        (
            tag("h3", f"The {len(few)} most confused of {len(classes):,} classes"),
            paragraph(
                f"Between them lie {percent(inside)} of all mistakes. The table of classes below names for every class "
                "what it is mistaken for.",
                note=True,
            ),
            _counts(matrix, classes, few, f"Confusion matrix of the {len(few)} most confused classes"),
            tag("h3", "Overview of all classes"),
            gray_picture(np.sqrt(shares[np.ix_(order, order)]), what),
            paragraph(
                f"Each pixel is a pair of a true class (row) and a predicted class (column), {names}, in an order that "
                "puts confused classes beside each other. The darkness is the square root of the share of the true "
                "class, so that rare confusions are visible; a dark diagonal is right.",
                note=True,
            ),
        )
    )


def _pairs(data: PageData, matrix: np.ndarray) -> Html:
    """Return the most frequent confusions, with their most confident examples."""
    mistakes = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    places = np.argsort(-mistakes, axis=None, kind="stable")[:NUM_PAIRS]
    pairs = [(int(i // len(matrix)), int(i % len(matrix))) for i in places if mistakes.flat[i]]
    if not pairs:
        return paragraph("No example is classified wrongly.")
    totals, rows = matrix.sum(axis=1), []
    for true, predicted in pairs:
        count = int(matrix[true, predicted])
        share = percent(count / max(totals[true], 1))
        cells = [f"{data.classes[true]} → {data.classes[predicted]}", count, share]
        rows.append([*cells, _examples(data, true, predicted)] if data.has_images else cells)
    heads = ["true → predicted", "count", "of the true class", *["most confident examples"] * data.has_images]
    caption = "The most confused pairs of classes"
    return join((tag("h3", "Most confused pairs"), table(caption, heads, rows, is_titled=True)))


def _examples(data: PageData, true: int, predicted: int) -> Html:
    chosen = np.flatnonzero((data.split.targets == true) & (data.predicted == predicted))
    chosen = chosen[np.argsort(-data.confidence[chosen], kind="stable")][:NUM_EXAMPLES].tolist()
    images = zip(chosen, pixels_of(data.split, chosen), strict=True)
    made = [
        picture(pixels, f"{data.name(i)}, {percent(float(data.confidence[i]), 0)}", side=56) for i, pixels in images
    ]
    return tag("div", *made, class_="thumbs")
