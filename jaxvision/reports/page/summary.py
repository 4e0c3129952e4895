"""The summary: what was trained on what, how good it is, and against what."""

from __future__ import annotations

import numpy as np

from jaxvision.initial_weights import without_folders
from jaxvision.reports import terminal
from jaxvision.reports.page.bootstrap import percentile_interval
from jaxvision.reports.page.findings import findings
from jaxvision.reports.page.html import Html, counted, escaped, join, names_only, paragraph, percent, section, tag
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.rankings import ranking

FRACTIONS = ("accuracy", "macro_recall", "subset_accuracy", "top_5_accuracy")  # shown in percent
FIGURES = ("loss", "macro_recall", "auroc", "average_precision", "subset_accuracy", "mae", "r2", "fid")


def summary(data: PageData) -> Html:
    """Return what was trained on what, how good it is with its interval and against the baseline."""
    report = data.report
    lines = [_what(data), _how_good(data), _compared(data), _chosen(data)]
    notes = []
    if "data_differences" in report:
        notes.append(
            f"These are not the data of training: {names_only('; '.join(report['data_differences']))}. {terminal.SEEN}."
        )
    if report.get("absent_classes"):
        line = terminal.absent_line(dict(report))
        notes.append(f"{line[:1].upper()}{line[1:]}.")
    notes += [report["note"]] if "note" in report else []
    shown = [paragraph(note, note=True) for note in notes]
    return section(
        "Summary", "summary", *(paragraph(line) for line in lines if line), *shown, _figures(data), findings(data)
    )


def shown(name: str, value: float) -> str:
    r"""Return a metric as text, a fraction in percent.

    >>> shown("accuracy", 0.9).replace("\u00a0", " "), shown("rmse", 1234.5)
    ('90.0 %', '1234')
    """
    return percent(value) if name in FRACTIONS else f"{value:.4g}"


def headline(data: PageData) -> tuple[str, float] | None:
    """Return the headline metric of the report, or else its last metric; None if it has none."""
    figures = terminal.figures(dict(data.report))
    if not figures:
        return None
    named = data.report.get("headline")
    name = named if named in figures else list(figures)[-1]
    return name, figures[name]


def interval_of(data: PageData, name: str) -> tuple[tuple[float, float], int] | None:
    """Return the bootstrap interval of a metric, and the number of resamples; None if examples do not decide it."""
    targets, predictions = data.split.in_original_units(data.outputs.predictions)
    if name == "accuracy" and data.form == "classes":
        correct = data.correct.astype(np.float64)
        return percentile_interval(lambda chosen: float(correct[chosen].mean()), data.split)
    if data.form not in ("classes", "labels", "numbers") or len(predictions) < 2:
        return None
    if name not in data.task.score(targets[:2], predictions[:2]):
        return None
    if name == "mean_average_precision" and data.form == "labels":
        weight = predictions.shape[1] * (100 + 1e5 / len(predictions))  # by sorting, and by calls for each label
        score = mean_average_precision
    else:
        weight = float(np.prod(predictions.shape[1:]))
        score = lambda *chosen: data.task.score(*chosen).get(name, np.nan)  # noqa: E731
    statistic = lambda chosen: score(targets[chosen], predictions[chosen])  # noqa: E731
    return percentile_interval(statistic, data.split, values_per_example=weight)


def mean_average_precision(targets: np.ndarray, scores: np.ndarray) -> float:
    """Compute the mean average precision over the labels that occur, for targets and scores [N, T]."""
    columns = zip(targets.T >= 0.5, scores.T, strict=True)
    found = [ranking(positive, score).average_precision for positive, score in columns if positive.any()]
    return float(np.mean(found)) if found else 0.0


def _what(data: PageData) -> Html:
    report = data.report
    if data.run is None:
        members = counted(len(report.get("members", ())), "run")
        return join((f"An ensemble of {members} with ", counted(report["num_parameters"], "parameter"), "."))
    config, signature = data.run.config, data.run.signature
    classes = {"multiclass": "class", "multilabel": "label"}.get(signature.targets.kind)
    targets = f" of {counted(len(signature.classes), classes)}" if classes else ""
    start = f", which began with the weights {without_folders(config.init_from)}," if config.init_from else ""
    return join(
        (
            "The model ",
            tag("code", without_folders(config.model)),
            f" with {report.get('num_parameters', 0):,} parameters{start} was trained on ",
            f"{counted(signature.targets.num_examples, data.noun)}{targets} of the dataset ",
            tag("code", without_folders(config.dataset)),
            ".",
        )
    )


def _how_good(data: PageData) -> Html | None:
    found = headline(data)
    where = f"On {counted(data.report['num_examples'], data.noun)} of the {data.report['split']} split"
    if found is None:
        return None
    name, value = found
    words = name.replace("_", " ")
    sentence = [f"{where}, the {words} is ", tag("b", shown(name, value))]
    between = interval_of(data, name)
    if between is not None:
        (low, high), count = between
        sentence.append(f" (95 % interval {shown(name, low)} to {shown(name, high)}, bootstrap of {count:,} resamples)")
    if data.report["split"] == "validation":
        sentence.append("; this split has chosen the checkpoint, so the figure is too good")
    return join((*sentence, "."))


def _compared(data: PageData) -> Html | None:
    """Return the headline of each trivial baseline."""
    found = headline(data)
    if found is None:
        return None
    name, value = found
    values = {rule: scores[name] for rule, scores in data.report.get("baseline", {}).items() if name in scores}
    if not values:
        return None
    texts = [f"{rule} {shown(name, other)}" for rule, other in values.items()]
    mode = data.task.monitor.mode if data.task.monitor and data.task.monitor.name == name else "max"
    best = max(values.values()) if mode == "max" else min(values.values())
    is_better = value > best if mode == "max" else value < best
    end = "" if is_better else " The model is not better than that."
    return escaped(f"For comparison, the trivial baseline: {', '.join(texts)}.{end}")


def _chosen(data: PageData) -> Html | None:
    report = data.report
    if "checkpoint" not in report:
        return None
    tta = "" if report["tta"] == "none" else f" Test-time augmentation: {report['tta']}."
    gap = ""
    name = (headline(data) or ("", 0))[0]
    if name in report.get("gap", {}):
        train, words = report["train"], name.replace("_", " ")
        gap = f" On {train['num_examples']:,} training examples, the {words} is {shown(name, train[name])}."
    return escaped(f"Checkpoint of step {report['step']:,}, chosen as: {report['checkpoint']}.{tta}{gap}")


def _figures(data: PageData) -> Html | None:
    """Return the most important numbers, large."""
    figures = terminal.figures(dict(data.report))
    first = headline(data)
    names = [first[0]] if first else []
    names += [name for name in FIGURES if name in figures and name not in names]
    items = [(name.replace("_", " "), shown(name, figures[name])) for name in names]
    items.append((f"{data.noun}s of {data.report['split']}", f"{data.report['num_examples']:,}"))
    return tag("ul", *(tag("li", tag("span", name), tag("b", value)) for name, value in items), class_="figure")
