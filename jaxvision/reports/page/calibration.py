"""Whether the probabilities can be trusted: reliability diagram, calibration errors, risk and coverage."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxvision.calibration import (
    Calibration,
    RiskCoverage,
    are_probabilities,
    calibration,
    columns,
    risk_coverage,
    scaled,
)
from jaxvision.reports.page.html import Html, details, paragraph, percent, section, table, tag
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.svg import Axes, Line, bar, chart, diagonal, line_chart, thinned

NUM_BINS = 15
MOST_POINTS = 120  # of the risk-coverage curve
CLEAR = 4.0  # standard deviations between confidence and accuracy that are no chance
LEAST_GAP = 0.02  # between confidence and accuracy, below which it does not matter
REPAIR = (
    "With 100 or more validation examples, temperature scaling (jaxvision evaluate WORKDIR --calibrate) corrects that "
    "without changing any answer."
)
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


class Confidence(NamedTuple):
    """The mean confidence of the answers, their accuracy, and by how many standard deviations these differ."""

    confidence: float
    accuracy: float
    deviations: float

    @property
    def is_clear(self) -> bool:
        """Whether the difference is too large for chance, and matters."""
        return abs(self.deviations) > CLEAR and abs(self.confidence - self.accuracy) > LEAST_GAP


def has_probabilities(data: PageData) -> bool:
    """Return whether the predictions are probabilities; those of a plug-in may be anything."""
    is_known = data.form in ("classes", "labels")
    return is_known and are_probabilities(data.probabilities, per_label=data.form == "labels")


def scored(data: PageData, temperature: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities [N, C] and classes [N]; of labels, each label of an example as one of two classes."""
    probabilities, targets = data.probabilities, data.split.targets
    if data.form == "labels":
        probabilities, targets = columns(probabilities, targets)
    return scaled(probabilities, temperature), targets


def confidence(data: PageData) -> Confidence | None:
    """Compare confidence and accuracy. None without probabilities."""
    if not has_probabilities(data):
        return None
    probabilities, targets = scored(data)
    top = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == targets
    spread = np.sqrt((top * (1 - top)).sum())
    return Confidence(float(top.mean()), float(is_right.mean()), float((top - is_right).sum() / max(spread, 1e-9)))


def calibration_section(data: PageData) -> Html | None:
    """Return the reliability diagram, the measures before and after temperature scaling, and risk over coverage."""
    if not has_probabilities(data):
        return None
    results = {"as predicted": calibration(*scored(data), num_bins=NUM_BINS)}
    temperature = data.report.get("calibration", {}).get("temperature")
    if temperature is not None:  # the predictions of the page have it already, as those of `predict`
        before = calibration(*scored(data, 1 / temperature), num_bins=NUM_BINS)
        results = {"before calibration": before, f"with temperature {temperature:.3g}": results["as predicted"]}
    charts = [_reliability(f"Reliability, {name}", found) for name, found in results.items()]
    probabilities, targets = scored(data)
    risk = risk_coverage(probabilities.max(axis=1), probabilities.argmax(axis=1) == targets)
    charts.append(_risk(risk))
    return section(
        "Calibration", "calibration", _in_words(data), _measures(results),
        tag("div", *charts, class_="charts"), _rejection(risk),
    )  # fmt: skip


def _in_words(data: PageData) -> Html:
    found = confidence(data)
    assert found is not None
    means = (
        f"The mean confidence is {percent(found.confidence)}, and {percent(found.accuracy)} of the answers are right"
    )
    if not found.is_clear:
        return paragraph(f"{means}: as far as these examples can tell, the confidence is right on average.")
    word = "overconfident" if found.deviations > 0 else "underconfident"
    repair = "" if "after" in data.report.get("calibration", {}) else f" {REPAIR}"
    return paragraph(f"{means}: the model is {word}.{repair}")


def _measures(results: dict[str, Calibration]) -> Html:
    rows = [
        [name, f"{r.ece:.4f}", f"{r.ece_equal_mass:.4f}", f"{r.brier:.4f}", f"{r.nll:.4f}"]
        for name, r in results.items()
    ]
    heads = ["probabilities", "ECE, equal width", "ECE, equal mass", "Brier score", "negative log-likelihood"]
    return table("Calibration measures, lower is better", heads, rows)


def _reliability(title: str, found: Calibration) -> Html:
    axes = Axes((0.0, 1.0), (0.0, 1.0), "confidence", "fraction right", width=340, height=320)
    bins = [each for each in found.bins if each.count]
    width = 1 / NUM_BINS
    marks = []
    for each in bins:
        low = min(max(int(each.confidence / width - 1e-9), 0), NUM_BINS - 1) * width
        text = f"confidence {each.confidence:.3f}, right {each.accuracy:.3f}, {each.count:,} answers"
        marks.append(bar(low, low + width, each.accuracy, axes, title=text))
    rows = [[f"{each.confidence:.3f}", f"{each.accuracy:.3f}", int(each.count)] for each in bins]
    values = table(f"{title}: values", ["mean confidence", "fraction right", "answers"], rows, num_texts=0)
    drawn = chart(title, axes, *marks, diagonal(axes))
    return tag("div", drawn, details(f"{title} as a table", values))


def _risk(risk: RiskCoverage) -> Html:
    points = thinned(
        list(zip(np.asarray(risk.coverage).tolist(), np.asarray(risk.risk).tolist(), strict=True)), MOST_POINTS
    )
    top = max(max((y for _, y in points), default=0.0) * 1.1, 0.01)
    axes = Axes(
        (0.0, 1.0),
        (0.0, top),
        "coverage: fraction answered, the surest first",
        "risk: fraction wrong",
        width=400,
        height=320,
    )
    return line_chart(f"Risk and coverage, area {risk.area:.4f}", [Line("risk", points)], axes)


def _rejection(risk: RiskCoverage) -> Html:
    coverage, wrong = np.asarray(risk.coverage), np.asarray(risk.risk)
    rows = []
    for wanted in COVERAGES:
        place = min(int(np.searchsorted(coverage, wanted - 1e-9)), len(wrong) - 1)
        rows.append([f"the surest {percent(wanted, 0)}", percent(1 - float(wrong[place]))])
    return table("Accuracy if the least sure answers are left to a person", ["answered", "right"], rows)
