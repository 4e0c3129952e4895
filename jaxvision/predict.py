"""The verb predict: a workdir and images -> classes and probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import images, logs, parallel
from jaxvision import run as runs
from jaxvision.interfaces import Describe, Preprocessing

Chunks = Iterator[tuple[slice, list[Any]]]
Inputs = str | Path | Sequence[str] | Sequence[Path] | np.ndarray | jax.Array | Sequence[np.ndarray]


class Predictions(NamedTuple):
    """What was predicted, a row for each readable input.

    `predictions` are probabilities [N, C] or numbers [N]; `decided` what follows: the class index [N], tags [N, C] or
    the number itself; `errors` says of each unreadable file why.
    """

    names: list[str]
    predictions: np.ndarray
    decided: np.ndarray
    classes: tuple[str, ...]
    errors: dict[str, str]
    describe: Describe

    @property
    def probabilities(self) -> np.ndarray:
        """The predictions, where they are probabilities."""
        if self.predictions.ndim != 2:
            raise AttributeError("these predictions are numbers, not probabilities: take .predictions")
        return self.predictions

    @property
    def labels(self) -> list[Any]:
        """The class of each input, the list of its tags, or its number."""
        if self.decided.ndim == 2:
            return [[self.classes[index] for index in np.flatnonzero(row)] for row in self.decided]
        is_number = np.issubdtype(self.decided.dtype, np.floating)
        return [float(each) if is_number else self.classes[each] for each in self.decided]

    def rows(self, *, top: int = 3) -> list[dict[str, Any]]:
        """Gives plain rows: the file, and class and probability with runners-up (`top` in all), tags, or the value."""
        found = zip(self.names, self.predictions, self.decided, strict=True)
        return [{"file": name, **self.describe(*each, classes=self.classes, top=top)} for name, *each in found]


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
    if len(preprocessing.size) != 2:
        raise ValueError(
            f"predict takes images, and this run reads windows of a series: see its {run.config.dataset!r}"
        )
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
    found: list[np.ndarray] = []
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
    empty = np.zeros((0, len(run.signature.classes))[: 1 + bool(run.signature.classes)], np.float32)
    predictions = np.concatenate(found) if found else empty
    decided = run.task.decide(predictions)
    return Predictions(read, predictions, decided, run.signature.classes, errors, run.task.describe)


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
