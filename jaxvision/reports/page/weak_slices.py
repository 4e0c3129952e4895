"""Parts of a split, by a property of its examples, on which the model does worse than on the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxvision.reports.page.html import Cell, Html, paragraph, percent, section, table
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.significance import LEVEL, fewer_successes, larger_mean
from jaxvision.reports.page.svg import number

LEAST_EXAMPLES = 20  # of a slice; smaller ones are counted, not compared
NUM_PARTS = 4  # of numbers, of equal size
MOST_VALUES = 30  # of a column of words, the most frequent
LEAST_NUMBERS = 8  # distinct values from which on a column of numbers is cut into parts
NUM_LISTED = 40


class Slice(NamedTuple):
    """A part of the split: what selects it, the mean score there and on the rest, and whether it is worse by chance.

    The score is the accuracy, the fraction of right labels, or the absolute error. `p_value` is corrected for the
    number of slices.
    """

    column: str
    value: str
    count: int
    score: float
    rest: float
    p_value: float

    @property
    def is_weak(self) -> bool:
        """Whether chance does not explain that it is worse."""
        return self.p_value < LEVEL


def slices(data: PageData) -> list[Slice]:
    """Compare each part with the rest of the split; return the weakest first."""
    scores = _scores(data)
    if scores is None:
        return []
    parts = [part for name, values in data.columns.items() for part in _parts(name, values)]
    known = [(name, value, mask) for name, value, mask in parts if LEAST_EXAMPLES <= mask.sum() < len(mask)]
    found = []
    for name, value, mask in known:
        p_value = min(_p_value(data, scores, mask) * len(known), 1.0)
        part, rest = scores[mask], scores[~mask]
        found.append(Slice(name, value, int(mask.sum()), float(part.mean()), float(rest.mean()), p_value))
    sign = -1 if data.form == "numbers" else 1
    return sorted(found, key=lambda each: (not each.is_weak, sign * (each.score - each.rest)))


def weak_slices(data: PageData) -> Html | None:
    """Return the table of slices, the weakest first."""
    found = slices(data)
    if not found:
        return None
    what = {"classes": "accuracy", "labels": "right labels"}.get(data.form, "mean absolute error")
    shown = number if data.form == "numbers" else percent
    rows = []
    for each in found[:NUM_LISTED]:
        cells = [Cell(shown(each.score), each.score), Cell(shown(each.rest), each.rest)]
        verdict = "weak" if each.is_weak else ""
        rows.append(
            [f"{each.column}: {each.value}", verdict, each.count, *cells, Cell(f"{each.p_value:.2g}", each.p_value)]
        )
    more = f" Of {len(found)} slices, the first {NUM_LISTED} are listed." if len(found) > NUM_LISTED else ""
    note = (
        f"Each slice of at least {LEAST_EXAMPLES} examples is compared with the rest; “weak” stands where the "
        f"difference is no chance (corrected p below {LEVEL}). Numbers are cut at their quartiles.{more}"
    )
    heads = ["slice", "verdict", "examples", what, "on the rest", "p, corrected"]
    content = table(f"{what} by slice", heads, rows, sortable=True, num_texts=2)
    return section("Slices", "slices", paragraph(note, note=True), content)


def _scores(data: PageData) -> np.ndarray | None:
    """Return a number for each example: right or wrong, the fraction of right labels, or the absolute error."""
    if data.form == "classes":
        return data.correct.astype(np.float64)
    if data.form == "labels":
        return (data.predicted == (data.split.targets >= 0.5)).mean(axis=1)
    return np.abs(data.probabilities - data.split.targets) if data.form == "numbers" else None


def _p_value(data: PageData, scores: np.ndarray, mask: np.ndarray) -> float:
    if data.form == "classes":
        return fewer_successes(int(scores[mask].sum()), int(mask.sum()), int(scores.sum()), len(scores))
    sign = 1 if data.form == "numbers" else -1
    return larger_mean(sign * scores[mask], sign * scores[~mask])


def _parts(name: str, values: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield the parts of a column: quarters of many numbers, else its most frequent values."""
    if np.issubdtype(values.dtype, np.floating):
        known = np.isfinite(values)
        distinct = np.unique(values[known])
        if len(distinct) >= LEAST_NUMBERS:
            edges = np.unique(np.quantile(values[known], np.linspace(0, 1, NUM_PARTS + 1)))
            places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
            for i in range(len(edges) - 1):
                yield name, f"{number(edges[i])} to {number(edges[i + 1])}", known & (places == i)
            return
        for value in distinct.tolist() if len(distinct) > 1 else ():
            yield name, number(value), values == value
        return
    words, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    for i in order.tolist() if len(words) > 1 else ():
        yield name, str(words[i]) or "(empty)", values == words[i]
