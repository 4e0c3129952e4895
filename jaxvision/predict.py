"""The verb predict: a workdir and images, or series -> classes and probabilities, or numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import DTypeLike

from jaxvision import data, image_files, images, registry, specs
from jaxvision import run as runs
from jaxvision.distributed import mesh as meshes
from jaxvision.distributed import runtime
from jaxvision.engine import inference
from jaxvision.interfaces import Describe, Preprocessing

Chunks = Iterator[tuple[slice, list[Any]]]
Inputs = str | Path | Sequence[str] | Sequence[Path] | np.ndarray | jax.Array | Sequence[np.ndarray]


class Predictions(NamedTuple):
    """What was predicted, a row for each readable input.

    `predictions` are probabilities [N, C] or numbers [N]; `decided` what follows: the class index [N], tags [N, C] or
    the number itself; `errors` says of each unreadable file why, `after` of each series in a table its last step.
    """

    names: list[str]
    predictions: np.ndarray
    decided: np.ndarray
    classes: tuple[str, ...]
    errors: dict[str, str]
    describe: Describe
    after: Sequence[str] = ()

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
        """Return plain rows: the file, and class and probability with runners-up (`top` in all), tags, or the value.

        Where a value follows a series, the row has, as "after", the name of its last step.
        """
        after = [{"after": each} for each in self.after] or [{}] * len(self.names)
        found = zip(self.names, after, self.predictions, self.decided, strict=True)
        return [
            {"file": name, **last, **self.describe(*each, classes=self.classes, top=top)} for name, last, *each in found
        ]


def predict(
    workdir: str | Path | runs.Trained,
    inputs: Inputs,
    *,
    batch_size: int | None = None,
    on_bad_image: str = "error",
    plugins: Sequence[str] = (),
) -> Predictions:
    """Predict the classes of image files, folders or glob patterns, or of arrays [H, W, C] or [N, H, W, C].

    Arrays are uint8, or floats in 0..1. The preprocessing is that of training. Batches have few sizes, so that of a run
    loaded once, by `load`, nothing is compiled again (see `warm_up`).
    Raise ValueError for a file that is no image; on_bad_image="skip" lists it among the errors instead. For a run of
    `series`, predicts the value that follows each: tables with its column, or arrays of levels, [steps] or [N, steps].
    """
    trained = workdir if isinstance(workdir, runs.Trained) else runs.load(workdir, plugins=plugins)
    run = trained.run
    runtime.use_double(run.config.precision == "f64")
    preprocessing = run.signature.preprocessing
    if not preprocessing.is_image:
        return _forecast(trained, inputs, batch_size)
    if not _are_named(inputs):
        inputs = np.asarray(inputs)
        arrays = _batched(inputs)
        names = [str(index) for index in range(len(arrays))]
        size = meshes.bucket(len(names), batch_size or run.execution.eval_batch_size, run.mesh)
        chunks = _fitted(arrays, preprocessing, size)
    else:
        names = image_files.find_images([str(inputs)] if isinstance(inputs, str | Path) else [str(i) for i in inputs])
        size = meshes.bucket(len(names), batch_size or run.execution.eval_batch_size, run.mesh)
        chunks = image_files.read_images(names, preprocessing, chunk_size=size)
    found = _predict(trained, names, chunks, size)
    if found.errors and on_bad_image == "error":
        more = f" (and {len(found.errors) - 1} more)" if len(found.errors) > 1 else ""
        raise ValueError(f"{next(iter(found.errors.values()))}{more}")
    return found


def _are_named(inputs: Inputs) -> bool:
    return isinstance(inputs, str | Path) or bool(len(inputs) and isinstance(inputs[0], str | Path))


def _forecast(trained: runs.Trained, inputs: Inputs, batch_size: int | None) -> Predictions:
    """Predicts the next value of each series, in its own units, from its last window."""
    dataset, arguments = specs.parse(trained.run.config.dataset)
    facts = {} if dataset == data.IN_MEMORY else registry.datasets.entry(dataset).facts
    if "last_window" not in facts:
        raise ValueError(f"predict takes images and series, and this run reads neither: it was trained on {dataset!r}")
    names, series, after = _series(inputs, lambda path: facts["read"](path, arguments["column"]))
    target = arguments.get("target", registry.datasets.default(dataset, "target"))
    run = trained.run
    (window,) = run.signature.preprocessing.size
    last = [facts["last_window"](each, window, target, name=name) for name, each in zip(names, series, strict=True)]
    size = meshes.bucket(len(names), batch_size or run.execution.eval_batch_size, run.mesh)
    chunks = [slice(start, start + size) for start in range(0, len(names), size)]
    found = _predict(trained, names, ((chunk, [each for each, _ in last[chunk]]) for chunk in chunks), size)
    values = found.predictions + np.array([offset for _, offset in last])
    return found._replace(predictions=values, decided=trained.run.task.decide(values), after=after)


def _series(inputs: Inputs, read: Callable[[str], Any]) -> tuple[list[str], list[np.ndarray], Sequence[str]]:
    """Return the names and the levels of series, and of those in tables the names of their last steps."""
    if not _are_named(inputs):
        levels = _levels(np.asarray(inputs))
        return [str(index) for index in range(len(levels))], list(levels), ()
    names = [str(inputs)] if isinstance(inputs, str | Path) else [str(each) for each in inputs]
    found = [read(name) for name in names]
    return names, [levels for levels, _ in found], [steps[-1] for _, steps in found]


def _levels(inputs: np.ndarray) -> np.ndarray:
    """Return series as [N, steps]; raise ValueError for another shape, or what is no finite number."""
    if inputs.ndim not in (1, 2):
        raise ValueError(f"series have shape {inputs.shape}; wanted [steps] or [N, steps]")
    if not np.issubdtype(inputs.dtype, np.number) or not np.isfinite(inputs).all():
        raise ValueError(f"series of type {inputs.dtype} are not all finite numbers; mend or leave out what is none")
    return np.atleast_2d(inputs)


def warm_up(trained: runs.Trained, batch_size: int, *, dtype: DTypeLike | None = None) -> None:
    """Compile a loaded run for all sizes that up to batch_size inputs at once bring, so that no request waits for it.

    Each size is run once, on inputs of a dtype: by default uint8, as files are read, and a series' numbers. Arrays of
    floats that have the model's own size go to it as they are. Raise ValueError for a size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; wanted the most inputs that come at once, 1 or more")
    run, size = trained.run, 0
    runtime.use_double(run.config.precision == "f64")
    while size < meshes.bucket(batch_size, run.execution.eval_batch_size, run.mesh):
        size = meshes.bucket(size + 1, run.execution.eval_batch_size, run.mesh)
        like = runs.example_inputs(run, size)
        inputs = np.zeros(like.shape, dtype or like.dtype)
        outputs = trained.predict_step(trained.params, trained.model_state, {"inputs": inputs})
        jax.block_until_ready(outputs)


def _fitted(arrays: np.ndarray, preprocessing: Preprocessing, size: int) -> Chunks:
    """Bring arrays [N, H, W, C] to the wanted size and channels, a chunk at a time."""
    for start in range(0, len(arrays), size):
        chunk = slice(start, min(start + size, len(arrays)))
        yield chunk, [images.from_array(image, preprocessing) for image in arrays[chunk]]


def _predict(trained: runs.Trained, names: list[str], chunks: Chunks, size: int) -> Predictions:
    """Run chunks of up to `size` images, errors among them, through the model as they come."""
    run = trained.run
    read: list[str] = []
    errors: dict[str, str] = {}

    def batches():
        for chunk, results in chunks:
            named = list(zip(names[chunk], results, strict=True))
            errors.update({name: str(result) for name, result in named if isinstance(result, Exception)})
            good = [(name, result) for name, result in named if not isinstance(result, Exception)]
            if good:
                inputs = [image for _, image in good]
                filled = meshes.bucket(len(inputs), size, run.mesh)
                yield len(inputs), {"inputs": np.stack(inputs + inputs[:1] * (filled - len(inputs)))}
            read.extend(name for name, _ in good)

    def step(*arguments):
        return {}, trained.predict_step(*arguments)

    _, found = inference.infer(step, trained.params, trained.model_state, batches(), total=len(names), doing="predict")
    empty = np.zeros((0, len(run.signature.classes))[: 1 + bool(run.signature.classes)], np.float32)
    predictions = empty if found is None else found
    decided = run.task.decide(predictions)
    return Predictions(read, predictions, decided, run.signature.classes, errors, run.task.describe)


def _batched(inputs: np.ndarray) -> np.ndarray:
    """Return arrays as [N, H, W, C]; raise ValueError for another shape, type or range."""
    if inputs.size == 0 and inputs.ndim < 4:
        raise ValueError("there are no images; wanted files or an array [H, W, C] or [N, H, W, C]")
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
