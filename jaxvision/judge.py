"""Images that a generator made, as a classifier sees them that was trained apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxvision import registry, specs
from jaxvision import run as runs
from jaxvision.distributed import compilation
from jaxvision.engine import inference
from jaxvision.interfaces import Split


def judge(
    made: np.ndarray, real: Split, train: Split, classifier: str | Path, *, plugins: Sequence[str] = ()
) -> dict[str, Any]:
    """Compares made images [N, H, W, C] in 0..1 with real ones, by the class and the features a classifier gives them.

    Gives the share of each class, the least of these, and the Fréchet distance of the pooled features to those of the
    real images (M. Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NIPS 2017, section 2, with this
    classifier in the place of Inception); the same for noise and for as many training images. Raises ValueError for a
    classifier of other images, or one without features.
    """
    trained = runs.load(classifier, plugins=plugins)
    wanted, size = runs.example_inputs(trained.run).shape[1:], made.shape[1:]
    if wanted != size:
        raise ValueError(f"the judge {str(classifier)!r} is of images {wanted}; these are {size}")
    task = registry.tasks.entry(specs.parse(trained.run.config.task).name)
    if task.facts.get("targets") != "classes":
        raise ValueError(f"the judge {str(classifier)!r} tells no classes: use a run of --task=multiclass")
    features, inputs = trained.run.model.features, runs.example_inputs(trained.run)
    if not features or "pooled" not in jax.eval_shape(features, trained.params, trained.model_state, inputs):
        raise ValueError(f"the judge {str(classifier)!r} names no pooled features: use a model that does, as cnn")
    noise = np.random.default_rng(0).random(made.shape, np.float32)
    others = train.read(np.linspace(0, len(train) - 1, min(len(made), len(train)), dtype=int))
    features, _ = _seen(trained, real.read(np.arange(len(real))))
    found = {}
    for name, images in (("made", made.astype(np.float32)), ("noise", noise), ("training images", others)):
        theirs, probabilities = _seen(trained, images)
        shares = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1]) / len(images)
        found[name] = {
            "frechet_distance": frechet_distance(features, theirs),
            "least_class_share": float(shares.min()),
            "class_shares": dict(zip(trained.run.signature.classes, shares.tolist(), strict=True)),
        }
    return {"headline": "frechet_distance", **found.pop("made"), "baseline": found}


def _seen(trained: runs.Trained, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives the pooled features [N, D] and the probabilities [N, C] of images."""
    run = trained.run
    assert run.model.features is not None

    def step(params, state, batch):
        assert run.model.features is not None
        pooled = run.model.features(params, state, batch["inputs"])["pooled"]
        return {"count": batch["mask"].sum()}, (pooled, run.task.predict(run.model, params, state, batch))

    split = Split(read=lambda chosen: images[chosen], targets=np.zeros(len(images), np.int32), kind="classes")
    _, (features, probabilities) = inference.infer_split(
        compilation.compile_eval(step, run.mesh),
        trained.params,
        trained.model_state,
        split,
        batch_size=run.execution.eval_batch_size,
        mesh=run.mesh,
        doing="judge",
    )
    return features, probabilities


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Gives the squared Fréchet distance between the normal distributions that fit features [N, D] and [M, D] best.

    >>> frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]]))
    9.0
    """
    one, other = one.astype(np.float64), other.astype(np.float64)
    means = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum()
    covariances = [np.atleast_2d(np.cov(each, rowvar=False)) for each in (one, other)]
    # the trace of the root of a product is that of the roots of its eigenvalues, which are real and not negative
    roots = np.sqrt(np.maximum(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0))
    return float(max(means + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * roots.sum(), 0))
