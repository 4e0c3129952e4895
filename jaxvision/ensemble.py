"""The verb ensemble: several workdirs -> the report on the mean of what they predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import reports, specs, storage
from jaxvision import run as runs
from jaxvision.distributed import multihost
from jaxvision.evaluate import baselines, make_measure, opened, split_of
from jaxvision.interfaces import Dataset, Task
from jaxvision.thresholds import with_thresholds

NUM_COMPARED = 256  # inputs, where they have no names


def ensemble(
    workdirs: Sequence[str | Path],
    *,
    split: str = "test",
    data_dir: str | None = None,
    dataset: Any = None,
    plugins: Sequence[str] = (),
) -> dict[str, Any]:
    """Judges the mean prediction of several runs, and each alone; writes `report_ensemble/` into the first workdir.

    The runs may differ in all but the kind of task, the classes and the examples, else ValueError is raised. Thresholds
    are the first run's; those that are chosen on validation are chosen for the mean.
    """
    if len(workdirs) < 2 or len({str(Path(each).resolve()) for each in workdirs}) < len(workdirs):
        raise ValueError(f"an ensemble is of two different workdirs or more, not of {', '.join(map(str, workdirs))}")
    members = [opened(each, data_dir=data_dir, dataset=dataset, plugins=plugins) for each in workdirs]
    (first, data), chosen = members[0], split_of(members[0][1], split)
    for place, (trained, other) in zip(workdirs, members, strict=True):
        tasks = [specs.parse(each.run.config.task).name for each in (first, trained)]
        if tasks[0] != tasks[1]:
            raise ValueError(f"{str(place)!r} has the task {tasks[1]!r}, and {str(workdirs[0])!r} {tasks[0]!r}")
        if other.classes != data.classes:
            theirs, ours = map(_shown, (other.classes, data.classes))
            raise ValueError(f"{str(place)!r} has the classes {theirs}, and {str(workdirs[0])!r} {ours}")
        _check_same(members[0], (trained, other), split, place)
    predictions = [make_measure(trained)(split_of(other, split))[1] for trained, other in members]
    if predictions[0].ndim == 4:
        raise ValueError("an ensemble is of runs that judge images, not of some that make them")
    own = [with_thresholds(trained, other, make_measure(trained)).run.task for trained, other in members]
    mean = np.mean(predictions, axis=0)
    task = _task(members)
    judged = chosen.judged(mean)
    report = {
        "split": split,
        "headline": task.headline,
        "num_examples": len(chosen),
        "num_parameters": sum(runs.num_parameters(trained.params) for trained, _ in members),
        "members": {
            str(place): task_of.score(*chosen.judged(each))
            for place, task_of, each in zip(workdirs, own, predictions, strict=True)
        },
        **task.score(*judged),
        **task.report(*judged, data.classes),
        "baseline": baselines(task, data, chosen),
    }
    if multihost.is_first():
        folder = first.workdir / "report_ensemble"
        folder.mkdir(exist_ok=True)
        storage.write_json(folder / "report.json", report)
        reports.draw(folder, report, [], chosen, mean, task.decide(mean), data.classes)
        reports.save_predictions(folder / "predictions.csv", chosen, mean)
    return report


def _shown(classes: Sequence[str]) -> str:
    return ", ".join(classes) if len(classes) <= 5 else f"{', '.join(classes[:3])} and {len(classes) - 3} more"


def _check_same(one: tuple[runs.Trained, Dataset], other: tuple[runs.Trained, Dataset], split: str, place) -> None:
    """Raises ValueError where a split of two runs is not of the same examples, by their names or some of the inputs."""
    (first, data), (trained, theirs) = one, other
    ours, part = split_of(data, split), split_of(theirs, split)
    is_same = np.array_equal(ours.targets, part.targets)
    if is_same and len(ours.names):
        is_same = [Path(name).name for name in ours.names] == [Path(name).name for name in part.names]
    elif is_same:
        chosen = np.linspace(0, len(ours) - 1, min(len(ours), NUM_COMPARED), dtype=int)
        inputs = ours.read(chosen), part.read(chosen)
        cuts = [(each.run.config.split_seed, each.run.config.fold) for each in (first, trained)]
        is_same = np.array_equal(*inputs) if inputs[0].shape == inputs[1].shape else cuts[0] == cuts[1]
    if not is_same:
        raise ValueError(f"{split} of {str(place)!r} is of other examples than that of {str(first.workdir)!r}")


def _task(members: Sequence[tuple[runs.Trained, Dataset]]) -> Task:
    """Gives the task with its thresholds, where it chooses some, for the mean prediction on validation."""
    first, _ = members[0]
    task = runs.build_task(first.run.config, first.run.signature)
    if task.choose is None:
        return task
    validation = [split_of(other, "validation") for _, other in members]
    for each in members:
        _check_same(members[0], each, "validation", each[0].workdir)
    predictions = [make_measure(trained)(part)[1] for (trained, _), part in zip(members, validation, strict=True)]
    thresholds = task.choose(*validation[0].judged(np.mean(predictions, axis=0)))
    return runs.build_task(first.run.config, first.run.signature, thresholds=thresholds)
