"""Batched inference: a compiled step over batches, for evaluation, prediction and features; metrics of its outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision.distributed import mesh as meshes
from jaxvision.engine import logs, pipeline
from jaxvision.engine.signals import EvaluationInterrupted
from jaxvision.interfaces import Batch, Outputs, Split, Task, Tree

Step = Callable[[Tree, Tree, Batch], tuple[dict[str, Any], Any]]  # sums by name, and a tree with a row per example


def never() -> bool:
    """Return False: the default of `stop`."""
    return False


def split_batches(split: Split, batch_size: int, mesh: Mesh) -> Iterator[tuple[int, Batch]]:
    """Yield (number of examples, padded batch) over a split, in order; with several hosts, the rows of this one.

    A batch has batch_size rows, or for a smaller split the next power of two, so that few sizes are compiled.
    """
    size = meshes.bucket(len(split), batch_size, mesh)
    batches = pipeline.eval_batches(split, size, rows=meshes.local_slice(size, mesh))
    for start, batch in zip(range(0, len(split), size), batches, strict=True):
        yield min(size, len(split) - start), batch


def infer(
    step: Step,
    params: Tree,
    model_state: Tree,
    batches: Iterable[tuple[int, Batch]],
    *,
    total: int,
    doing: str = "evaluate",
    stop: Callable[[], bool] = never,
) -> tuple[dict[str, float], Any]:
    """Run a compiled step over batches; return (sums of the values, outputs as one tree of arrays [N, ...]).

    `batches` yields (number of examples, batch); rows beyond that number are padding and are dropped. Without batches
    the outputs are None. A progress bar counts up to `total`. Raises EvaluationInterrupted if `stop()` is true.
    """
    sums: dict[str, float] = {}
    parts = []
    with logs.progress(total, doing) as bar:
        for count, batch in batches:
            values, outputs = jax.device_get(step(params, model_state, batch))
            sums = {name: sums.get(name, 0.0) + float(value) for name, value in values.items()}
            parts.append(jax.tree.map(lambda rows, count=count: rows[:count], outputs))
            bar.update(count)
            if stop():
                raise EvaluationInterrupted
    return sums, jax.tree.map(lambda *rows: np.concatenate(rows), *parts) if parts else None


def infer_split(
    step: Step,
    params: Tree,
    model_state: Tree,
    split: Split,
    *,
    batch_size: int,
    mesh: Mesh,
    doing: str = "evaluate",
    stop: Callable[[], bool] = never,
) -> tuple[dict[str, float], Any]:
    """Run a compiled step over a split on all hosts; return (means of the values over the examples, outputs [N, ...]).

    The sums of the step hold the number of examples as "count". Raises EvaluationInterrupted if `stop()` is true.
    """
    batches = split_batches(split, batch_size, mesh)
    sums, outputs = infer(step, params, model_state, batches, total=len(split), doing=doing, stop=stop)
    count = sums.pop("count")
    return {name: value / count for name, value in sums.items()}, outputs


def metrics_of(task: Task, split: Split, outputs: Outputs, classes: Sequence[str] | None = None) -> dict[str, Any]:
    """Compute a task's `score`, and with `classes` also its `report`, for the outputs on a split, in original units."""
    arguments: list[Any] = [*split.in_original_units(outputs.predictions)]
    values = _call_with_logits(task.score, *arguments, logits=outputs.logits)
    if classes is None:
        return values
    return {**values, **_call_with_logits(task.report, *arguments, classes, logits=outputs.logits)}


def _call_with_logits(function: Callable[..., dict[str, Any]], *arguments: Any, logits: Any) -> dict[str, Any]:
    is_named = logits is not None and "logits" in inspect.signature(function).parameters
    return function(*arguments, logits=logits) if is_named else function(*arguments)
