"""Pooled features of the run's own model, for the map and the nearest training images."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jax
import numpy as np

from jaxvision import array_cache
from jaxvision import data as datas
from jaxvision.distributed import compilation
from jaxvision.engine import inference, precision
from jaxvision.interfaces import Dataset, Split
from jaxvision.run import Trained, example_inputs

LEAST_CACHED = 2000  # examples; fewer are computed faster than they are found again


def pooled_features(trained: Trained, split: Split) -> np.ndarray | None:
    """Return the pooled features [N, D] of a split, float32; None if the model has none."""
    if not _has_pooled(trained):
        return None

    def make(folder: Path) -> None:
        np.save(folder / "pooled.npy", _computed(trained, split))

    if len(split) < LEAST_CACHED:
        return _computed(trained, split)
    return np.array(array_cache.cached("page", _key(trained, split), make, what="features")["pooled"])


def _has_pooled(trained: Trained) -> bool:
    model = trained.run.model
    if model.features is None:
        return False
    inputs = example_inputs(trained.run)
    floats = jax.ShapeDtypeStruct(inputs.shape, np.float32)
    try:
        maps = jax.eval_shape(model.features, trained.params, trained.model_state, floats)
    except (TypeError, ValueError, KeyError):  # a plug-in's features may take other inputs
        return False
    return "pooled" in maps and maps["pooled"].ndim == 2


def _computed(trained: Trained, split: Split) -> np.ndarray:
    run = trained.run

    def step(params, state, batch):
        assert run.model.features is not None
        maps = run.model.features(params, state, precision.as_float(batch["inputs"]))
        return {"count": batch["mask"].sum()}, maps["pooled"]

    compiled = compilation.compile_eval(step, run.mesh)
    _, pooled = inference.infer_split(
        compiled, trained.params, trained.model_state, split,
        batch_size=run.execution.eval_batch_size, mesh=run.mesh, doing="features for the report",
    )  # fmt: skip
    return np.asarray(pooled, np.float32)


def _key(trained: Trained, split: Split) -> str:
    """Return what the features depend on: parameters, model and images."""
    digest = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves((trained.params, trained.model_state)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    files = [Path(str(name)) for name in split.names]
    have_files = len(files) == len(split) and all(file.is_file() for file in files)
    stamps = array_cache.stamps(files) if have_files else ""
    alone = Dataset(split, None, None, (), trained.run.signature.preprocessing)
    images = datas.fingerprint(alone) if have_files else datas.fingerprint(alone, num_images=2**40)
    run = trained.run
    settings = (run.config.model, run.config.precision, run.execution.tta, run.signature.preprocessing)
    return "\n".join(map(str, (jax.default_backend(), digest.hexdigest(), stamps, images, *settings)))
