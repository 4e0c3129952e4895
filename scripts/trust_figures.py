"""Measure temperature scaling on a trained run, and label errors on flipped labels, against other libraries.

    python scripts/trust_figures.py --part=temperature --workdir=RUN
    python scripts/trust_figures.py --part=labels --dataset=cifar10 --data_dir=FOLDER

RUN is a classifier with a validation and a test split. Of "labels", out-of-fold probabilities are those of a logistic
regression in 5 folds: on the pixels of digits, and on pretrained features of 10,000 test images of the dataset. The
same probabilities go to `label_errors` and, where it is installed, to cleanlab. scikit-learn's temperature needs
version 1.8. Each part prints a Markdown table.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import flags
from script_flags import parse, require_no_words

from jaxvision.calibration import calibration, logits_of, risk_coverage, scaled, useful_temperature
from jaxvision.cli.errors import run_command
from jaxvision.label_errors import label_errors

NAME = "scripts/trust_figures.py"
SIZES = (50, 100, 200, 500, 1000, 5000)  # of validation, drawn without replacement
NUM_DRAWS = 20
FRACTIONS = (0.0, 0.05, 0.1, 0.2)
NUM_IMAGES = 10_000
MODEL, IMAGE_SIZE, NUM_COMPONENTS = "efficientnet_lite0", 128, 128
Rows = list[tuple[Any, ...]]


def table(head: Sequence[str], rows: Rows) -> str:
    """Return a Markdown table; numbers have four digits."""

    def cell(value: Any) -> str:
        return f"{value:.4f}" if isinstance(value, float) else str(value)

    lines = [head, ["---"] * len(head), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# ── temperature ───────────────────────────────────────────────────────────────────────────────────────────────────────


def outputs_of(workdir: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities and targets of a split of a run."""
    from jaxvision.evaluation import make_measure, split_of
    from jaxvision.evaluation_data import open_run

    opened = open_run(workdir)
    chosen = split_of(opened.data, split)
    return make_measure(opened.trained)(chosen)[1].predictions, chosen.targets


def scikit_learn_temperature(logits: np.ndarray, targets: np.ndarray) -> float | None:
    """Return the temperature of scikit-learn's calibration, or None if this version has none."""
    import sklearn.calibration

    scaling = getattr(sklearn.calibration, "_TemperatureScaling", None)
    return None if scaling is None else float(1 / scaling().fit(logits, targets).beta_)


def temperature_rows(validation: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> Rows:
    """Return the figures on test before and after the temperature of all of validation, and that of scikit-learn."""
    probabilities, targets = test
    logits = logits_of(validation[0])
    rows: Rows = []
    for name, temperature in (
        ("none", None),
        ("jaxvision", useful_temperature(logits, validation[1])),
        ("scikit-learn", scikit_learn_temperature(logits, validation[1])),
    ):
        shown = scaled(probabilities, temperature)
        measured = calibration(shown, targets)
        correct = shown.argmax(axis=1) == targets
        area = risk_coverage(shown.max(axis=1), correct).area
        scores = (measured.ece, measured.ece_equal_mass, measured.brier, measured.nll, area)
        rows.append((name, "" if temperature is None else round(temperature, 6), *scores, float(correct.mean())))
    return rows


def size_rows(validation: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> Rows:
    """Return how a temperature of few validation examples does on test: mean and worst of draws, and those without."""
    logits, targets = logits_of(validation[0]), validation[1]
    before = calibration(*test).nll
    rows: Rows = []
    for size in (each for each in SIZES if each <= len(targets)):
        found, losses = [], []
        for draw in range(NUM_DRAWS if size < len(targets) else 1):
            chosen = np.random.default_rng(draw).permutation(len(targets))[:size]
            temperature = useful_temperature(logits[chosen], targets[chosen])
            found.append(temperature)
            losses.append(before if temperature is None else calibration(scaled(test[0], temperature), test[1]).nll)
        kept = [each for each in found if each is not None]
        spread = f"{np.mean(kept):.3f} ± {np.std(kept):.3f}" if kept else ""
        changes = np.array(losses) - before
        rows.append((size, spread, f"{len(kept)} of {len(found)}", float(changes.mean()), float(changes.max())))
    return rows


# ── label errors ──────────────────────────────────────────────────────────────────────────────────────────────────────


def uniform(num_classes: int, fraction: float) -> np.ndarray:
    """Return the confusion matrix that changes a fraction of each class to any other class alike."""
    matrix = np.full((num_classes, num_classes), fraction / (num_classes - 1))
    np.fill_diagonal(matrix, 1 - fraction)
    return matrix


def paired(num_classes: int, fraction: float) -> np.ndarray:
    """Return the confusion matrix that changes a fraction of each class to the next class."""
    identity = np.eye(num_classes)
    return (1 - fraction) * identity + fraction * np.roll(identity, 1, axis=1)


def flipped(targets: np.ndarray, matrix: np.ndarray, seed: int) -> np.ndarray:
    """Return targets drawn from the rows of a confusion matrix."""
    rng = np.random.default_rng(seed)
    limits = np.cumsum(matrix, axis=1)[targets]
    return (rng.random((len(targets), 1)) >= limits[:, :-1]).sum(axis=1)


def out_of_fold(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return probabilities of a logistic regression in 5 stratified folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    standard = (features - features.mean(axis=0)) / (features.std() or 1.0)
    model = LogisticRegression(C=0.1, max_iter=300, tol=1e-3)
    return np.asarray(cross_val_predict(model, standard, labels, cv=5, method="predict_proba"))


def average_precision(indices: Sequence[int] | np.ndarray, flips: np.ndarray) -> float:
    """Return the average precision of flagged examples in their order; flips that are not flagged are missed."""
    if not flips.any() or not len(indices):
        return float("nan")
    hits = flips[np.asarray(indices)]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1) * hits).sum() / flips.sum())


def cleanlab_errors(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """Return the indices that cleanlab flags, in its order, or None if it is not installed."""
    try:
        from cleanlab.filter import find_label_issues  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)


def label_rows(name: str, features: np.ndarray, targets: np.ndarray, seeds: int) -> Rows:
    """Return average precision, precision and counts of the flags of both libraries, by kind and fraction of flips."""
    rows: Rows = []
    kinds: list[tuple[str, Callable[[int, float], np.ndarray]]] = [("uniform", uniform), ("next class", paired)]
    for kind, fraction in [("none", 0.0), *((kind, each) for kind, _ in kinds for each in FRACTIONS if each)]:
        figures = []
        for seed in range(seeds if fraction else 1):
            matrix = dict(kinds).get(kind, uniform)(int(targets.max()) + 1, fraction)
            labels = flipped(targets, matrix, seed)
            flips = labels != targets
            probabilities = out_of_fold(features, labels)
            for flags_of in (
                [each.index for each in label_errors(probabilities, labels)],
                cleanlab_errors(probabilities, labels),
            ):
                found = np.array([] if flags_of is None else flags_of, int)
                hits = int(flips[found].sum())
                precision = hits / len(found) if len(found) else float("nan")
                figures.append((average_precision(found, flips), precision, len(found) - hits, int(flips.sum())))
        ours, theirs = np.array(figures[::2]), np.array(figures[1::2])
        counts = (round(ours[:, 3].mean()), f"{ours[:, 2].mean():.0f}", f"{theirs[:, 2].mean():.0f}")
        scores = [float(each[:, column].mean()) for column in (0, 1) for each in (ours, theirs)]
        least = float((ours[:, 0] - theirs[:, 0]).min())
        rows.append((name, len(targets), kind, fraction, *scores, least, *counts))
    return rows


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of digits [N, 64] in 0..1, and their classes."""
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    return pixels / 16, targets


def pretrained_features(dataset: str, data_dir: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return NUM_COMPONENTS principal components of pretrained features of test images, and their classes."""
    from PIL import Image

    from jaxvision import features
    from jaxvision.config import Config
    from jaxvision.data import open_dataset
    from jaxvision.interfaces import Split

    backbone = features.open_backbone(MODEL, "pretrained")
    test = open_dataset(Config(dataset=dataset), data_dir=data_dir).test
    assert test is not None and backbone.preprocessing is not None
    chosen = np.arange(min(NUM_IMAGES, len(test)))
    size = (IMAGE_SIZE, IMAGE_SIZE)
    images = [Image.fromarray(image).resize(size, Image.Resampling.BICUBIC) for image in test.read(chosen)]
    split = Split.of(np.stack([np.asarray(image) for image in images]), test.targets[chosen], kind="multiclass")
    pooled = features.features_of(backbone, split, dataclasses.replace(backbone.preprocessing, size=size))
    centered = pooled.astype(np.float64) - pooled.mean(axis=0)
    _, vectors = np.linalg.eigh(centered.T @ centered)  # in ascending order
    return centered @ vectors[:, -NUM_COMPONENTS:], split.targets


def main(argv: Sequence[str]) -> None:
    """Measure temperatures or label errors: python scripts/trust_figures.py --part=labels [--dataset=cifar10]"""

    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_enum("part", "labels", ["temperature", "labels"], "what to measure", flag_values=values)
        flags.DEFINE_string("workdir", "", "a trained classifier with validation and test", flag_values=values)
        flags.DEFINE_string("dataset", "", "dataset whose labels are changed, besides digits", flag_values=values)
        flags.DEFINE_string("data_dir", None, "folder of TensorFlow Datasets", flag_values=values)
        flags.DEFINE_integer("seeds", 5, "draws of flips", lower_bound=1, flag_values=values)

    values, rest = parse(NAME, main.__doc__ or "", define, argv)
    require_no_words(NAME, rest)
    if values.part == "temperature":
        validation, test = outputs_of(values.workdir, "validation"), outputs_of(values.workdir, "test")
        head = ("temperature of", "T", "ECE", "ECE, equal mass", "Brier", "NLL", "risk-coverage area", "accuracy")
        print(table(head, temperature_rows(validation, test)))
        head = ("validation examples", "T", "fitted", "change of NLL on test, mean", "worst")
        print("\n" + table(head, size_rows(validation, test)))
        return
    sets = {"digits": digits()}
    if values.dataset:
        sets[values.dataset] = pretrained_features(values.dataset, values.data_dir)
    head = ("data", "examples", "flips", "fraction", "AP", "AP, cleanlab", "precision", "precision, cleanlab")
    head += ("least difference of AP", "flipped", "flags on unflipped", "of cleanlab")
    print(table(head, [row for name, data in sets.items() for row in label_rows(name, *data, values.seeds)]))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], NAME))
