"""Adapt Flax NNX modules to the Model contract. NNX is imported on use, because the import takes a second."""

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
from jaxvision.trees import where_path

Path = tuple[Any, ...]  # attributes by name, items of a list by number
_tapped: ContextVar[tuple[Any, Mapping[str, Array], dict[str, Array]] | None] = ContextVar("tapped", default=None)


def tap(module: Any, name: str, value: Array) -> Array:
    """Name a map inside the outermost module, as `linen.tap` does."""
    outermost, add, maps = _tapped.get() or (None, {}, {})
    if module is outermost:
        value = maps[name] = value + add[name] if name in add else value
    return value


class Layout(NamedTuple):
    """The static part of a module: its graph, and the paths and kinds of its variables."""

    graph: Any
    variables: dict[Path, Any]
    takes_train: bool


def from_nnx(make: Callable[..., Any], *, head: str | None = None) -> Model:
    """Build a Model from a Flax NNX module, made by `make(rngs=…)`, a class or a function.

    The module's `__call__` takes inputs [B, H, W, C], normalized floats, and returns outputs [B, output_size]. An
    argument `train` is passed if it has one; otherwise `train()` or `eval()` is called before. The parameters are the
    nnx.Param variables, by attribute name; the state is all other variables, with batch statistics as a separate
    collection. Random streams are derived from the key of each call and are not part of the state. Maps named by `tap`
    are its features. `head` is the attribute of the last layer. Raises ValueError if plain jax.Arrays are attributes,
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
        return outputs, {collection: where_path(new[collection], state[collection], frozen) for collection in state}

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

    def make_named():
        module = make(rngs=nnx.Rngs(0))
        names.extend(vars(module))
        return module

    module = nnx.eval_shape(make_named)
    for path, part in nnx.iter_modules(module):
        for name, value in vars(part).items():
            if isinstance(value, Tracer):
                raise ValueError(
                    f"{'.'.join(map(str, (*path, name)))} of the module {type(module).__name__} is a plain jax.Array, "
                    "which NNX loses in tracing; wrap it in nnx.Variable(…), or use a NumPy array"
                )
    graph, variables = nnx.split(module)
    takes_train = "train" in inspect.signature(module.__call__).parameters
    # NNX sorts variables by name; the model keeps the order in which the module created its attributes
    in_order = sorted(dict(nnx.to_flat_state(variables)).items(), key=lambda item: names.index(item[0][0]))
    return Layout(graph, dict(in_order), takes_train)


def _place(path: Path, variable: Any) -> tuple[str, ...] | None:
    """Return a variable's path in the trees, starting with its collection as in Linen; None for keys and counts."""
    from flax import nnx

    if isinstance(variable, nnx.RngState):
        return None
    kinds = {"params": nnx.Param, "batch_stats": nnx.BatchStat, "variables": object}
    collection = next(name for name, kind in kinds.items() if isinstance(variable, kind))
    return collection, *map(str, path)


def _trees(module: Any, paths: Iterable[Path]) -> Tree:
    """Return a module's arrays at the given paths, as nested dicts by collection."""
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
    """Return the module with these arrays, and a key for each random stream."""
    from flax import nnx

    def value(number, path, variable):
        place = _place(path, variable)
        if place is None:
            return _randomness(variable, key, number, train=train)
        leaf = trees
        for name in place:
            leaf = leaf[name]
        return leaf

    leaves = {}
    for number, (path, variable) in enumerate(layout.variables.items()):
        leaf = value(number, path, variable)
        leaves[path] = variable.replace(leaf) if isinstance(variable, nnx.Variable) else leaf
    return nnx.merge(layout.graph, nnx.from_flat_state(leaves))


def _randomness(variable: Any, key: Array | None, number: int, *, train: bool) -> Array:
    """Return a stream's key, derived from the call's key and the stream's number, or its count, which starts at 0."""
    from flax import nnx

    current = variable.get_value()
    if not isinstance(variable, nnx.RngKey):
        return jnp.zeros(current.shape, current.dtype)
    if train and key is None:
        raise ValueError("the module draws random numbers in training; apply needs a key: key=jax.random.key(…)")
    stream_key = jax.random.fold_in(jax.random.key(0) if key is None else key, number)
    return jax.random.split(stream_key, current.shape) if current.shape else stream_key


def _vary(module: Any, frozen: frozenset[str], axis: str | None) -> None:
    """Make batch norms compute the variance in two passes, and synchronize over a device axis; freeze modules.

    The modules at the frozen paths act as in evaluation. They ignore the mode that the module gives to norms.
    """
    from flax import nnx

    for path, part in nnx.iter_modules(module):
        if isinstance(part, nnx.BatchNorm):
            part.use_fast_variance = False  # it is wrong in float32 for means far from 0
            part.axis_name = axis or part.axis_name
        if "/".join(map(str, path)) in frozen:
            part.eval()
            if isinstance(part, nnx.BatchNorm):
                object.__setattr__(part, "__class__", _with_stored_statistics(type(part)))


@cache
def _with_stored_statistics(norm: type) -> type:
    """Return a subclass of a batch norm that always uses the stored statistics."""

    def call(self, x, *_, **options):
        return norm.__call__(self, x, **{**options, "use_running_average": True})

    return type(norm.__name__, (norm,), {"__call__": call, "__slots__": ()})
