"""Models that take pixels: they normalize inputs and compute in the precision of the config."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.interfaces import Array, Model, Preprocessing, Tree


def as_float(inputs: Array) -> Array:
    """Return pixels as floats in 0..1, from uint8 or such floats: float64 if JAX computes in it, else float32."""
    return inputs.astype(float) / 255 if inputs.dtype == jnp.uint8 else inputs


def with_precision(model: Model, preprocessing: Preprocessing, *, precision: str = "f32") -> Model:
    """Return the model that takes pixels (uint8 or floats in 0..1), normalizes them, and computes in a precision.

    With "bf16", inputs and parameters are cast to bfloat16 for the computation; parameters, state (with batch
    statistics) and outputs stay float32 (P. Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.1).
    With "f64", parameters are float64 too.
    """
    inner, outer = {"f32": (None, None), "bf16": (jnp.bfloat16, jnp.float32), "f64": (jnp.float64,) * 2}[precision]
    mean, std = (jnp.asarray(values, float) for values in (preprocessing.mean, preprocessing.std))

    def normalise(inputs):
        return _cast((as_float(inputs) - mean) / std, inner)

    def init(key, inputs):
        params, state = model.init(key, (as_float(inputs) - mean) / std)
        return (_cast(params, inner), _cast(state, inner)) if precision == "f64" else (params, state)

    def apply(params, state, inputs, *, train, key):
        outputs, new = model.apply(_cast(params, inner), state, normalise(inputs), train=train, key=key)
        return _cast(outputs, outer), jax.tree.map(lambda old, new: new.astype(old.dtype), state, new)

    def features(params, state, inputs, *, add=None, **options):
        assert model.features is not None
        added = _cast(dict(add or {}), inner)
        return _cast(model.features(_cast(params, inner), state, normalise(inputs), add=added, **options), outer)

    def freeze(modules):
        assert model.freeze is not None
        return with_precision(model.freeze(modules), preprocessing, precision=precision)

    def adapt(params, state, inputs):
        assert model.adapt is not None
        adapted = model.adapt(params, state, (as_float(inputs) - mean) / std)
        return jax.tree.map(lambda old, new: new.astype(old.dtype), (params, state), adapted)

    def part(of: Model) -> Model:  # its inputs are not images, and its outputs are pixels
        def apply_part(params, state, inputs, *, train, key):
            outputs, new = of.apply(_cast(params, inner), state, inputs, train=train, key=key)
            return _cast(outputs, outer), jax.tree.map(lambda old, new: new.astype(old.dtype), state, new)

        return of._replace(apply=apply_part)

    return model._replace(
        init=init,
        apply=apply,
        parts=None if model.parts is None else {name: part(each) for name, each in model.parts.items()},
        features=features if model.features else None,
        freeze=freeze if model.freeze else None,
        adapt=adapt if model.adapt else None,
        synchronize=None,  # these two apply before a model is wrapped
        remat=None,
    )


def _cast(tree: Tree, dtype: Any) -> Tree:
    """Return a tree with its floats cast to a type; None leaves them unchanged."""
    if dtype is None:
        return tree
    if isinstance(tree, dict):  # jax.tree.map would sort the names, whose order is that of computation
        return {name: _cast(each, dtype) for name, each in tree.items()}
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)
