"""Predictions of many files as rows of CSV, computed in constant memory: each file is a row, also an unreadable one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import image_files, storage, threshold_file
from jaxvision import run as runs
from jaxvision.distributed import mesh as meshes
from jaxvision.distributed import runtime
from jaxvision.engine import integrity
from jaxvision.predict import calibrated, check_members, predict
from jaxvision.reports import prediction_table

BLOCK = 4096  # files that are decoded by one set of threads


class Table(NamedTuple):
    """What a table of predictions holds: the columns, the function from files to rows in their order, and the model.

    `model` is a digest of all that decides the predictions. `rows` yields a list of rows for each batch of files, of
    `batch_size` but for the last.
    """

    columns: list[str]
    rows: Callable[[Iterable[str]], Iterator[list[list[str]]]]
    model: str
    batch_size: int


def table_of(
    members: Sequence[runs.Trained],
    *,
    batch_size: int | None = None,
    quality: Callable[[str], str] | None = None,
    max_image_pixels: int | None = None,
    calibrate: bool = True,
) -> Table:
    """Return the table of a run, or of several as an ensemble: file, prediction, and the probability of each class.

    Images may have `max_image_pixels`, by default the limit of training. `quality` computes a further column for them,
    and their last column is the error of an unreadable file. For time series, the second column is the last known step.
    The probabilities of one run are calibrated as by `predict`, unless `calibrate` is False.
    Raises ValueError if the runs do not fit together, or generate images, or if their thresholds are not fitted yet.
    """
    check_members(members)
    run = members[0].run
    runtime.use_double(run.config.precision == "f64")
    shape = _prediction_shape(members[0])
    if len(shape) > 1:
        raise ValueError(
            f"the task {run.config.task!r} generates images, which are no rows of a table; "
            "use `jaxvision evaluate` to draw them"
        )
    run.task.predict_labels(np.zeros((0, *shape), np.float32))
    probabilities = prediction_table.probability_columns(run.signature.classes, shape)
    max_pixels = max_image_pixels or run.config.max_image_pixels
    temperature = members[0].temperature if calibrate and len(members) == 1 else None
    identity = [*map(_identity, members), *([] if temperature is None else [repr(temperature)])]
    model = storage.digest_of_values([max_pixels, *identity])
    size = batch_size or run.execution.eval_batch_size
    if not run.signature.preprocessing.is_image:
        columns = ["file", "after", "prediction"]
        return Table(columns, lambda names: _rows_of_series(members, names, size), model, size)
    columns = ["file", "prediction", *probabilities, *(["quality"] if quality else []), "error"]
    return Table(
        columns,
        lambda names: _rows_of_images(members, names, size, columns, quality, max_pixels, temperature),
        model,
        size,
    )


def _prediction_shape(trained: runs.Trained) -> tuple[int, ...]:
    run = trained.run

    def predicted(params: Any, model_state: Any, inputs: Any) -> Any:
        return run.task.predict(run.model, params, model_state, {"inputs": inputs})

    return jax.eval_shape(predicted, trained.params, trained.model_state, runs.example_inputs(run)).shape[1:]


def _identity(trained: runs.Trained) -> list[str]:
    """Return digests and texts of all that decides the predictions of a run, wherever its workdir lies."""
    run = trained.run
    thresholds = threshold_file.load(trained.workdir, trained.step, run.execution.tta)
    settings = (run.config.model, run.config.task, run.config.precision, run.execution.tta)
    decided_by = (*settings, run.signature.classes, run.signature.preprocessing, thresholds)
    return [integrity.digest((trained.params, trained.model_state)), *map(repr, decided_by)]


def _blocks(names: Iterable[str], size: int) -> Iterator[list[str]]:
    names = iter(names)
    while block := list(itertools.islice(names, size)):
        yield block


def _rows_of_images(
    members: Sequence[runs.Trained],
    names: Iterable[str],
    size: int,
    columns: list[str],
    quality: Callable[[str], str] | None,
    max_pixels: int,
    temperature: float | None,
) -> Iterator[list[list[str]]]:
    run = members[0].run
    for block in _blocks(names, max(BLOCK // size, 1) * size):
        for chunk, *parts in zip(
            (slice(start, start + size) for start in range(0, len(block), size)),
            *(_outputs(member, block, size, max_pixels) for member in members),
            strict=True,
        ):
            errors: dict[int, str] = {}
            for _, of_member in reversed(parts):
                errors.update(of_member)
            files = block[chunk]
            good = [index for index in range(len(files)) if index not in errors]
            predictions = np.mean([[each[index] for index in good] for each, _ in parts], axis=0) if good else ()
            cells = iter(_cells(run, np.asarray(predictions), temperature)) if good else iter(())
            rows = []
            for index, file in enumerate(files):
                if index in errors:
                    rows.append([file, *[""] * (len(columns) - 2), errors[index]])
                else:
                    rows.append([file, *next(cells), *([quality(file)] if quality else []), ""])
            yield rows


def _cells(run: runs.Run, predictions: np.ndarray, temperature: float | None) -> Iterator[list[str]]:
    labels = run.task.predict_labels(predictions)
    return prediction_table.prediction_cells(calibrated(run, predictions, temperature), labels, run.signature.classes)


def _outputs(
    trained: runs.Trained, names: list[str], size: int, max_pixels: int
) -> Iterator[tuple[dict[int, np.ndarray], dict[int, str]]]:
    """Yield, for each batch of files, the predictions of the readable ones by position, and the other files' errors."""
    run = trained.run
    size = meshes.bucket(len(names), size, run.mesh) if len(names) < size else size
    for _, results in image_files.read_images(
        names, run.signature.preprocessing, chunk_size=size, max_pixels=max_pixels
    ):
        errors = {index: str(result) for index, result in enumerate(results) if isinstance(result, Exception)}
        good = [index for index in range(len(results)) if index not in errors]
        inputs: list[Any] = [results[index] for index in good]
        predictions: Any = ()
        if good:
            padding = meshes.bucket(len(good), size, run.mesh) - len(good)
            batch = {"inputs": np.stack([*inputs, *inputs[:1] * padding])}
            predictions = jax.device_get(trained.predict_step(trained.params, trained.model_state, batch))
        yield dict(zip(good, predictions, strict=False)), errors


def _rows_of_series(
    members: Sequence[runs.Trained], names: Iterable[str], batch_size: int
) -> Iterator[list[list[str]]]:
    for block in _blocks(names, batch_size):
        found = predict(members, block, batch_size=batch_size)
        columns = zip(found.names, found.after, map(str, found.predictions), strict=True)
        yield [list(row) for row in columns]
