"""The results in a model card: the metrics of the reports, with intervals, baselines and the worst classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxvision.confidence_interval import wilson
from jaxvision.markdown import escaped, table
from jaxvision.reports.terminal import absent_line, figures

Report = Mapping[str, Any]
FEW = 100  # examples of an evaluation, below which the card warns
NUM_WORST = 3  # classes with the lowest recall that the card names
FRACTIONS = {"multiclass": ("accuracy", "top_5_accuracy"), "multilabel": ("subset_accuracy",)}  # of images, by targets
ON_THE_HUB = {  # names of metrics in the front matter, by ours
    "accuracy": "accuracy", "recall": "recall", "precision": "precision", "f1": "f1", "mae": "mae", "rmse": "rmse",
    "r2": "r_squared", "pearson": "pearsonr", "spearman": "spearmanr", "auroc": "roc_auc",
    "mean_average_precision": "mean_average_precision", "subset_accuracy": "subset_accuracy",
}  # fmt: skip


def metrics_of(report: Report) -> dict[str, float]:
    """Return the metrics of a report by name: its numbers, and the macro and micro averages."""
    averages = {
        f"{kind} {name}": value
        for kind in ("macro", "micro")
        for name, value in figures(dict(report.get(kind) or {})).items()
    }
    skipped = {"macro_recall"} if "macro recall" in averages else set()
    return {name: value for name, value in figures(dict(report)).items() if name not in skipped} | averages


def hub_names(reports: Sequence[Report]) -> list[str]:
    """Return the names of the reported metrics for the front matter."""
    names = {name.removeprefix("macro ") for report in reports for name in metrics_of(report)}
    return [hub for ours, hub in ON_THE_HUB.items() if ours in names]


def interval(report: Report, name: str, kind: str) -> tuple[float, float] | None:
    """Return the 95 % interval of a metric that is a fraction of the images; None for other metrics.

    `kind` is that of the targets. A metric of a plug-in may have such a name and be no count divided by the number.
    """
    count, value = report["num_examples"], metrics_of(report)[name]
    if (
        name not in FRACTIONS.get(kind, ())
        or not 0 <= value <= 1
        or abs(value * count - round(value * count)) > 0.01 + 1e-6 * count
    ):
        return None
    return wilson(round(value * count), count)


def result_lines(report: Report, *, kind: str, unit: str, tta: str) -> list[str]:
    """Return the section of one report.

    Args:
        report: content of report.json.
        kind: type of the targets.
        unit: word for the examples.
        tta: test-time augmentation, if the report states none.
    """
    tta, per_class = report.get("tta", tta), report.get("per_class") or {}
    split = report["split"]
    name = f"{split}, used for choosing" if split == "validation" else split
    lines = [f"### {_sentence(escaped(name))}: {report['num_examples']:,} {unit}", ""]
    lines += _metrics(report, kind)
    if tta != "none":
        lines += [f"Measured with test-time augmentation ({tta}), which the exported weights alone do not have.", ""]
    if report.get("absent_classes"):
        lines += [_sentence(escaped(absent_line(dict(report)))) + ".", ""]
    if "threshold" in report and len(per_class) == 2:
        positive = escaped(list(per_class)[1])
        lines += [f"A probability of at least {_shown(report['threshold'])} counted as {positive}.", ""]
    return lines + _worst(per_class)


def _metrics(report: Report, kind: str) -> list[str]:
    metrics, baselines = metrics_of(report), dict(report.get("baseline") or {})
    intervals = {name: interval(report, name, kind) for name in metrics}
    has_intervals, rows = any(intervals.values()), []
    for name, value in metrics.items():
        ends = intervals[name]
        between = [f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""] * has_intervals
        compared = [metrics_of(baseline).get(name) for baseline in baselines.values()]
        shown = ["" if value is None else _shown(value) for value in compared]
        rows.append([escaped(_name(name, kind)), _shown(value), *between, *shown])
    header = ["metric", "value", *["95 % interval (Wilson)"] * has_intervals]
    return [*table([*header, *(f"baseline: {escaped(name)}" for name in baselines)], rows), ""]


def _name(metric: str, kind: str) -> str:
    """Return a metric's name in words; the accuracy of labels is the mean over images and labels."""
    return f"{metric.replace('_', ' ')}{' of single labels' * (kind == 'multilabel' and metric == 'accuracy')}"


def _worst(per_class: Mapping[str, Any]) -> list[str]:
    """Return the table of the classes with the lowest recall; of equal ones, the first."""
    known = {name: figures(values) for name, values in per_class.items() if isinstance(values, dict)}
    worst = sorted((name for name in known if "recall" in known[name]), key=lambda name: known[name]["recall"])
    if not worst:
        return []
    rows = []
    for name in worst[:NUM_WORST]:
        shown = [_shown(known[name][each]) if each in known[name] else "" for each in ("recall", "precision")]
        rows.append([escaped(name), *shown, str(per_class[name].get("num_examples", ""))])
    return ["Lowest recall by class:", "", *table(["class", "recall", "precision", "examples"], rows), ""]


def few_examples(report: Report, *, kind: str, unit: str) -> str | None:
    """Return the sentence about an evaluation on few examples; None if there were enough."""
    count = report["num_examples"]
    if count >= FEW:
        return None
    found = [(name, interval(report, name, kind)) for name in FRACTIONS.get(kind, ()) if name in metrics_of(report)]
    ranges = [f"{name.replace('_', ' ')} between {ends[0]:.2f} and {ends[1]:.2f}" for name, ends in found if ends]
    known = f": they are compatible with {', '.join(ranges)}" if ranges else ""
    return f"The figures on {report['split']} come from only {count} {unit}{known}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _shown(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.6g}"
