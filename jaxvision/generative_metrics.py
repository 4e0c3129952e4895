"""Metrics of generated images, computed with a separately trained classifier."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxvision import registry, specs
from jaxvision import run as runs
from jaxvision.distributed import compilation
from jaxvision.engine import inference
from jaxvision.interfaces import Split


def generative_metrics(
    made: np.ndarray, real: Split, train: Split, classifier: str | Path, *, plugins: Sequence[str] = ()
) -> dict[str, Any]:
    """Compare generated images [N, H, W, C] in 0..1 with real ones, by a classifier's classes and features.

    Returns the fraction of each predicted class, the smallest of these, and the Fréchet distance between the pooled
    features of generated and real images (M. Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NIPS 2017,
    section 2, with this classifier in place of Inception); the same for noise and for as many training images as
    baselines.

    Args:
        made: generated images.
        real: real images, usually the test split.
        train: the training split, for the baseline.
        classifier: workdir of a trained classifier.
        plugins: plug-in files that the classifier needs.

    Raises:
        ValueError: if nothing was generated, if the classifier takes other images, is not multiclass, or has no pooled
            features, or if there are fewer than two images of a kind.
    """
    if made.ndim != 4:
        raise ValueError("fid_classifier is for generated images, and the task generates none")
    _check_counts(made, range(len(real)))
    trained = runs.load(classifier, plugins=plugins)
    expected_size, size = runs.example_inputs(trained.run).shape[1:], made.shape[1:]
    if expected_size != size:
        raise ValueError(
            f"the classifier {str(classifier)!r} takes images of {expected_size}; the generated images are {size}"
        )
    task = registry.tasks.entry(specs.parse(trained.run.config.task).name)
    if task.metadata.get("targets") != "multiclass":
        raise ValueError(f"the run {str(classifier)!r} does not predict classes; use a run of --task=multiclass")
    features, inputs = trained.run.model.features, runs.example_inputs(trained.run)
    if not features or "pooled" not in jax.eval_shape(features, trained.params, trained.model_state, inputs):
        raise ValueError(
            f"the classifier {str(classifier)!r} has no pooled features; use a model that has them, e.g. cnn"
        )
    noise = np.random.default_rng(0).random(made.shape, np.float32)
    others = train.read(np.linspace(0, len(train) - 1, min(len(made), len(train)), dtype=int))
    features, _ = _seen(trained, real.read(np.arange(len(real))))
    results = {}
    for name, images in (("made", made.astype(np.float32)), ("noise", noise), ("training images", others)):
        image_features, probabilities = _seen(trained, images)
        fractions = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1]) / len(images)
        results[name] = {
            "frechet_distance": frechet_distance(features, image_features),
            "min_class_fraction": float(fractions.min()),
            "class_fractions": dict(zip(trained.run.signature.classes, fractions.tolist(), strict=True)),
        }
    return {"headline": "frechet_distance", **results.pop("made"), "baseline": results}


def _seen(trained: runs.Trained, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pooled features [N, D] and the class probabilities [N, C] of images."""
    run = trained.run
    assert run.model.features is not None

    def step(params, state, batch):
        assert run.model.features is not None
        pooled = run.model.features(params, state, batch["inputs"])["pooled"]
        return {"count": batch["mask"].sum()}, (pooled, run.task.predict(run.model, params, state, batch))

    split = Split(read=lambda chosen: images[chosen], targets=np.zeros(len(images), np.int32), kind="multiclass")
    _, (features, probabilities) = inference.infer_split(
        compilation.compile_eval(step, run.mesh),
        trained.params,
        trained.model_state,
        split,
        batch_size=run.execution.eval_batch_size,
        mesh=run.mesh,
        doing="features",
    )
    return features, probabilities


def _check_counts(one: Sized, other: Sized) -> None:
    """Raise ValueError if a set of images has fewer than two."""
    if min(len(one), len(other)) < 2:
        raise ValueError(
            f"the Fréchet distance needs two images or more on each side, to estimate a covariance, and there are "
            f"{len(one)} and {len(other)}; evaluate a larger split, or without fid_classifier"
        )


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Compute the squared Fréchet distance between normal distributions fitted to features [N, D] and [M, D].

    Raises ValueError if there are fewer than two rows, which have no covariance.

    >>> frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]]))
    9.0
    """
    _check_counts(one, other)
    one, other = one.astype(np.float64), other.astype(np.float64)
    means = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum()
    covariances = [np.atleast_2d(np.cov(features, rowvar=False)) for features in (one, other)]
    # trace(sqrt(A B)) is the sum of the square roots of the eigenvalues of A B, which are real and non-negative
    roots = np.sqrt(np.maximum(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0))
    return float(max(means + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * roots.sum(), 0))
