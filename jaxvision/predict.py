"""The verb predict: a workdir and images -> classes and probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import images, logs, parallel
from jaxvision import run as runs
from jaxvision.interfaces import Preprocessing

Chunks = Iterator[tuple[slice, list[Any]]]
Inputs = str | Path | Sequence[str] | Sequence[Path] | np.ndarray | jax.Array | Sequence[np.ndarray]


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
    runs.use_double(run.config)
    preprocessing = run.signature.preprocessing
    is_named = isinstance(inputs, str | Path) or (len(inputs) and isinstance(inputs[0], str | Path))
    if not is_named:
        inputs = np.asarray(inputs)
        arrays = _batched(inputs)
        names = [str(index) for index in range(len(arrays))]
        size = _batch_size(run, batch_size, len(names))
        chunks = _fitted(arrays, preprocessing, size)
    else:
        names = images.find_images([str(inputs)] if isinstance(inputs, str | Path) else [str(i) for i in inputs])
        size = _batch_size(run, batch_size, len(names))
        chunks = images.read_images(names, preprocessing, chunk_size=size)
    found = _predict(trained, names, chunks, size)
    if found.errors and on_bad_image == "error":
        more = f" (and {len(found.errors) - 1} more)" if len(found.errors) > 1 else ""
        raise ValueError(f"{next(iter(found.errors.values()))}{more}")
    return found


def _batch_size(run: runs.Run, wanted: int | None, num_inputs: int) -> int:
    """The one batch size that is compiled: no larger than there are inputs, and shared evenly by the devices."""
    return parallel.round_up(min(wanted or run.config.eval_batch_size, max(num_inputs, 1)), run.mesh)


def _fitted(arrays: np.ndarray, preprocessing: Preprocessing, size: int) -> Chunks:
    """Brings arrays [N, H, W, C] to the wanted size and channels, a chunk at a time."""
    for start in range(0, len(arrays), size):
        chunk = slice(start, min(start + size, len(arrays)))
        yield chunk, [images.from_array(image, preprocessing) for image in arrays[chunk]]


def _predict(trained: runs.Trained, names: list[str], chunks: Chunks, size: int) -> Predictions:
    """Runs chunks of up to `size` images, errors among them, through the model as they come."""
    run = trained.run

    def predict_step(params, state, batch):
        return run.task.predict(run.model, params, state, batch["inputs"])

    step = parallel.compile_eval(predict_step, run.mesh)
    read: list[str] = []
    found = [np.zeros((0, len(run.signature.classes)), np.float32)]
    errors: dict[str, str] = {}
    with logs.progress(len(names), "predict") as bar:
        for chunk, results in chunks:
            named = list(zip(names[chunk], results, strict=True))
            errors |= {name: str(result) for name, result in named if isinstance(result, Exception)}
            good = [(name, result) for name, result in named if not isinstance(result, Exception)]
            if good:
                inputs = [image for _, image in good]
                padded = np.stack(inputs + inputs[:1] * (size - len(inputs)))
                outputs = step(trained.params, trained.model_state, {"inputs": padded})
                found.append(jax.device_get(outputs)[: len(inputs)])
            read += [name for name, _ in good]
            bar.update(len(results))
    probabilities = np.concatenate(found)
    return Predictions(read, probabilities, run.task.decide(probabilities), run.signature.classes, errors)


def _batched(inputs: np.ndarray) -> np.ndarray:
    """Gives arrays as [N, H, W, C]; raises ValueError for another shape, type or range."""
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
    return inputs
