"""Ensembles: evaluate the mean prediction of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import data as datas
from jaxvision import failures, reports, specs
from jaxvision import run as runs
from jaxvision.distributed import multihost
from jaxvision.engine import inference
from jaxvision.ensemble_outputs import combine
from jaxvision.evaluation import baselines, make_measure, split_of
from jaxvision.evaluation_data import open_run
from jaxvision.interfaces import Dataset, Task
from jaxvision.thresholds import with_thresholds

NUM_COMPARED = 256  # inputs, if they have no names


def ensemble(
    workdirs: Sequence[str | Path],
    *,
    split: str | None = None,
    checkpoint: str | int = "chosen",
    tta: str | None = None,
    out: str | Path | None = None,
    data_dir: str | None = None,
    dataset: Any = None,
    no_images: bool = False,
    plugins: Sequence[str] = (),
) -> reports.Report:
    """Evaluate the mean prediction of several runs, and each run; write `report_ensemble/` into the first workdir.

    The arguments are those of `evaluate`. Constant thresholds are those of the first run; thresholds fitted on
    validation are fitted again for the mean. Raises ValueError if the runs differ in task, classes or examples.
    """
    if len(workdirs) < 2 or len({str(Path(each).resolve()) for each in workdirs}) < len(workdirs):
        raise ValueError(f"an ensemble needs two or more different workdirs, not {', '.join(map(str, workdirs))}")
    if isinstance(dataset, str):
        raise ValueError(f"dataset={dataset!r}: other data than those of training are for one run, not an ensemble")
    members = [
        open_run(each, checkpoint=checkpoint, tta=tta, data_dir=data_dir, dataset=dataset, plugins=plugins)[:2]
        for each in workdirs
    ]
    (first, data), split = members[0], split or datas.reported(members[0][1])
    chosen = split_of(data, split)
    _check_members(workdirs, members, split)
    outputs = [make_measure(trained)(split_of(other, split))[1] for trained, other in members]
    if outputs[0].predictions.ndim == 4:
        raise ValueError("an ensemble needs runs with predictions, not generators of images")
    own = [with_thresholds(trained, other, make_measure(trained)).run.task for trained, other in members]
    task = _task(members)
    mean = combine(outputs, task, chosen)
    report = {
        "split": split,
        "headline": task.headline,
        "num_examples": len(chosen),
        "num_parameters": sum(runs.num_parameters(trained.params) for trained, _ in members),
        "members": {
            str(place): inference.metrics_of(task_of, chosen, each)
            for place, task_of, each in zip(workdirs, own, outputs, strict=True)
        },
        "checkpoints": {str(place): _checkpoint(one) for place, (one, _) in zip(workdirs, members, strict=True)},
        **inference.metrics_of(task, chosen, mean, data.classes),
        **reports.ensemble_calibration(chosen, mean),
        "baseline": baselines(task, data, chosen),
        **({"note": failures.no_test()} if data.test is None else {}),
    }
    if multihost.is_main_process():
        folder = reports.folder_of(first.workdir, report) if out is None else Path(out)
        has_images = not no_images and not any(trained.run.execution.no_images for trained, _ in members)
        reports.save(folder, report, [], chosen, mean, task, data.classes, has_images=has_images)
    return reports.Report(report)


def _checkpoint(trained: runs.Trained) -> dict[str, Any]:
    return {"step": trained.step, "checkpoint": trained.checkpoint, "tta": trained.run.execution.tta}


def _check_members(workdirs: Sequence[str | Path], members: Sequence[tuple[runs.Trained, Dataset]], split: str) -> None:
    """Raise ValueError if the runs of an ensemble differ in task, classes or the examples of a split."""
    first, data = members[0]
    for place, (trained, other) in zip(workdirs, members, strict=True):
        tasks = [specs.parse(each.run.config.task).name for each in (first, trained)]
        if tasks[0] != tasks[1]:
            raise ValueError(f"{str(place)!r} has the task {tasks[1]!r}, and {str(workdirs[0])!r} {tasks[0]!r}")
        if other.classes != data.classes:
            theirs, ours = map(failures.shortened, (other.classes, data.classes))
            raise ValueError(f"{str(place)!r} has the classes {theirs}, and {str(workdirs[0])!r} {ours}")
        _check_same(members[0], (trained, other), split, place)


def _check_same(one: tuple[runs.Trained, Dataset], other: tuple[runs.Trained, Dataset], split: str, place) -> None:
    """Raise ValueError if a split of two runs has other examples, by their names or a sample of the inputs."""
    (first, data), (trained, theirs) = one, other
    ours, part = split_of(data, split), split_of(theirs, split)
    is_same = np.array_equal(ours.targets, part.targets)
    if is_same and len(ours.names):
        is_same = [Path(name).name for name in ours.names] == [Path(name).name for name in part.names]
    elif is_same:
        chosen = np.linspace(0, len(ours) - 1, min(len(ours), NUM_COMPARED), dtype=int)
        inputs = ours.read(chosen), part.read(chosen)
        cuts = [(member.run.config.split_seed, member.run.config.fold) for member in (first, trained)]
        is_same = np.array_equal(*inputs) if inputs[0].shape == inputs[1].shape else cuts[0] == cuts[1]
    if not is_same:
        raise ValueError(f"the {split} split of {str(place)!r} has other examples than that of {str(first.workdir)!r}")


def _task(members: Sequence[tuple[runs.Trained, Dataset]]) -> Task:
    """Build the task, with thresholds fitted to the mean prediction on validation if it fits any."""
    first, _ = members[0]
    task = runs.build_task(first.run.config, first.run.signature)
    if task.fit_thresholds is None:
        return task
    validation = [split_of(other, "validation") for _, other in members]
    for each in members:
        _check_same(members[0], each, "validation", each[0].workdir)
    outputs = [make_measure(trained)(part)[1] for (trained, _), part in zip(members, validation, strict=True)]
    mean = np.mean([each.predictions for each in outputs], axis=0)
    thresholds = task.fit_thresholds(*validation[0].in_original_units(mean))
    return runs.build_task(first.run.config, first.run.signature, thresholds=thresholds)
