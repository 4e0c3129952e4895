"""The verb predict: a workdir and images -> classes and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import images, parallel
from jaxvision import run as runs
from jaxvision.interfaces import Preprocessing

Inputs = str | Path | Sequence[str] | Sequence[Path] | np.ndarray


class Predictions(NamedTuple):
    """What was predicted, a row for each readable input.

    `probabilities` is [N, C], `decided` the class index [N]; `errors` says of each unreadable file why.
    """

    names: list[str]
    probabilities: np.ndarray
    decided: np.ndarray
    classes: tuple[str, ...]
    errors: dict[str, str]

    @property
    def labels(self) -> list[str]:
        return [self.classes[index] for index in self.decided]

    def rows(self, *, top: int = 3) -> list[dict[str, Any]]:
        """Gives plain rows: file, class, probability, and the runners-up as pairs, `top` classes in all."""
        rows = []
        for name, probabilities, index in zip(self.names, self.probabilities, self.decided, strict=True):
            others = [int(i) for i in np.argsort(-probabilities, kind="stable") if i != index][: top - 1]
            runners_up = [{"class": self.classes[i], "probability": float(probabilities[i])} for i in others]
            best = {"class": self.classes[index], "probability": float(probabilities[index])}
            rows.append({"file": name, **best, "runners_up": runners_up})
        return rows


def predict(
    workdir: str | Path | runs.Trained,
    inputs: Inputs,
    *,
    batch_size: int | None = None,
    on_bad_image: str = "error",
    plugins: Sequence[str] = (),
) -> Predictions:
    """Predicts the classes of image files, folders or glob patterns, or of arrays [H, W, C] or [N, H, W, C].

    Arrays are uint8, or floats in 0..1. The preprocessing is that of training, and every batch has one compiled shape.
    Raises ValueError for a file that is no image; on_bad_image="skip" lists it among the errors instead.
    """
    trained = workdir if isinstance(workdir, runs.Trained) else runs.load(workdir, plugins=plugins)
    run = trained.run
    preprocessing = run.signature.preprocessing
    if isinstance(inputs, np.ndarray):
        arrays = _arrays(inputs, preprocessing)
        names, errors = [str(i) for i in range(len(arrays))], {}
        batches = [arrays]
    else:
        files = images.find_images([str(inputs)] if isinstance(inputs, str | Path) else [str(i) for i in inputs])
        names, batches, errors = _read(files, preprocessing)
    if errors and on_bad_image == "error":
        raise ValueError(next(iter(errors.values())) + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""))
    read = np.concatenate(batches) if batches else np.zeros((0, *preprocessing.size, preprocessing.channels), np.uint8)
    probabilities = _run(trained, read, batch_size or run.config.eval_batch_size)
    return Predictions(names, probabilities, run.task.decide(probabilities), run.signature.classes, errors)


def _arrays(inputs: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Brings arrays to the wanted size and channels."""
    if inputs.ndim == 2 or (inputs.ndim == 3 and inputs.shape[-1] in (1, 3) and inputs.shape[0] > 3):
        inputs = inputs[None]
    if inputs.ndim == 3:
        inputs = inputs[..., None]
    if inputs.ndim != 4 or inputs.shape[-1] not in (1, 3):
        raise ValueError(f"images have shape {inputs.shape}; wanted [H, W, C] or [N, H, W, C] with 1 or 3 channels")
    if inputs.dtype != np.uint8 and not np.issubdtype(inputs.dtype, np.floating):
        raise ValueError(f"images have type {inputs.dtype}; wanted uint8, or floats from 0 to 1")
    if inputs.dtype != np.uint8 and (inputs.min(initial=0) < 0 or inputs.max(initial=0) > 1):
        raise ValueError(f"float images reach from {inputs.min()} to {inputs.max()}; wanted 0 to 1")
    return np.stack([images.from_array(image, preprocessing) for image in inputs])


def _read(files: list[str], preprocessing: Preprocessing) -> tuple[list[str], list[np.ndarray], dict[str, str]]:
    names, arrays, errors = [], [], {}
    for chunk, results in images.read_images(files, preprocessing):
        for name, result in zip(files[chunk], results, strict=True):
            if isinstance(result, Exception):
                errors[name] = str(result)
            else:
                names.append(name)
                arrays.append(result)
    return names, [np.stack(arrays)] if arrays else [], errors


def _run(trained: runs.Trained, inputs: np.ndarray, batch_size: int) -> np.ndarray:
    run = trained.run
    size = parallel.round_up(min(batch_size, max(len(inputs), 1)), run.mesh)
    step = jax.jit(lambda params, state, batch: run.task.predict(run.model, params, state, batch["inputs"]))
    found = []
    for start in range(0, len(inputs), size):
        batch = inputs[start : start + size]
        padded = np.concatenate([batch, np.repeat(batch[:1], size - len(batch), axis=0)])
        outputs = step(trained.params, trained.model_state, parallel.put_batch({"inputs": padded}, run.mesh))
        found.append(jax.device_get(outputs)[: len(batch)])
    return np.concatenate(found) if found else np.zeros((0, len(run.signature.classes)), np.float32)
