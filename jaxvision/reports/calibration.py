"""The calibration section of a report: before and after a temperature, which is fitted on validation and stored."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxvision import calibration, temperature_file
from jaxvision import run as runs
from jaxvision.distributed import multihost
from jaxvision.interfaces import Dataset, Outputs, Split
from jaxvision.splits import FEW
from jaxvision.temperature_file import Fitted

NUM_POINTS = 100  # of the risk-coverage curve in report.json
NOT_ONE = "not calibrated: a temperature is that of one network, and this is a mean of several"


class Answers(NamedTuple):
    """Probabilities [N, C] and class indices [N]; of a multilabel task, an example for each label."""

    probabilities: np.ndarray
    targets: np.ndarray


def section(
    report: dict[str, Any],
    trained: runs.Trained,
    data: Dataset,
    split: Split,
    outputs: Outputs,
    measure: Callable[[Split], tuple[Any, Outputs]],
    *,
    calibrate: bool | None,
) -> dict[str, Any]:
    """Return the part "calibration" of a report, with its temperature; nothing if the task predicts no probabilities.

    Without a stored temperature, it is fitted on validation and stored if `calibrate` is True, or if it is None and the
    run has one for another checkpoint. With False, it is neither fitted nor applied. On other data than those of
    training (`report` has data_differences), only a stored one is applied.
    """
    answers = _answers(split, outputs)
    if answers is None:
        return {}
    temperature, note = _temperature(report, trained, data, split, outputs, measure, calibrate=calibrate)
    part: dict[str, Any] = {"temperature": temperature, "note": note}
    part["before"] = _described(answers)
    shown = answers
    if temperature is not None:
        shown = answers._replace(probabilities=calibration.scaled(answers.probabilities, temperature))
        part["after"] = _described(shown)
        part |= _thresholds(report, temperature)
    return {"calibration": {**part, "risk_coverage": _curve(shown)}}


def section_of_ensemble(split: Split, outputs: Outputs) -> dict[str, Any]:
    """Return the part "calibration" of an ensemble's report, whose mean probabilities get no temperature."""
    answers = _answers(split, outputs)
    if answers is None:
        return {}
    part = {"temperature": None, "note": NOT_ONE, "before": _described(answers), "risk_coverage": _curve(answers)}
    return {"calibration": part}


def calibrated(outputs: Outputs, report: dict[str, Any], split: Split) -> Outputs:
    """Return outputs with the probabilities that `predict` returns: divided by the temperature of a report, if any."""
    temperature = report.get("calibration", {}).get("temperature")
    per_label = split.kind == "multilabel"
    return outputs._replace(predictions=calibration.scaled(outputs.predictions, temperature, per_label=per_label))


def _answers(split: Split, outputs: Outputs) -> Answers | None:
    predictions, per_label = outputs.predictions, split.kind == "multilabel"
    if split.kind == "continuous" or not calibration.are_probabilities(predictions, per_label=per_label):
        return None
    return (
        Answers(*calibration.columns(predictions, split.targets)) if per_label else Answers(predictions, split.targets)
    )


def _temperature(
    report: dict[str, Any],
    trained: runs.Trained,
    data: Dataset,
    split: Split,
    outputs: Outputs,
    measure: Callable[[Split], tuple[Any, Outputs]],
    *,
    calibrate: bool | None,
) -> tuple[float | None, str]:
    """Return the temperature, stored or fitted now, or None; and in words where it is from, or why there is none."""
    if calibrate is False:
        return None, "not calibrated: it was switched off"
    stored = _stored(trained)
    if "data_differences" in report and stored is None:
        return None, "not calibrated: nothing is fitted to other data"
    if stored is None or (calibrate and "data_differences" not in report):
        if data.validation is None:
            return None, "not calibrated: there is no validation split to fit a temperature on"
        if len(data.validation) < FEW:
            return None, f"not calibrated: {len(data.validation)} validation examples are few to fit a temperature on"
        if calibrate is None and not temperature_file.exists(trained.workdir):
            return None, "not calibrated: `jaxvision evaluate --calibrate` fits a temperature on validation"
        if split is not data.validation:
            _, outputs = measure(data.validation)
        stored = _fit(trained, data.validation, outputs)
    if stored.temperature is None:
        return None, f"not calibrated: no temperature helps on parts of the {stored.num_examples:,} validation examples"
    seen = ", the examples of this report, so its figures are optimistic" if report["split"] == "validation" else ""
    return stored.temperature, f"fitted on {stored.num_examples:,} validation examples{seen}"


def _stored(trained: runs.Trained) -> Fitted | None:
    try:
        return temperature_file.load(trained.workdir, trained.step, trained.run.execution.tta)
    except ValueError:  # a warning when the run was loaded
        return None


def _fit(trained: runs.Trained, validation: Split, outputs: Outputs) -> Fitted:
    """Fit a temperature to the outputs of a run on validation, and store it."""
    answers = _answers(validation, outputs)
    assert answers is not None
    temperature = calibration.useful_temperature(calibration.logits_of(answers.probabilities), answers.targets)
    fitted = Fitted(trained.step, trained.run.execution.tta, temperature, len(validation))
    if multihost.is_main_process():
        try:
            temperature_file.save(trained.workdir, fitted)
        except OSError as error:
            warnings.warn(f"the temperature is not kept for later commands: {error}", stacklevel=2)
    return fitted


def _described(answers: Answers) -> dict[str, Any]:
    measured = calibration.calibration(*answers)
    return {**measured._asdict(), "bins": [each._asdict() for each in measured.bins]}


def _thresholds(report: dict[str, Any], temperature: float) -> dict[str, Any]:
    """Return the thresholds of a report on the scale of calibrated probabilities, by label; nothing without any."""
    per_class = report.get("per_class", {})
    thresholds = {name: row["threshold"] for name, row in per_class.items() if "threshold" in row}
    if "threshold" in report and len(per_class) == 2:
        thresholds = {list(per_class)[1]: report["threshold"]}
    if not thresholds:
        return {}
    values = calibration.scaled(np.array(list(thresholds.values())), temperature, per_label=True)
    return {"thresholds": dict(zip(thresholds, values.tolist(), strict=True))}


def _curve(answers: Answers) -> dict[str, Any]:
    """Return a risk-coverage curve as lists of at most NUM_POINTS points, evenly spaced, the last among them."""
    predicted = answers.probabilities.argmax(axis=1)
    curve = calibration.risk_coverage(answers.probabilities.max(axis=1), predicted == answers.targets)
    size = len(curve.risk)
    chosen = np.unique(np.linspace(0, size - 1, NUM_POINTS, dtype=int))
    return {"area": curve.area, "coverage": curve.coverage[chosen].tolist(), "risk": curve.risk[chosen].tolist()}
