"""Few-shot classification: classifiers on the features of pretrained weights, trained with few images of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import data as datas
from jaxvision import failures, features, storage
from jaxvision.config import Config
from jaxvision.feature_classifiers import CLASSIFIERS, Fit, logistic_regression, nearest_mean
from jaxvision.interfaces import Dataset
from jaxvision.linear_head import Examples
from jaxvision.reports import learning_curves
from jaxvision.specs import nearest
from jaxvision.thread_pools import one_thread

FILE, PLOT, EPISODES_PLOT = "fewshot.json", "fewshot.png", "episodes.png"
NAMES = {"nearest_mean": "nearest class mean", "knn": "k nearest neighbors", "logistic": "logistic regression"}
# In episodes nothing is chosen, because there is too little to choose by. C=1 is that of Y. Tian et al., Rethinking
# Few-Shot Image Classification, ECCV 2020.
IN_EPISODES: dict[str, Fit] = {"nearest_mean": nearest_mean, "logistic": partial(logistic_regression, strengths=[1.0])}
Z_95 = 1.96  # standard errors to either side of a mean, for an interval of 95 %


def fewshot(
    config: Config,
    *,
    shots: Sequence[int] = (1, 5, 10, 25),
    seeds: int = 5,
    classifiers: Sequence[str] = tuple(CLASSIFIERS),
    ways: int | None = None,
    episodes: int = 600,
    queries: int = 15,
    out: str | Path = "fewshot",
    data_dir: str | None = None,
    dataset: Any = None,
    plugins: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluate classifiers on the features of pretrained weights, with few training images; return the report.

    The features of all images are computed once and cached on disk. For each number of shots and each seed, that many
    images of each class are drawn from train; the classifiers are trained on them and evaluated on the whole test split
    (or validation, if there is no test split). Classifiers choose k and their regularization by the drawn images alone.
    Writes fewshot.json and fewshot.png.

    With `ways`, it also evaluates episodes: classes and images of the test split are drawn at random, a few images of
    each class to train on and others to predict (O. Vinyals et al., Matching Networks, NeurIPS 2016).

    Args:
        config: Names the dataset, the model and its weights. Without `init_from`, the registered weights of the model;
            with the default model, that of the workdir in `init_from`, or the largest whose weights are installed.
        shots: Numbers of images of each class. Those that a class does not have are left out, with a note.
        seeds: Number of draws.
        classifiers: Names in `feature_classifiers.CLASSIFIERS`.
        ways: Number of classes in an episode; None for no episodes.
        episodes: Number of episodes.
        queries: Images of each class that an episode predicts; fewer if a class has fewer.
        out: Folder to write to; new, empty, or with an earlier report of this command.
        data_dir: Folder of the datasets.
        dataset: A dataset that replaces the config's.
        plugins: Modules or .py files that register more.

    Returns:
        The content of fewshot.json.

    Raises:
        ValueError: The dataset is not multiclass or has no test split, or no class has enough images.
    """
    folder = Path(out).expanduser()
    _check_arguments(shots, seeds, classifiers, ways, episodes, queries)
    _check_folder(folder)
    backbone = features.backbone_of(config, plugins=plugins)
    config = config.replace(validation_fraction=0.0)  # nothing is chosen on it
    data = datas.open_dataset(config, data_dir=data_dir, dataset=dataset, preprocessing=backbone.preprocessing)
    split = _check_data(data, config, ways)
    pooled = features.pooled_features(backbone, data)
    targets = {name: each.targets for name, each in datas.splits_of(data).items()}
    train, test = (pooled["train"], targets["train"]), (pooled[split], targets[split])
    possible, notes = _possible(shots, train[1], data.classes, "train")
    report: dict[str, Any] = {
        "dataset": config.dataset,
        "model": backbone.model,
        "weights": backbone.weights.origin,
        "split": split,
        "num_test": len(test[1]),
        "num_features": test[0].shape[1],
        "classes": list(data.classes),
        "seeds": seeds,
        "results": _evaluate(
            train, test, data.classes, possible, seeds, {name: CLASSIFIERS[name] for name in classifiers}
        ),
    }
    if ways:
        rows, more = _evaluate_episodes(test, data.classes, shots, ways, episodes, queries, split)
        report |= {"ways": ways, "num_episodes": episodes, "episodes": rows}
        notes += more
    if split == "validation":
        notes.append("there is no test split: the figures are of validation")
    _save(folder, report := {**report, "notes": notes})
    return report


def _check_arguments(
    shots: Sequence[int], seeds: int, classifiers: Sequence[str], ways: int | None, episodes: int, queries: int
) -> None:
    """Raise ValueError for numbers below 1, for no shots, and for unknown classifiers."""
    numbers = {"shots": min(shots, default=0), "seeds": seeds, "episodes": episodes, "queries": queries}
    for name, number in {**numbers, "ways": 2 if ways is None else ways}.items():
        if number < (least := 2 if name == "ways" else 1):
            raise ValueError(f"{name}={number}; expected {least} or more")
    for name in classifiers:
        if name not in CLASSIFIERS:
            raise ValueError(f"no classifier {name!r}{nearest(name, CLASSIFIERS)}; they are {', '.join(CLASSIFIERS)}")


def _check_folder(folder: Path) -> None:
    """Raise ValueError if the folder is neither new, empty, nor an earlier report of this command."""
    if folder.exists() and not (folder / FILE).is_file() and storage.foreign_files(folder, (FILE, PLOT, EPISODES_PLOT)):
        what = "holds other things than a report of fewshot" if folder.is_dir() else "is a file"
        raise ValueError(f"{str(folder)!r} {what}; give a new or empty folder as --out")


def _check_data(data: Dataset, config: Config, ways: int | None) -> str:
    """Return the split to evaluate. Raises ValueError if there is none, or if the targets are not classes."""
    split = datas.reported(data)
    if data.train.kind != "multiclass":
        raise ValueError(failures.only_multiclass("fewshot", config.dataset, data.train.kind))
    if split not in datas.splits_of(data):
        raise ValueError(
            f"the dataset {config.dataset!r} has no split to evaluate: hold one out with test_fraction=0.2"
        )
    if ways and ways > len(data.classes):
        raise ValueError(f"ways={ways}, and the dataset {config.dataset!r} has {len(data.classes)} classes")
    return split


def _possible(
    shots: Sequence[int], targets: np.ndarray, classes: Sequence[str], split: str, *, others: int = 0
) -> tuple[list[int], list[str]]:
    """Return the numbers of shots that each class has, beside `others` further images, and notes on those left out.

    Raises ValueError if none is possible.
    """
    counts = np.bincount(targets, minlength=len(classes))
    fewest = int(counts.argmin())
    possible = sorted({each for each in shots if each + others <= counts[fewest]})
    beside = f" beside {others} to predict" if others else ""
    why = f"the class {classes[fewest]!r} has {counts[fewest]} images in {split}"
    if not possible:
        raise ValueError(f"shots={min(shots)}{beside}: {why}; use fewer shots, or add images")
    missing = ",".join(map(str, sorted({*shots} - {*possible})))
    return possible, [f"shots={missing}{beside}: left out, as {why}"] if missing else []


def draw(targets: np.ndarray, shots: int, *, seed: int) -> np.ndarray:
    """Return the indices of that many random examples of each class. With the same seed, fewer are a part of more."""
    rng = np.random.default_rng(seed)
    members = [rng.permutation(np.flatnonzero(targets == target)) for target in np.unique(targets)]
    return np.concatenate([each[:shots] for each in members])


def _evaluate(
    train: Examples,
    test: Examples,
    classes: Sequence[str],
    shots: Sequence[int],
    seeds: int,
    classifiers: Mapping[str, Fit],
) -> list[dict[str, Any]]:
    """Return a row for each classifier and number of shots: accuracy of each seed, their mean and deviation."""
    rows = []
    for name, fit in classifiers.items():
        for count in shots:
            values, chosen = [], []
            for seed in range(seeds):
                drawn = draw(train[1], count, seed=seed)
                fitted = fit(train[0][drawn], train[1][drawn], len(classes))
                values.append(float((fitted.predict(test[0]).argmax(axis=1) == test[1]).mean()))
                chosen.append({key: float(value) for key, value in fitted.chosen.items()})
            deviation = float(np.std(values, ddof=1)) if seeds > 1 else None
            row = {"classifier": name, "shots": count, "accuracy": float(np.mean(values)), "deviation": deviation}
            rows.append({**row, "values": values, "chosen": chosen})
    return rows


def _evaluate_episodes(
    test: Examples, classes: Sequence[str], shots: Sequence[int], ways: int, episodes: int, queries: int, split: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a row for each classifier and number of shots, with the interval of the mean, and notes."""
    possible, notes = _possible(shots, test[1], classes, split, others=1)
    fewest = int(np.bincount(test[1], minlength=len(classes)).min())
    rows = []
    for count in possible:
        asked = min(queries, fewest - count)
        if asked < queries:
            notes.append(f"episodes with shots={count} predict {asked} images of each class, not {queries}")
        values = _accuracies(test, ways, count, asked, episodes)
        for name, each in values.items():
            half = Z_95 * float(np.std(each, ddof=1)) / episodes**0.5 if episodes > 1 else None
            row = {"classifier": name, "shots": count, "queries": asked, "accuracy": float(np.mean(each))}
            rows.append({**row, "half_interval": half})
    return sorted(rows, key=lambda row: list(IN_EPISODES).index(row["classifier"])), notes


def _accuracies(test: Examples, ways: int, shots: int, queries: int, episodes: int) -> dict[str, list[float]]:
    """Return the accuracy of each classifier in each episode; all classifiers see the same episodes."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(test[1] == target) for target in np.unique(test[1])]
    known, truth = np.repeat(np.arange(ways), shots), np.repeat(np.arange(ways), queries)
    values: dict[str, list[float]] = {name: [] for name in IN_EPISODES}
    for _ in range(episodes):
        chosen = [members[i] for i in rng.choice(len(members), ways, replace=False)]
        drawn = [rng.choice(each, shots + queries, replace=False) for each in chosen]
        support, asked = (np.concatenate(each) for each in zip(*((d[:shots], d[shots:]) for d in drawn), strict=True))
        for name, fit in IN_EPISODES.items():
            with one_thread(test[0][asked].size):
                scores = fit(test[0][support], known, ways).predict(test[0][asked])
            values[name].append(float((scores.argmax(axis=1) == truth).mean()))
    return values


def _save(folder: Path, report: dict[str, Any]) -> None:
    """Write the report and its plots."""
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_json(folder / FILE, report)
    title = f"{report['model']} on {report['num_test']:,} images of {report['split']}"
    label = "training images of each class"
    lines = _lines(report["results"], "deviation")
    about = {"title": f"{title}, {report['seeds']} seeds", "chance": 1 / len(report["classes"])}
    learning_curves.over_examples(lines, folder / PLOT, label=label, **about)
    (folder / EPISODES_PLOT).unlink(missing_ok=True)
    if "episodes" in report:
        ways, lines = report["ways"], _lines(report["episodes"], "half_interval")
        about = {"title": f"{title}, {report['num_episodes']:,} episodes of {ways} classes", "chance": 1 / ways}
        learning_curves.over_examples(lines, folder / EPISODES_PLOT, label=label, **about)


def _lines(rows: Sequence[dict[str, Any]], half: str) -> dict[str, list[learning_curves.Point]]:
    lines: dict[str, list[learning_curves.Point]] = {}
    for row in rows:
        lines.setdefault(_name(row), []).append((row["shots"], row["accuracy"], row[half]))
    return lines


def _name(row: dict[str, Any]) -> str:
    name: str = row["classifier"]
    return NAMES.get(name, name)


def tables(report: dict[str, Any]) -> list[tuple[str, list[dict[str, str]]]]:
    """Return the tables for the terminal, each a heading and rows: accuracy by classifier and number of shots."""
    seeds = f"mean ± standard deviation over {report['seeds']} draws" if report["seeds"] > 1 else "one draw"
    heading = f"accuracy on {report['num_test']:,} images of {report['split']}, {seeds} of training images"
    tables = [(heading, _cells(report["results"], "deviation"))]
    if "episodes" in report:
        heading = f"{report['num_episodes']:,} episodes of {report['ways']} classes of {report['split']}, mean ± 95 %"
        tables.append((heading, _cells(report["episodes"], "half_interval")))
    return tables


def _cells(rows: Sequence[dict[str, Any]], half: str) -> list[dict[str, str]]:
    shown: dict[str, dict[str, str]] = {}
    for row in rows:
        cells = shown.setdefault(row["classifier"], {"classifier": _name(row)})
        more = "" if row[half] is None else f" ± {row[half]:.3f}"
        cells[f"{row['shots']} {'shot' if row['shots'] == 1 else 'shots'}"] = f"{row['accuracy']:.3f}{more}"
    return [*shown.values()]
