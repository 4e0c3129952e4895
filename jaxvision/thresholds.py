"""Fit a task's thresholds on validation, once per checkpoint, and store them in the workdir."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxvision import run as runs
from jaxvision import threshold_file
from jaxvision.distributed import multihost
from jaxvision.interfaces import Dataset, Outputs, Split


def with_thresholds(
    trained: runs.Trained, data: Dataset, measure: Callable[[Split], tuple[Any, Outputs]]
) -> runs.Trained:
    """Fit and store the task's thresholds on validation if it fits them and they are not stored yet.

    `measure(split)` returns metrics and outputs of the trained model. Raises ValueError if there is no validation
    split.
    """
    task = trained.run.task
    if task.fit_thresholds is None:
        return trained
    if data.validation is None:
        raise ValueError(f"the task {trained.run.config.task!r} fits its thresholds on validation, but there is none")
    _, outputs = measure(data.validation)
    thresholds = task.fit_thresholds(*data.validation.in_original_units(outputs.predictions))
    if multihost.is_main_process():
        threshold_file.save(trained.workdir, trained.step, trained.run.execution.tta, thresholds)
    task = runs.build_task(trained.run.config, trained.run.signature, thresholds=thresholds)
    return trained._replace(run=trained.run._replace(task=task))


def absent_in_validation(trained: runs.Trained, data: Dataset) -> dict[str, list[str]]:
    """Name the labels without an example in validation, if thresholds are fitted there; theirs is 0.5."""
    is_fitted = runs.build_task(trained.run.config, trained.run.signature).fit_thresholds is not None
    if not is_fitted or data.validation is None:
        return {}
    counts = data.validation.targets.sum(axis=0)
    return {"absent_in_validation": [name for name, count in zip(data.classes, counts, strict=True) if not count]}
