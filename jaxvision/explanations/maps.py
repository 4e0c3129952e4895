"""The named feature maps of a model, and the gradient of a score by one of them."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.interfaces import Array, Features, Model, Tree
from jaxvision.specs import nearest

LEAST = 4  # rows and columns of a map that is chosen by itself
INSTEAD = "use --method=integrated_gradients, which needs no map"


def map_shapes(model: Model, params: Tree, state: Tree, inputs: Any) -> dict[str, tuple[int, int]]:
    """Return the rows and columns of the named feature maps [B, h, w, C] of a model, from the first to the last.

    Raises ValueError if the model names none.
    """
    names: list[str] = []

    def named(params, state, inputs):
        assert model.features is not None
        maps = model.features(params, state, inputs)
        names.extend(name for name in maps if name not in names)  # traced, because JAX sorts the names
        return maps

    maps = jax.eval_shape(named, params, state, inputs) if model.features else {}
    shapes = {name: maps[name].shape[1:3] for name in names if maps[name].ndim == 4}
    if not shapes:
        raise ValueError(f"it has no feature maps [B, h, w, C] ({_listed(names)}); {INSTEAD}")
    return shapes


def _listed(names: list[str]) -> str:
    others = [name for name in names if name not in ("outputs", "pooled")]
    return f"it names {', '.join(others)}" if others else "its Model names no features"


def attention_of(model: Model, params: Tree, state: Tree, inputs: Any) -> list[Array]:
    """Return the attention [B, heads, N, N] of each block, from the first to the last; [] if the model has none."""
    if model.features is None or "attention" not in _options(model.features):
        return []
    maps = model.features(params, state, inputs, attention=True)
    names = [name for name in maps if name.endswith("_attention")]
    return [maps[name] for name in sorted(names, key=lambda name: (len(name), name))]  # block2 before block10


def _options(features: Features) -> set[str]:
    """Return the arguments that `features` takes, "attention" among them if it takes any."""
    parameters = inspect.signature(features).parameters.values()
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    return {*(each.name for each in parameters), *({"attention"} if takes_any else ())}


def token_grid(model: Model, params: Tree, state: Tree, inputs: Any) -> tuple[int, int] | None:
    """Return the rows and columns of the patches of a transformer with a class token; None for other models."""
    shares = jax.eval_shape(lambda *a: attention_of(model, *a), params, state, inputs)
    shapes = map_shapes(model, params, state, inputs)
    fitting = [size for size in shapes.values() if shares and size[0] * size[1] + 1 == shares[-1].shape[-1]]
    return fitting[-1] if fitting else None


def layer_of(model: Model, params: Tree, state: Tree, inputs: Any, layer: str | None) -> tuple[str, tuple[int, int]]:
    """Return the name and size of the map to read: the named one, or the deepest of at least LEAST rows and columns.

    The last map of a transformer with a class token is left out: the outputs read only the token there. Raises
    ValueError if there is no such map.
    """
    shapes = map_shapes(model, params, state, inputs)
    has_token = layer is None and token_grid(model, params, state, inputs) is not None
    name = chosen_map(dict([*shapes.items()][:-1]) if has_token else shapes, layer)
    return name, shapes[name]


def chosen_map(shapes: dict[str, tuple[int, int]], layer: str | None) -> str:
    """Return a map by name, or the deepest one of at least LEAST rows and columns. Raises ValueError if there is none.

    >>> chosen_map({"stem": (16, 16), "stage1": (4, 4), "stage2": (2, 2)}, None)
    'stage1'
    """
    sizes = ", ".join(f"{name} ({rows}x{columns})" for name, (rows, columns) in shapes.items())
    if layer is not None and layer not in shapes:
        raise ValueError(f"it has no map {layer!r}{nearest(layer, shapes)}; its maps are {sizes}")
    large = [name for name, size in shapes.items() if min(size) >= LEAST]
    if layer is None and not large:
        raise ValueError(
            f"none of its maps has {LEAST}x{LEAST} cells or more: {sizes}; name one, as layer={list(shapes)[-1]!r}, "
            f"or {INSTEAD}"
        )
    return layer or large[-1]


def activation_and_gradient(
    model: Model, params: Tree, state: Tree, inputs: Array, target: Array, layer: str | None
) -> tuple[Array, Array]:
    """Return a map [B, h, w, C] and the gradient of the score by it."""
    assert model.features is not None
    name, _ = layer_of(model, params, state, inputs, layer)
    shape = jax.eval_shape(model.features, params, state, inputs)[name]

    def score(added: Array) -> tuple[Array, Array]:
        assert model.features is not None
        maps = model.features(params, state, inputs, add={name: added})
        return (maps["outputs"] * target).sum(), maps[name]

    gradient, activation = jax.grad(score, has_aux=True)(jnp.zeros(shape.shape, shape.dtype))
    return activation, gradient
