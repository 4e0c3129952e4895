"""Batched inference: a compiled step over batches, for evaluation, prediction, features and generated samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision.distributed import mesh as meshes
from jaxvision.engine import logs, pipeline
from jaxvision.engine.signals import Stopped
from jaxvision.interfaces import Batch, Split, Tree

Step = Callable[[Tree, Tree, Batch], tuple[dict[str, Any], Any]]  # sums by name, and a tree of rows of each example


def never() -> bool:
    """Nothing stops an evaluation."""
    return False


def split_batches(split: Split, batch_size: int, mesh: Mesh) -> Iterator[tuple[int, Batch]]:
    """Yield (number of examples, padded batch) over a split, in order; of several hosts, this host's rows.

    A batch has batch_size rows, or for a smaller split the next power of two, so that few sizes are compiled.
    """
    size = meshes.bucket(len(split), batch_size, mesh)
    batches = pipeline.eval_batches(split, size, rows=meshes.host_rows(size, mesh))
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
    """Run a compiled step over batches: (the sum of each value, its outputs as one tree of arrays [N, ...]).

    `batches` yields (number of examples, batch); rows beyond that number are padding, and are left out. Without any
    batch, the outputs are None. A bar counts up to `total`. Raises Stopped where `stop` says so.
    """
    sums: dict[str, float] = {}
    parts = []
    with logs.progress(total, doing) as bar:
        for count, batch in batches:
            found, outputs = jax.device_get(step(params, model_state, batch))
            sums = {name: sums.get(name, 0.0) + float(value) for name, value in found.items()}
            parts.append(jax.tree.map(lambda rows, count=count: rows[:count], outputs))
            bar.update(count)
            if stop():
                raise Stopped
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
    """Run a split through a compiled step, on all hosts: (mean of each value over its examples, outputs [N, ...]).

    The step's sums hold the number of examples as "count". Raises Stopped as `infer` does.
    """
    batches = split_batches(split, batch_size, mesh)
    sums, outputs = infer(step, params, model_state, batches, total=len(split), doing=doing, stop=stop)
    count = sums.pop("count")
    return {name: value / count for name, value in sums.items()}, outputs
