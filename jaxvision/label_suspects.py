"""Suspected label errors of a dataset, by the out-of-sample predictions of a trained run or of a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision import data as datas
from jaxvision import failures, folds, storage
from jaxvision import workdir as workdirs
from jaxvision.evaluation import make_measure
from jaxvision.evaluation_data import open_run
from jaxvision.interfaces import Split
from jaxvision.label_errors import label_errors
from jaxvision.sweep import FILE

NUM_LISTED = 1000  # suspects in report.json


class OutOfSample(NamedTuple):
    """Names and targets [N] of examples, with probabilities [N, C] of models that were not trained on them.

    `origin` states in words where these are from.
    """

    names: Sequence[str]
    targets: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]
    origin: str


def label_suspects(
    workdir: str | Path, *, data_dir: str | None = None, dataset: Any = None, plugins: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the suspected label errors of a run's dataset, the most suspicious first, by `label_errors`.

    For a trained run, they are among its validation examples. For the folder of `sweep --folds`, they are among all
    examples outside test: each is predicted by the run that held it out, of the configuration that ranks first.

    Args:
        workdir: The folder of a trained run, or of a sweep with folds.
        data_dir: The folder of TensorFlow Datasets. If None, that of training.
        dataset: The data, if training had them in memory.
        plugins: Modules or .py files that register more, besides those of training.

    Returns:
        `num_examples`, `num_suspects`, `predictions` (whose they are), and the first 1,000 `suspects`: name, given,
        suggested, self_confidence.

    Raises:
        ValueError: The run predicts no classes, has no validation split, or the sweep has no folds.
    """
    folder = storage.to_path(workdir)
    options: dict[str, Any] = {"data_dir": data_dir, "dataset": dataset, "plugins": plugins}
    examples = _of_folds(folder, options) if (folder / FILE).exists() else _of_run(folder, options)
    errors = label_errors(examples.probabilities, examples.targets)
    suspects = [
        {
            "name": examples.names[each.index],
            "given": examples.classes[each.given],
            "suggested": examples.classes[each.suggested],
            "self_confidence": each.self_confidence,
        }
        for each in errors[:NUM_LISTED]
    ]
    counts = {"num_examples": len(examples.targets), "num_suspects": len(errors)}
    return {**counts, "predictions": examples.origin, "suspects": suspects}


def trained_on(workdir: str | Path) -> str:
    """Return the dataset of a run, or of a sweep. Raises FileNotFoundError if the folder is neither."""
    folder = storage.to_path(workdir)
    if (folder / FILE).exists():
        folder /= storage.read_json(folder / FILE, lambda content: content["trials"][0]["trial"])
    return workdirs.read(workdirs.open_workdir(folder))[0].dataset


def _names(split: Split, part: str) -> list[str]:
    """Return the names of a split's examples: files, or their split and index."""
    return [str(name) for name in split.names] or [f"{part} {index}" for index in range(len(split))]


def _of_run(folder: Path, options: dict[str, Any]) -> OutOfSample:
    """Predict the examples of the validation split of a run, which it was not trained on."""
    trained, data, _ = open_run(folder, **options)
    if trained.run.signature.targets.kind != "multiclass":
        raise ValueError(failures.no_classes_to_doubt(folder, trained.run.config.task))
    if data.validation is None:
        raise ValueError(failures.no_unseen_labels(folder))
    _, outputs = make_measure(trained)(data.validation)
    fold = trained.run.config.fold
    origin = f"{folder}, on " + (f"fold {fold}" if fold else "validation")
    names = _names(data.validation, "validation")
    return OutOfSample(names, data.validation.targets, outputs.predictions, data.classes, origin)


def _of_folds(folder: Path, options: dict[str, Any]) -> OutOfSample:
    """Predict each example by the run that held it out, of the configuration of a sweep that ranks first."""
    content = storage.read_json(folder / FILE)
    count, settings = content["asked"].get("folds"), content.get("settings", ())
    if not count or not settings:
        raise ValueError(failures.no_folds(folder, is_finished=bool(settings)))
    rows = {row["trial"]: row for row in content["trials"] if "error" not in row}
    rows = [rows[name] for name in settings[0]["trials"] if name in rows]
    first = [row for row in rows if row["seed"] == rows[0]["seed"]]
    if len(first) < count:
        raise ValueError(failures.no_folds(folder, is_finished=False))
    names, whole = _whole(folder / first[0]["trial"], options)
    probabilities = None
    for row in first:
        part = _of_run(folder / row["trial"], options)
        if probabilities is None:
            probabilities = np.zeros((len(whole), part.probabilities.shape[1]), part.probabilities.dtype)
        probabilities[_positions(whole, row["fold"], folder / row["trial"])] = part.probabilities
    assert probabilities is not None
    origin = f"{folder}, each example by the run of {count} folds that held it out"
    return OutOfSample(names, whole.targets, probabilities, part.classes, origin)


def _whole(workdir: Path, options: dict[str, Any]) -> tuple[list[str], Split]:
    """Return the names and examples outside test of a run with a fold, in the order in which folds number them."""
    config, _, signature = workdirs.read(workdir)
    data = datas.open_dataset(
        config.replace(fold="", validation_fraction=0.0),
        data_dir=options["data_dir"] or signature.data_dir,
        dataset=options["dataset"],
        preprocessing=signature.preprocessing if config.init_from else None,
        rules=datas.rules_of(workdir),
    )
    if data.validation is None:
        return _names(data.train, "train"), data.train
    names = _names(data.train, "train") + _names(data.validation, "validation")
    return names, folds.concatenate(data.train, data.validation)


def _positions(whole: Split, fold: str, workdir: Path) -> np.ndarray:
    """Return the positions of the examples of a fold, "2/5", among all."""
    number, count = map(int, fold.split("/"))
    seed = workdirs.read(workdir)[0].split_seed
    return np.flatnonzero(folds.numbers(whole, count, seed=seed) == number)
