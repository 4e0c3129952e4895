"""Variants of a model for an execution: recomputed activations, batch statistics over all devices."""

from __future__ import annotations

import jax
import numpy as np

from jaxvision import failures
from jaxvision.interfaces import Model


def with_variants(model: Model, spec: str, input_size: tuple[int, ...], *, remat: bool, axis_name: str | None) -> Model:
    """Return a model as an execution needs it. Raises ValueError if it does not support that."""
    if remat:
        if model.remat is None:
            raise ValueError(failures.no_blocks(spec))
        model = _rebuilt(model, model.remat())
    if axis_name is None:
        return model
    if model.synchronize is not None:
        return _rebuilt(model, model.synchronize(axis_name))
    _, state = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *input_size), np.float32))
    if jax.tree.leaves(state):
        raise ValueError(failures.not_synchronized(spec))
    return model


def _rebuilt(model: Model, variant: Model) -> Model:
    """Return a variant of a model with the fields that do not vary, which its author may have set with `_replace`."""
    return variant._replace(head=model.head, features=model.features, adapt=model.adapt)
