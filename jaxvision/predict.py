"""Predict images or series with a trained run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import DTypeLike

from jaxvision import calibration, data, image_files, prediction_inputs, registry, specs
from jaxvision import run as runs
from jaxvision.distributed import mesh as meshes
from jaxvision.distributed import runtime
from jaxvision.engine import inference
from jaxvision.interfaces import Describe

Chunks = Iterator[tuple[slice, list[Any]]]
Inputs = str | Path | Sequence[str] | Sequence[Path] | np.ndarray | jax.Array | Iterable[Any]


class Predictions(NamedTuple):
    """What was predicted, a row for each readable input.

    `predictions` are probabilities [N, C] or numbers [N]; `predicted_labels` are class indices [N], 0/1 labels [N, C]
    or the numbers. `errors` maps each unreadable file to its error; `after` has the last step of each series in a
    table.
    """

    names: list[str]
    predictions: np.ndarray
    predicted_labels: np.ndarray
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
        """The class of each input, the list of its labels, or its number."""
        if self.predicted_labels.ndim == 2:
            return [[self.classes[index] for index in np.flatnonzero(row)] for row in self.predicted_labels]
        is_number = np.issubdtype(self.predicted_labels.dtype, np.floating)
        return [float(each) if is_number else self.classes[each] for each in self.predicted_labels]

    def rows(self, *, top: int = 3) -> list[dict[str, Any]]:
        """Return plain rows: the file, and class and probability with runners-up (`top` in all), labels, or the value.

        Where a value follows a series, the row has, as "after", the name of its last step.
        """
        after = [{"after": each} for each in self.after] or [{}] * len(self.names)
        found = zip(self.names, after, self.predictions, self.predicted_labels, strict=True)
        return [
            {"file": name, **last, **self.describe(*each, classes=self.classes, top=top)} for name, last, *each in found
        ]

    def _first(self, count: int) -> Predictions:
        """Return the first of the predictions, without errors."""
        names, predictions, predicted_labels, classes, _, describe, after = self
        return Predictions(
            names[:count], predictions[:count], predicted_labels[:count], classes, {}, describe, after[:count]
        )

    def __repr__(self) -> str:
        first = self._first(3) if self.predictions.ndim <= 2 else self._first(0)
        told = [f"{Path(name).name} {label}" for name, label in zip(first.names, first.labels, strict=True)]
        more = [f"and {len(self.names) - len(told)} more"] if len(self.names) > len(told) else []
        sizes = f"{len(self.names)} inputs" + (f", {len(self.errors)} unreadable" if self.errors else "")
        return f"Predictions({sizes}{': ' if told else ''}{', '.join(told + more) if told else ''})"

    def _repr_html_(self) -> str:
        from jaxvision.reports import notebook

        rows = self._first(notebook.MOST_ROWS).rows() if self.predictions.ndim <= 2 else []
        return notebook.predictions(rows, self.errors, total=len(self.names))


def predict(
    workdir: str | Path | runs.Trained | Sequence[str | Path | runs.Trained],
    inputs: Inputs,
    *,
    checkpoint: str | int = "chosen",
    tta: str | None = None,
    batch_size: int | None = None,
    on_bad_image: str = "error",
    max_image_pixels: int | None = None,
    calibrate: bool = True,
    plugins: Sequence[str] = (),
) -> Predictions:
    """Predict images, with the preprocessing of training, or for a run of `time_series` the next value of series.

    The batches have few sizes, so that nothing is compiled again for a run that was loaded once by `load`: see
    `warm_up`.

    Args:
        workdir: The folder of a trained run, or a run from `load`. Several predict as an ensemble, by their mean.
        inputs: Image files, folders or glob patterns, PIL images, or arrays [H, W, C] or [N, H, W, C], uint8 or floats
            in 0..1; a list, a pandas Series or a generator of these, of any sizes. For a run of `time_series`: tables
            with its column, or arrays of levels, [steps] or [N, steps].
        checkpoint: chosen (by the rule of the run), best, last, or the step of a checkpoint.
        tta: Test-time augmentation: none, flip or flip_shift. If None, that of training.
        batch_size: Images at once. If None, the eval_batch_size of training.
        on_bad_image: What to do with an unreadable file: error, or skip to list it among the errors of the result.
        max_image_pixels: Pixels that an image file may have. If None, the limit of training.
        calibrate: Divide the logits by the temperature that was fitted on validation, if there is one. The labels are
            those of the network's own probabilities, so they stay the same. An ensemble averages these.
        plugins: Modules or .py files that register more, besides those of training.

    Raises:
        ValueError: A file is no image and on_bad_image is error, or the runs of an ensemble do not fit together.
        FileNotFoundError: There is no such workdir or file.
    """
    loaded = load_members(workdir, checkpoint=checkpoint, tta=tta, plugins=plugins)
    check_members(loaded)
    inputs = prediction_inputs.as_sequence(inputs)  # once, because a generator ends
    results = [_predict_by(member, inputs, batch_size, on_bad_image, max_image_pixels) for member in loaded]
    if len(results) == 1:
        temperature = loaded[0].temperature if calibrate else None
        return results[0]._replace(predictions=calibrated(loaded[0].run, results[0].predictions, temperature))
    mean = np.mean([result.predictions for result in results], axis=0)
    return results[0]._replace(predictions=mean, predicted_labels=loaded[0].run.task.predict_labels(mean))


def calibrated(run: runs.Run, predictions: np.ndarray, temperature: float | None) -> np.ndarray:
    """Return predictions of a run with their logits divided by a temperature; None leaves them as they are."""
    return calibration.scaled(predictions, temperature, per_label=run.signature.targets.kind == "multilabel")


def load_members(
    workdir: str | Path | runs.Trained | Sequence[str | Path | runs.Trained],
    *,
    checkpoint: str | int = "chosen",
    tta: str | None = None,
    plugins: Sequence[str] = (),
) -> list[runs.Trained]:
    """Load a run, or those of an ensemble, that are not loaded yet."""
    members = [workdir] if isinstance(workdir, str | Path | runs.Trained) else list(workdir)
    return [
        member
        if isinstance(member, runs.Trained)
        else runs.load(member, checkpoint=checkpoint, tta=tta, plugins=plugins)
        for member in members
    ]


def check_members(members: Sequence[runs.Trained]) -> None:
    """Raise ValueError if the runs of an ensemble do not fit together."""
    first, names = members[0].run, [specs.parse(member.run.config.task).name for member in members]
    for member, name in zip(members, names, strict=True):
        if name != names[0] or member.run.signature.classes != first.signature.classes:
            raise ValueError(
                f"{str(member.workdir)!r} has another task or other classes than {str(members[0].workdir)!r}: the runs "
                "of an ensemble must have the same"
            )


def _predict_by(
    trained: runs.Trained, inputs: Any, batch_size: int | None, on_bad_image: str, max_pixels: int | None
) -> Predictions:
    run = trained.run
    runtime.use_double(run.config.precision == "f64")
    preprocessing = run.signature.preprocessing
    if not preprocessing.is_image:
        return _forecast(trained, inputs, batch_size)
    if not prediction_inputs.are_files(inputs):
        arrays = prediction_inputs.in_memory(inputs, preprocessing)
        names = [str(index) for index in range(len(arrays))]
        size = meshes.bucket(len(names), batch_size or run.execution.eval_batch_size, run.mesh)
        chunks = arrays.chunks(size)
    else:
        names = image_files.find_images(inputs)
        size = meshes.bucket(len(names), batch_size or run.execution.eval_batch_size, run.mesh)
        max_pixels = max_pixels or run.config.max_image_pixels
        chunks = image_files.read_images(names, preprocessing, chunk_size=size, max_pixels=max_pixels)
    result = _predict(trained, names, chunks, size)
    if result.errors and on_bad_image == "error":
        more = f" (and {len(result.errors) - 1} more)" if len(result.errors) > 1 else ""
        raise ValueError(f"{next(iter(result.errors.values()))}{more}")
    return result


def _forecast(trained: runs.Trained, inputs: Any, batch_size: int | None) -> Predictions:
    """Predict the next value of each series, in original units, from its last window."""
    dataset, arguments = specs.parse(trained.run.config.dataset)
    metadata = {} if data.is_in_memory(dataset) else registry.datasets.entry(dataset).metadata
    if "last_window" not in metadata:
        raise ValueError(f"predict supports runs on images and time series, and this run was trained on {dataset!r}")
    names, series, after = _series(inputs, lambda path: metadata["read"](path, arguments["column"]))
    target = arguments.get("target", registry.datasets.default(dataset, "target"))
    run = trained.run
    (window,) = run.signature.preprocessing.size
    last = [metadata["last_window"](each, window, target, name=name) for name, each in zip(names, series, strict=True)]
    size = meshes.bucket(len(names), batch_size or run.execution.eval_batch_size, run.mesh)
    chunks = [slice(start, start + size) for start in range(0, len(names), size)]
    found = _predict(trained, names, ((chunk, [each for each, _ in last[chunk]]) for chunk in chunks), size)
    values = found.predictions + np.array([offset for _, offset in last])
    return found._replace(predictions=values, predicted_labels=trained.run.task.predict_labels(values), after=after)


def _series(inputs: Any, read: Callable[[str], Any]) -> tuple[list[str], list[np.ndarray], Sequence[str]]:
    """Return the names and levels of series, and for tables the names of their last steps."""
    if not prediction_inputs.are_files(inputs):
        levels = _levels(np.asarray(inputs))
        return [str(index) for index in range(len(levels))], list(levels), ()
    tables = [read(name) for name in inputs]
    return inputs, [levels for levels, _ in tables], [steps[-1] for _, steps in tables]


def _levels(inputs: np.ndarray) -> np.ndarray:
    """Return series as [N, steps]. Raises ValueError for other shapes and for values that are not finite numbers."""
    if inputs.ndim not in (1, 2):
        raise ValueError(f"series have shape {inputs.shape}; expected [steps] or [N, steps]")
    if not np.issubdtype(inputs.dtype, np.number) or not np.isfinite(inputs).all():
        raise ValueError(
            f"series of type {inputs.dtype} contain values that are not finite numbers; replace or remove these"
        )
    return np.atleast_2d(inputs)


def warm_up(trained: runs.Trained, batch_size: int, *, dtype: DTypeLike | None = None) -> None:
    """Compile a loaded run for all batch sizes of up to batch_size inputs, so that no request waits for compilation.

    Each size runs once on inputs of `dtype`: by default uint8 for images and float32 for series. Pass the dtype of
    float arrays that already have the size of the model. Raises ValueError if batch_size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected the largest number of inputs in a request, at least 1")
    run, size = trained.run, 0
    runtime.use_double(run.config.precision == "f64")
    while size < meshes.bucket(batch_size, run.execution.eval_batch_size, run.mesh):
        size = meshes.bucket(size + 1, run.execution.eval_batch_size, run.mesh)
        example = runs.example_inputs(run, size)
        inputs = np.zeros(example.shape, dtype or example.dtype)
        outputs = trained.predict_step(trained.params, trained.model_state, {"inputs": inputs})
        jax.block_until_ready(outputs)


def _predict(trained: runs.Trained, names: list[str], chunks: Chunks, size: int) -> Predictions:
    """Run the model on chunks of up to `size` images as they arrive; errors are collected."""
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

    _, outputs = inference.infer(
        step, trained.params, trained.model_state, batches(), total=len(names), doing="predict"
    )
    empty = np.zeros((0, len(run.signature.classes))[: 1 + bool(run.signature.classes)], np.float32)
    predictions = empty if outputs is None else outputs
    predicted_labels = run.task.predict_labels(predictions)
    return Predictions(read, predictions, predicted_labels, run.signature.classes, errors, run.task.describe)
