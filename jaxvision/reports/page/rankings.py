"""Curves over all thresholds: ROC and precision-recall, one class or label against the rest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxvision.reports.page.html import Cell, Html, details, paragraph, percent, section, table, tag
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.svg import STYLES, Axes, Line, diagonal, line_chart, shape, thinned

MOST_POINTS = 120  # of a curve
MOST_LINES = 4
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
RECALLS = (0.8, 0.9, 0.95, 0.99)


class Ranking(NamedTuple):
    """Counts at each distinct score, from the largest on: true and false positives, and the scores."""

    hits: np.ndarray
    false_alarms: np.ndarray
    scores: np.ndarray

    @property
    def recall(self) -> np.ndarray:
        return self.hits / max(self.hits[-1], 1)

    @property
    def precision(self) -> np.ndarray:
        return self.hits / np.maximum(self.hits + self.false_alarms, 1)

    @property
    def auroc(self) -> float:
        """Return the area under the ROC curve."""
        rates = self.false_alarms / max(self.false_alarms[-1], 1)
        return float(np.trapezoid(np.append(0, self.recall), np.append(0, rates)))

    @property
    def average_precision(self) -> float:
        """Return the sum of the precisions, weighted by the rise of the recall."""
        return float((np.diff(self.recall, prepend=0) * self.precision).sum())


def ranking(is_positive: np.ndarray, scores: np.ndarray) -> Ranking:
    """Count true and false positives [K] at the K distinct scores."""
    order = np.argsort(-scores, kind="stable")
    ranked, positive = scores[order], is_positive[order].astype(np.int64)
    last = np.flatnonzero(np.diff(ranked, append=-np.inf))
    hits = np.cumsum(positive)[last]
    return Ranking(hits, last + 1 - hits, ranked[last])


def rankings(data: PageData) -> Html | None:
    """Return ROC and precision-recall curves of the positive class, or of the classes with the lowest precision."""
    if data.form not in ("classes", "labels"):
        return None
    columns = _columns(data)
    if not columns:
        return None
    found = {name: ranking(*values) for name, values in columns.items()}
    worst = sorted(found, key=lambda name: found[name].average_precision)[:MOST_LINES]
    roc_axes = Axes((0.0, 1.0), (0.0, 1.0), "false positive rate", "true positive rate (recall)", width=400, height=340)
    pr_axes = roc_axes._replace(x_label="recall", y_label="precision")
    roc = [Line(name, _roc(found[name]), style) for name, style in zip(worst, STYLES, strict=False)]
    pr = [Line(name, _precision_recall(found[name]), style) for name, style in zip(worst, STYLES, strict=False)]
    charts = [
        line_chart("ROC", roc, roc_axes, diagonal(roc_axes)),
        line_chart("Precision and recall", pr, pr_axes, *_chosen_threshold(data, found, pr_axes)),
    ]
    which = f"the {len(worst)} of {len(found)} with the lowest average precision" if len(found) > len(worst) else "all"
    text = f"Each class or label against the rest; drawn are {which}." if len(found) > 1 else f"For {worst[0]}."
    return section(
        "ROC and precision-recall", "rankings", paragraph(text, note=True), tag("div", *charts, class_="charts"),
        _areas(found), _thresholds(data, found),
    )  # fmt: skip


def _columns(data: PageData) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the targets and scores of each class that has examples and is not everything; of two, the second."""
    targets, scores = data.split.targets, _scores(data)
    found = {}
    for index, name in enumerate(data.classes):
        if len(data.classes) == 2 and data.form == "classes" and index == 0:
            continue
        positive = targets == index if data.form == "classes" else targets[:, index] >= 0.5
        if 0 < positive.sum() < len(positive):
            found[name] = (positive, scores[:, index])
    return found


def _scores(data: PageData) -> np.ndarray:
    """Return what ranks the examples [N, C]: logits where the task has them, because probabilities round to 1."""
    logits = data.outputs.logits
    if logits is None:
        return data.probabilities
    logits = np.nan_to_num(np.asarray(logits, np.float64))
    return np.stack([-logits, logits], axis=1) if logits.ndim == 1 else logits


def _roc(found: Ranking) -> list[tuple[float, float]]:
    rates = found.false_alarms / max(found.false_alarms[-1], 1)
    return thinned([(0.0, 0.0), *zip(rates.tolist(), found.recall.tolist(), strict=True)], MOST_POINTS)


def _precision_recall(found: Ranking) -> list[tuple[float, float]]:
    return thinned(list(zip(found.recall.tolist(), found.precision.tolist(), strict=True)), MOST_POINTS)


def _chosen_threshold(data: PageData, found: dict[str, Ranking], axes: Axes) -> list[Html]:
    """Return a mark at the threshold of a binary task."""
    threshold = thresholds_in_use(data).get(next(iter(found)))
    if threshold is None or data.form != "classes" or len(data.classes) != 2:
        return []
    positive = data.predicted == 1
    hits = int((positive & (data.split.targets == 1)).sum())
    recall, precision = hits / max(int((data.split.targets == 1).sum()), 1), hits / max(int(positive.sum()), 1)
    return [shape(axes.x(recall), axes.y(precision), "second", size=5, title=f"threshold {threshold:.4f}")]


def thresholds_in_use(data: PageData) -> dict[str, float]:
    """Return the thresholds of the positive class or of the labels, on the scale of the predictions."""
    calibrated = data.report.get("calibration", {}).get("thresholds")
    if calibrated is not None:
        return dict(calibrated)
    if data.form == "labels":
        per_class = data.report.get("per_class", {})
        return {name: float(row["threshold"]) for name, row in per_class.items() if "threshold" in row}
    return {data.classes[1]: float(data.report["threshold"])} if "threshold" in data.report else {}


def _areas(found: dict[str, Ranking]) -> Html:
    rows = [
        [name, int(each.hits[-1]), _cell(each.auroc), _cell(each.average_precision)] for name, each in found.items()
    ]
    heads = ["class against the rest", "examples", "AUROC", "average precision"]
    shown = table("Areas under the curves", heads, rows, sortable=True)
    return shown if len(rows) <= 12 else details("Areas under the curves of all classes", shown)


def _cell(value: float) -> Cell:
    return Cell(f"{value:.4f}", value)


def _thresholds(data: PageData, found: dict[str, Ranking]) -> Html | None:
    """Return what each threshold of a binary task means, or what each label pays for a recall."""
    if data.form == "classes" and len(data.classes) == 2:
        return _binary_thresholds(data)
    return _label_thresholds(data, found) if data.form == "labels" else None


def _binary_thresholds(data: PageData) -> Html:
    scores, positive = data.probabilities[:, 1], data.split.targets == 1
    chosen = thresholds_in_use(data).get(data.classes[1])
    values = sorted({*THRESHOLDS, *([float(chosen)] if chosen is not None else [])})
    rows = []
    for value in values:
        flagged = scores >= value
        hits, count = int((flagged & positive).sum()), int(flagged.sum())
        precision, recall = hits / max(count, 1), hits / max(int(positive.sum()), 1)
        name = f"{value:.4g}" + (" (in use)" if value == chosen else "")
        f1 = 2 * hits / max(count + int(positive.sum()), 1)
        rows.append([name, percent(precision), percent(recall), f"{f1:.3f}", count, percent(count / len(scores))])
    heads = ["threshold", "precision", "recall", "F1", "called positive", "of all"]
    return table(f"Thresholds for {data.classes[1]}", heads, rows)


def _label_thresholds(data: PageData, found: dict[str, Ranking]) -> Html:
    per_class, in_use = data.report.get("per_class", {}), thresholds_in_use(data)
    rows = []
    for name, each in found.items():
        scores = per_class.get(name, {})
        values = [in_use.get(name), scores.get("precision"), scores.get("recall")]
        shown = [Cell("–", -1.0) if value is None else _cell(float(value)) for value in values]
        at = [float(each.precision[each.recall >= wanted - 1e-12].max()) for wanted in RECALLS]
        rows.append([name, *shown, *(Cell(percent(value), value) for value in at)])
    heads = [
        "label",
        "threshold in use",
        "precision",
        "recall",
        *(f"precision at recall {percent(r, 0)}" for r in RECALLS),
    ]
    return table("Thresholds of labels, and the precision that a recall costs", heads, rows, sortable=True)
