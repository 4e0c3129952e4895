"""Heat maps of a trained run: what an output depends on in each image."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxvision import calibration, registry
from jaxvision import run as runs
from jaxvision.distributed import compilation, runtime
from jaxvision.distributed import mesh as meshes
from jaxvision.engine import precision
from jaxvision.interfaces import Model

BATCH_SIZE = 64


class Explainer(NamedTuple):
    """A compiled explanation. `maps(inputs, targets)` returns the raw maps of images, float32 [N, h, w].

    `inputs` are images [N, H, W, C] of the size of the model, uint8 or floats in 0..1; `targets` are as for
    `heat_maps`. `source` is where the maps come from, "" for all of the model.
    """

    source: str
    maps: Callable[[np.ndarray, np.ndarray], np.ndarray]


def heat_maps(
    trained: runs.Trained,
    inputs: np.ndarray,
    targets: np.ndarray | None = None,
    *,
    method: str = "grad_cam",
    batch_size: int = BATCH_SIZE,
) -> np.ndarray:
    """Return what an output depends on in each image, float32 [N, H, W]; larger values matter more.

    Args:
        trained: A run from `load`.
        inputs: Images [N, H, W, C] of the size of the model, uint8 or floats in 0..1.
        targets: The class or label of each image to explain, int [N]; None for the predicted class, or the most
            probable label. A regression has none.
        method: The spec of an explanation.
        batch_size: Images in one compiled call.

    Raises:
        ValueError: The method does not fit the model, or the run does not predict classes, labels or one number.
    """
    explainer = make_explainer(trained, method, batch_size=batch_size)
    if targets is None:
        targets = predicted_targets(trained, predictions(trained, inputs, batch_size=batch_size))
    return resized(explainer.maps(inputs, np.asarray(targets)), inputs.shape[1:3])


def make_explainer(trained: runs.Trained, method: str = "grad_cam", *, batch_size: int = BATCH_SIZE) -> Explainer:
    """Build an explanation for a run. Raises ValueError if it does not fit the run."""
    explanation, run = registry.explanations.build(method), trained.run
    runtime.use_double(run.config.precision == "f64")
    _check_run(run, method)
    model = _plain_model(run)
    try:
        example = runs.example_inputs(run)
        floats = jax.ShapeDtypeStruct(example.shape, float)
        place = explanation.source
        source = place(model, trained.params, trained.model_state, floats) if place else ""
    except ValueError as error:
        raise ValueError(f"--method={method} does not fit the model {run.config.model!r}: {error}") from error

    def explain(params, model_state, batch):
        inputs, key = precision.as_float(batch["inputs"]), jax.random.key(0)
        maps = explanation.explain(model, params, model_state, inputs, batch["targets"], key=key)
        if maps.ndim != 3 or len(maps) != len(inputs):
            raise TypeError(f"the explanation {method!r} returned maps of shape {maps.shape}; expected [B, h, w]")
        return maps

    step = compilation.compile_eval(explain, run.mesh)

    def maps(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        batch = {"inputs": inputs, "targets": _weights(run, targets)}
        call = lambda part: step(trained.params, trained.model_state, part)  # noqa: E731
        return _in_batches(call, batch, batch_size, run).astype(np.float32)

    return Explainer(source, maps)


def predictions(trained: runs.Trained, inputs: np.ndarray, *, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """Predict images [N, H, W, C] of the size of the model: calibrated probabilities [N, C], or numbers [N]."""
    call = lambda part: trained.predict_step(trained.params, trained.model_state, part)  # noqa: E731
    predictions = _in_batches(call, {"inputs": inputs}, batch_size, trained.run)
    per_label = trained.run.signature.targets.kind == "multilabel"
    return calibration.scaled(predictions, trained.temperature, per_label=per_label)


def predicted_targets(trained: runs.Trained, predictions: np.ndarray) -> np.ndarray:
    """Return the predicted class, the most probable label, or 0 for a number, int [N]."""
    kind = trained.run.signature.targets.kind
    if kind == "multiclass":
        return np.asarray(trained.run.task.predict_labels(predictions))
    return predictions.argmax(axis=-1) if kind == "multilabel" else np.zeros(len(predictions), np.int32)


def resized(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return maps [N, h, w] resized to images [N, H, W] by linear interpolation between the centers of the cells."""
    return np.asarray(jax.image.resize(maps, (len(maps), *size), "linear"))


def _check_run(run: runs.Run, method: str) -> None:
    """Raise ValueError if a run has no images, or outputs that are no classes, labels or number."""
    kind, num_classes = run.signature.targets.kind, len(run.signature.classes)
    if not run.signature.preprocessing.is_image:
        raise ValueError(f"--method={method} explains images, and this run was trained on {run.config.dataset!r}")
    expected = (1,) if kind == "continuous" else (num_classes,) if kind == "multilabel" else (num_classes, 1)
    is_binary = kind != "multiclass" or run.task.output_size > 1 or num_classes == 2
    if run.task.output_size not in expected or not is_binary:
        raise ValueError(
            f"the task {run.config.task!r} has {run.task.output_size} outputs for {num_classes} classes; expected one "
            "for each class or label, one for two classes, or one number"
        )


def _plain_model(run: runs.Run) -> Model:
    """Return the model without test-time augmentation, whose maps would be of other images than its outputs."""
    if run.execution.tta == "none":
        return run.model
    execution = run.execution.replace(tta="none")
    return runs.assemble(run.config, run.signature, run.mesh, execution=execution).model


def _weights(run: runs.Run, targets: np.ndarray) -> np.ndarray:
    """Return the weights of the outputs in the explained score, float [N, outputs]."""
    num_outputs = run.task.output_size
    if run.signature.targets.kind == "continuous":
        return np.ones((len(targets), 1), np.float32)
    if targets.min(initial=0) < 0 or targets.max(initial=0) >= len(run.signature.classes):
        raise ValueError(
            f"targets are from {targets.min()} to {targets.max()}; expected indices of the classes, from 0"
        )
    if num_outputs == 1:  # the logit of the second of two classes
        return np.where(targets == 1, 1, -1).astype(np.float32)[:, None]
    return np.eye(num_outputs, dtype=np.float32)[targets]


def _in_batches(
    call: Callable[[dict[str, np.ndarray]], jax.Array], batch: dict[str, np.ndarray], batch_size: int, run: runs.Run
) -> np.ndarray:
    """Call a compiled step on parts of a batch, filled up to few sizes; return the results of all rows."""
    count = len(batch["inputs"])
    size, parts = meshes.bucket(count, batch_size, run.mesh), []
    for start in range(0, max(count, 1), size):
        rows = {name: values[start : start + size] for name, values in batch.items()}
        num_rows = len(rows["inputs"])
        if not num_rows:
            rows = {name: np.zeros((1, *values.shape[1:]), values.dtype) for name, values in batch.items()}
        filled = {name: np.resize(values, (size, *values.shape[1:])) for name, values in rows.items()}
        parts.append(np.asarray(call(filled))[:num_rows])
    return np.concatenate(parts)
