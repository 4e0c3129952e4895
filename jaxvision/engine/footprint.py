"""The least memory that a run needs, from shapes alone, compared with what there is before anything is allocated.

It is the least, so that nothing is refused that could work: XLA also needs room for intermediate results.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision.config import Config, Execution
from jaxvision.interfaces import Model, Preprocessing, TrainState, Tree
from jaxvision.machine import memory_bytes, require_memory

PRODUCTS = ("dot_general", "conv_general_dilated")
KEPT = 0.5  # of the outputs of products and convolutions that training surely keeps for the backward pass


def memory_of(mesh: Mesh) -> int:
    """Return the bytes of memory of all devices of a mesh: of these, or of the machines where they do not report it."""
    limits = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in mesh.local_devices]
    if all(limits):
        return sum(limits) * mesh.size // len(limits)
    return memory_bytes() * max(mesh.size // len(limits), 1)


def size_of(tree: Tree) -> int:
    """Return the bytes of all arrays of a tree, from their shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_model(model: str, params: Tree, mesh: Mesh) -> None:
    """Raise ValueError if the parameters of a model do not fit into the memory."""
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    require_memory(size_of(params), f"the model {model!r}, of {count:,} parameters,", memory=memory_of(mesh))


def check_training(
    model: Model, config: Config, execution: Execution, state: TrainState, preprocessing: Preprocessing, mesh: Mesh
) -> None:
    """Raise ValueError if the training state, its gradients and one batch do not fit into the memory.

    The outputs of layers count only where the backward pass keeps those of all: none is frozen or recomputed.
    """
    shape = (config.batch_size, *preprocessing.size, preprocessing.channels)
    need = size_of(state) + 4 * math.prod(shape)
    if not (config.freeze or execution.remat or execution.tta != "none"):
        need += size_of(state.params) + int(KEPT * sum(_sizes_of_products(model, state, shape)))
    size = "x".join(map(str, preprocessing.size))
    what = f"training the model {config.model!r} with batch_size={config.batch_size} on inputs of {size}"
    require_memory(need, f"{what}x{preprocessing.channels}", memory=memory_of(mesh))


def _sizes_of_products(model: Model, state: TrainState, shape: tuple[int, ...]) -> Iterator[int]:
    inputs = jax.ShapeDtypeStruct(shape, np.float32)
    traced = jax.make_jaxpr(lambda *arguments: model.apply(*arguments, train=False, key=None))(
        state.params, state.model_state, inputs
    )
    return _outputs(traced.jaxpr)


def _outputs(jaxpr: Any) -> Iterator[int]:
    """Yield the bytes of the output of each product and convolution, inside loops as often as these run."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in PRODUCTS:
            yield sum(math.prod(out.aval.shape) * out.aval.dtype.itemsize for out in equation.outvars)
            continue
        inner = [list(_outputs(each)) for each in _inside(equation.params.values())]
        if equation.primitive.name == "cond":  # one of its branches
            yield from max(inner, key=sum, default=[])
            continue
        for sizes in inner:
            yield from sizes * equation.params.get("length", 1)


def _inside(values: Any) -> Iterator[Any]:
    """Yield the programs among the parameters of an equation."""
    for value in values:
        if hasattr(value, "eqns"):
            yield value
        elif hasattr(value, "jaxpr"):
            yield value.jaxpr
        elif isinstance(value, tuple | list):
            yield from _inside(value)
