"""Flax NNX modules under the Model contract. NNX is imported where it is needed: it takes a second."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxvision.interfaces import Array, Model, Tree
from jaxvision.models.synchrony import check_synchronized
from jaxvision.trees import kept

Path = tuple[Any, ...]  # attributes by name, items of a list by number
_tapped: ContextVar[tuple[Any, Mapping[str, Array], dict[str, Array]] | None] = ContextVar("tapped", default=None)


def tap(module: Any, name: str, value: Array) -> Array:
    """Name a map inside the outermost module, as `linen.tap` does."""
    outermost, add, maps = _tapped.get() or (None, {}, {})
    if module is outermost:
        value = maps[name] = value + add[name] if name in add else value
    return value


class Layout(NamedTuple):
    """What of a module is no array: its graph, and where its arrays are and of what kind."""

    graph: Any
    variables: dict[Path, Any]
    takes_train: bool


def from_nnx(make: Callable[..., Any], *, head: str | None = None) -> Model:
    """Puts a Flax NNX module under the Model contract: that which `make(rngs=…)` gives, a class or a function.

    Its `__call__` takes inputs [B, H, W, C], normalised floats, and gives outputs [B, output_size]; where it has an
    argument `train`, it is told, and otherwise its `train()` or `eval()` is called before. The parameters are its
    nnx.Param, by the names of its attributes; the state is its other variables, batch statistics apart. Randomness is
    drawn anew from the key of each call, and is no part of the state. `head` is the attribute that is the last layer.
    Maps that it names by `tap` are its features. Raises ValueError for a module with plain jax.Arrays as attributes,
    which NNX loses in tracing.
    """
    return _model(cache(lambda: _layout(make)), make, head, frozenset(), None)


def _model(
    layout: Callable[[], Layout], make: Callable[..., Any], head: str | None, frozen: frozenset[str], axis: str | None
) -> Model:
    from flax import nnx

    def init(key, inputs):
        trees = _trees(make(rngs=nnx.Rngs(key)), layout().variables)
        return trees.pop("params", {}), trees

    def call(params, state, inputs, *, train, key, add=None):
        module, maps = _module(layout(), {"params": params, **state}, key, train=train), {}
        if not layout().takes_train:
            module.train() if train else module.eval()
        if train:
            _vary(module, frozen, axis)
        token = _tapped.set((module, add or {}, maps))
        try:
            return module, maps, module(inputs, **({"train": train} if layout().takes_train else {}))
        finally:
            _tapped.reset(token)

    def apply(params, state, inputs, *, train, key):
        module, _, outputs = call(params, state, inputs, train=train, key=key)
        if not train:
            return outputs, state
        new = _trees(module, layout().variables)
        if axis is not None:
            parts = nnx.iter_modules(module)
            norms = {"/".join(map(str, path)) for path, part in parts if isinstance(part, nnx.BatchNorm)}
            check_synchronized(state, new, norms)
        return outputs, {collection: kept(new[collection], state[collection], frozen) for collection in state}

    def features(params, state, inputs, *, add=None, attention=False):
        _, maps, outputs = call(params, state, inputs, train=False, key=None, add=add)
        return {**maps, "outputs": outputs}

    return Model(
        init=init,
        apply=apply,
        features=features,
        head=head,
        freeze=lambda modules: _model(layout, make, head, modules, axis),
        synchronize=lambda axis: _model(layout, make, head, frozen, axis),
    )


def _layout(make: Callable[..., Any]) -> Layout:
    from flax import nnx

    names: list[Any] = []

    def made():
        module = make(rngs=nnx.Rngs(0))
        names.extend(vars(module))
        return module

    module = nnx.eval_shape(made)
    for path, part in nnx.iter_modules(module):
        for name, value in vars(part).items():
            if isinstance(value, Tracer):
                raise ValueError(
                    f"{'.'.join(map(str, (*path, name)))} of the module {type(module).__name__} is a plain jax.Array, "
                    "which NNX loses in tracing; wrap it, as nnx.Variable(…), or make it by NumPy"
                )
    graph, variables = nnx.split(module)
    takes_train = "train" in inspect.signature(module.__call__).parameters
    # NNX gives them by the alphabet; layers are told apart in the order in which the module made its attributes
    in_order = sorted(dict(nnx.to_flat_state(variables)).items(), key=lambda item: names.index(item[0][0]))
    return Layout(graph, dict(in_order), takes_train)


def _place(path: Path, variable: Any) -> tuple[str, ...] | None:
    """Where a variable is among our trees: by its collection, as Linen calls it. Keys and counts have no place."""
    from flax import nnx

    if isinstance(variable, nnx.RngState):
        return None
    kinds = {"params": nnx.Param, "batch_stats": nnx.BatchStat, "variables": object}
    collection = next(name for name, kind in kinds.items() if isinstance(variable, kind))
    return collection, *map(str, path)


def _trees(module: Any, paths: Iterable[Path]) -> Tree:
    """Gives a module's arrays as nested dicts by collection. What it noted down in a call is not among the paths."""
    from flax import nnx

    trees: dict[str, Any] = {}
    variables = dict(nnx.to_flat_state(nnx.state(module)))
    for path in paths:
        place = _place(path, variables[path])
        if place is not None:
            *parents, name = place
            tree = trees
            for parent in parents:
                tree = tree.setdefault(parent, {})
            value = variables[path]
            tree[name] = jnp.asarray(value.get_value() if isinstance(value, nnx.Variable) else value)
    return trees


def _module(layout: Layout, trees: Tree, key: Array | None, *, train: bool) -> Any:
    """Gives the module with these arrays in it, and a key for each of its streams."""
    from flax import nnx

    def value(number, path, variable):
        place = _place(path, variable)
        if place is None:
            return _randomness(variable, key, number, train=train)
        found = trees
        for name in place:
            found = found[name]
        return found

    leaves = {}
    for number, (path, variable) in enumerate(layout.variables.items()):
        found = value(number, path, variable)
        leaves[path] = variable.replace(found) if isinstance(variable, nnx.Variable) else found
    return nnx.merge(layout.graph, nnx.from_flat_state(leaves))


def _randomness(variable: Any, key: Array | None, number: int, *, train: bool) -> Array:
    """Gives a stream's key, a function of the call's key and the stream's number, or its count, which begins at 0."""
    from flax import nnx

    like = variable.get_value()
    if not isinstance(variable, nnx.RngKey):
        return jnp.zeros(like.shape, like.dtype)
    if train and key is None:
        raise ValueError("the module draws random numbers in training: apply wants a key, key=jax.random.key(…)")
    own = jax.random.fold_in(jax.random.key(0) if key is None else key, number)
    return jax.random.split(own, like.shape) if like.shape else own


def _vary(module: Any, frozen: frozenset[str], axis: str | None) -> None:
    """Make batch norms take statistics over an axis of devices, and the modules of some paths act as in evaluation.

    The latter do so whatever the module tells its batch norms when it calls them.
    """
    from flax import nnx

    for path, part in nnx.iter_modules(module):
        if axis is not None and isinstance(part, nnx.BatchNorm):
            part.axis_name = axis
        if "/".join(map(str, path)) in frozen:
            part.eval()
            if isinstance(part, nnx.BatchNorm):
                object.__setattr__(part, "__class__", _with_stored_statistics(type(part)))


@cache
def _with_stored_statistics(norm: type) -> type:
    """Gives the class of batch norm that takes no other statistics than the stored ones."""

    def call(self, x, *_, **options):
        return norm.__call__(self, x, **{**options, "use_running_average": True})

    return type(norm.__name__, (norm,), {"__call__": call, "__slots__": ()})
