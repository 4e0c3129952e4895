"""A report as text for the terminal: the metrics in the order of the report, its headline last."""

from __future__ import annotations

from typing import Any

SEEN = "if the run was trained on some of these images, the metrics are too good; gap and baseline are left out"
FACTS = ("num_examples", "num_parameters", "step", "threshold")  # numbers that are not metrics
MOST_NAMED = 10  # absent classes


def text(report: dict[str, Any]) -> str:
    """Return the report as text for the terminal, with the headline metric on the last line."""
    lines = _class_lines(report) if "per_class" in report else []
    confused = [f"{p['true']} as {p['predicted']} {p['count']}x" for p in report.get("most_confused", ())[:3]]
    if confused:
        lines.append(f"most confused: {', '.join(confused)}")
    if report.get("absent_classes"):
        lines.append(absent_line(report))
    if "threshold" in report and "confusion_matrix" in report:
        lines.append(_threshold_line(report))
    absent = report.get("absent_in_validation", ())
    if absent:
        lines.append(
            f"threshold 0.5, because validation has no examples; the target may not be met: {', '.join(absent)}"
        )
    if "class_fractions" in report:
        fractions = ", ".join(f"{name} {fraction:.2%}" for name, fraction in report["class_fractions"].items())
        lines.append(f"class fractions: {fractions}")
    if "calibration" in report:
        lines.append(calibration_line(report["calibration"]))
    if report.get("gap"):
        name = _last(report["gap"], report)
        lines.append(_gap_line(report, name))
    for name, part in report.get("members", {}).items():
        lines.append(f"{name} alone: {_told(part, report)}")
    for name, part in report.get("baseline", {}).items():
        lines.append(f"{name}, for comparison: {_told(part, report)}")
    if "checkpoint" in report:
        lines.append(f"checkpoint of step {report['step']:,} ({report['checkpoint']}), tta {report['tta']}")
    if "data_differences" in report:
        lines += [f"not the data of training: {'; '.join(report['data_differences'])}", SEEN]
    lines += [report["note"]] if "note" in report else []
    lines.append(f"{split_name(report['split'])} of {report['num_examples']:,}: {_told(report, report)}")
    return "\n".join(lines)


def split_name(split: str) -> str:
    """Return what a report calls a split: validation has chosen the checkpoint, so its metrics are optimistic."""
    return "validation, used for choosing," if split == "validation" else split


def absent_line(report: dict[str, Any]) -> str:
    """Return the definition of the macro average where the split lacks classes, and which these are."""
    absent, count = report["absent_classes"], len(report["per_class"])
    more = f" and {len(absent) - MOST_NAMED} more" if len(absent) > MOST_NAMED else ""
    names = ", ".join(absent[:MOST_NAMED]) + more
    occurring = f"{count - len(absent)} of {count} classes that {report['split']} has"
    return f"macro averages are over the {occurring}; without examples: {names}"


def calibration_line(part: dict[str, Any]) -> str:
    """Return the calibration errors of a report, before and after the temperature, or why there is none."""
    before = f"expected calibration error {part['before']['ece']:.4f}"
    if "after" not in part:
        return f"{before}, {part['note']}"
    return f"{before}, with temperature {part['temperature']:.3f} {part['after']['ece']:.4f} ({part['note']})"


def _threshold_line(report: dict[str, Any]) -> str:
    """Return from which probability on a binary task predicts the second class, on the scale that `predict` shows."""
    name, threshold = list(report["per_class"])[1], report["threshold"]
    shown = report.get("calibration", {}).get("thresholds", {}).get(name, threshold)
    before = "" if shown == threshold else f", before calibration {threshold:.4f}"
    return f"{name} from a probability of {shown:.4f} on{before}"


def _gap_line(report: dict[str, Any], name: str) -> str:
    """Return the line with a metric on the training examples that were evaluated, their number, and the gap."""
    train, gap = report["train"], report["gap"][name]
    part = f"{train['num_examples']:,} of {train['num_in_split']:,} training examples"
    return f"{name} on {part} {train[name]:.4f}, gap {gap:+.4f} (train minus {report['split']})"


def figures(report: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of a report in its order: all plain numbers except the facts."""
    numbers = {name: value for name, value in report.items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if name not in FACTS and not isinstance(value, bool)}


def headline(report: dict[str, Any]) -> str:
    """Return the headline metric of a report with its value, or else its last metric."""
    found = figures(report)
    return _shown(_last(found, report), found) if found else ""


def _last(values: dict[str, float], report: dict[str, Any]) -> str:
    """Return the name of the metric that is printed last: the headline of the report if it has that metric."""
    named = report.get("headline")
    return named if named in values else list(values)[-1]


def _told(part: dict[str, Any], report: dict[str, Any]) -> str:
    """Return the metrics of a report or a part of it as text, the headline last."""
    found = figures(part)
    if not found:
        return ""
    last = _last(found, report)
    return ", ".join(_shown(name, found) for name in [*(name for name in found if name != last), last])


def _shown(name: str, values: dict[str, float]) -> str:
    return f"{name.replace('_', ' ')} {values[name]:.4f}"


def _class_lines(report: dict[str, Any]) -> list[str]:
    rows = [(name, scores, scores["num_examples"]) for name, scores in report["per_class"].items()]
    means = [name for name in ("macro", "micro", "weighted") if name in report]
    rows += [(f"{name} mean", report[name], report["num_examples"]) for name in means]
    width = max(13, *(len(name) for name, _, _ in rows))
    fullest = sorted(rows, key=lambda row: -len(row[1]))  # whose order is that of the columns
    columns = [
        name for name in dict.fromkeys(name for _, scores, _ in fullest for name in scores) if name != "num_examples"
    ]

    def line(name: str, scores: dict[str, float], count: int) -> str:
        cells = [f"{scores[each]:.4f}" if each in scores else "" for each in columns]
        shown = "".join(f"  {cell:>{max(6, len(each))}}" for each, cell in zip(columns, cells, strict=True))
        return f"{name:{width}}{shown}  {count:8,}".rstrip()

    heads = "".join(f"  {name.replace('_', ' '):>6}" for name in columns)
    return [f"{'':{width}}{heads}  examples", *(line(*row) for row in rows)]
