"""Open a trained run with the data of its training, or with other data, whose difference is stated."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision import data as datas
from jaxvision import failures, splits, storage
from jaxvision import run as runs
from jaxvision import workdir as workdirs
from jaxvision.interfaces import Dataset, TargetStats
from jaxvision.workdir import Signature

MOST_LISTED = 5  # classes whose numbers of examples changed


class OpenedRun(NamedTuple):
    """A trained run and data; `differences` state how these differ from the data of training, none if they do not."""

    trained: runs.Trained
    data: Dataset
    differences: tuple[str, ...] = ()


def open_run(
    workdir: str | Path,
    *,
    checkpoint: str | int = "chosen",
    tta: str | None = None,
    data_dir: str | None = None,
    dataset: Any = None,
    plugins: Sequence[str] = (),
) -> OpenedRun:
    """Load a trained run and open its data, or those of the spec `dataset`, which may be others.

    Raises ValueError if no spec is given and the data are not those of training, or if other data do not fit the run.
    """
    path = workdirs.open_workdir(workdir)
    storage.refuse_links_out(path, skip=("checkpoints",))
    trained = runs.load(path, checkpoint=checkpoint, tta=tta, plugins=plugins)
    config, signature = trained.run.config, trained.run.signature
    is_spec = isinstance(dataset, str)
    has_preprocessing = config.init_from or (is_spec and signature.preprocessing.is_image)
    try:
        data = datas.open_dataset(
            config.replace(dataset=dataset) if is_spec else config,
            data_dir=data_dir or signature.data_dir,
            dataset=None if is_spec else dataset,
            preprocessing=signature.preprocessing if has_preprocessing else None,
            rules=datas.rules_of(path),
        )
    except FileNotFoundError as error:
        if is_spec:
            raise
        repair = f"{_command(workdir, config.dataset)} with their new path"
        raise FileNotFoundError(f"{error}; if the data moved: {repair}") from None
    if datas.fingerprint(data) == signature.data:
        return OpenedRun(trained, data)
    if not is_spec:
        differences = "; ".join(compare_targets(signature, data))
        command, is_array = _command(workdir, config.dataset), datas.is_in_memory(config.dataset)
        raise ValueError(failures.other_data_to_evaluate(path, differences, command, in_memory=is_array))
    _check(trained, data)
    instead = [f"{dataset} instead of {config.dataset}"] if dataset != config.dataset else []
    return OpenedRun(trained, data, (*instead, *compare_targets(signature, data)))


def _command(workdir: str | Path, dataset: str) -> str:
    """Return the command that evaluates a run on the data of a spec, quoted for a shell."""
    spec = shlex.quote(dataset) if set(dataset) & set('"$`\\!') else f'"{dataset}"'
    return f"jaxvision evaluate {shlex.quote(str(workdir))} --dataset={spec}"


def _check(trained: runs.Trained, data: Dataset) -> None:
    """Raise ValueError if other data do not fit a run, or if the run would have to choose something by them."""
    run, theirs = trained.run, data.preprocessing
    ours = run.signature.preprocessing
    if data.train.kind != run.signature.targets.kind or data.classes != run.signature.classes:
        raise ValueError(failures.other_classes(trained.workdir, run.signature.classes, data.classes))
    if (theirs.size, theirs.channels) != (ours.size, ours.channels):
        sizes = [(*each.size, each.channels) for each in (theirs, ours)]
        raise ValueError(failures.other_size(trained.workdir, *sizes))
    if run.task.fit_thresholds is not None:
        raise ValueError(failures.no_stored_thresholds(trained.workdir, trained.step, run.execution.tta))


def compare_targets(signature: Signature, data: Dataset) -> list[str]:
    """Return how the training examples of a run differ from those of other data, as lines."""
    before, now = signature.targets, splits.target_stats(data.train, len(data.classes))
    lines = [f"{before.num_examples:,} training examples then, {now.num_examples:,} now"]
    if data.classes != signature.classes:
        return [*lines, f"classes {failures.shortened(signature.classes)} then, {failures.shortened(data.classes)} now"]
    changed = _changed(before, now, data.classes)
    more = [f"and {len(changed) - MOST_LISTED} more classes"] if len(changed) > MOST_LISTED else []
    lines += changed[:MOST_LISTED] + more
    same = "the training split has as many examples of each class as then; images or names differ, or another split"
    return lines if before != now else [same]


def _changed(before: TargetStats, now: TargetStats, classes: Sequence[str]) -> list[str]:
    pairs = zip(classes, before.counts, now.counts, strict=True) if before.counts and now.counts else ()
    return [f"{name} {then:,} then, {count:,} now" for name, then, count in pairs if np.not_equal(then, count)]
