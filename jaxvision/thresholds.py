"""Thresholds of a task that are chosen on validation: once for a checkpoint, and kept in the workdir."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxvision import run as runs
from jaxvision import workdir as workdirs
from jaxvision.distributed import multihost
from jaxvision.interfaces import Dataset, Split


def with_thresholds(
    trained: runs.Trained, data: Dataset, measure: Callable[[Split], tuple[Any, np.ndarray]]
) -> runs.Trained:
    """Chooses the task's thresholds on validation where they are to be chosen and are not yet, and keeps them.

    `measure(split)` gives values and predictions of the trained model.
    """
    task = trained.run.task
    if task.choose is None:
        return trained
    if data.validation is None:
        raise ValueError(f"the task {trained.run.config.task!r} chooses its thresholds on validation: there is none")
    _, predictions = measure(data.validation)
    thresholds = task.choose(*data.validation.judged(predictions))
    if multihost.is_first():
        workdirs.save_thresholds(trained.workdir, trained.step, trained.run.execution.views, thresholds)
    task = runs.build_task(trained.run.config, trained.run.signature, thresholds=thresholds)
    return trained._replace(run=trained.run._replace(task=task))


def absent_in_validation(trained: runs.Trained, data: Dataset) -> dict[str, list[str]]:
    """Names the tags of which validation has no example, where thresholds are chosen there: theirs is 0.5."""
    chooses = runs.build_task(trained.run.config, trained.run.signature).choose is not None
    if not chooses or data.validation is None:
        return {}
    counts = data.validation.targets.sum(axis=0)
    return {"absent_in_validation": [name for name, count in zip(data.classes, counts, strict=True) if not count]}
