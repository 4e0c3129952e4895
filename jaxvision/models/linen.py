"""Adapt Flax Linen modules to the Model contract."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax.core import DenyList

from jaxvision.interfaces import Adapt, Model
from jaxvision.machine import require_memory
from jaxvision.models import nnx
from jaxvision.models.synchrony import check_synchronized
from jaxvision.trees import flatten_with_paths, where_path

MANY_PARAMETERS = 2**26  # 256 MiB; smaller models fit everywhere
NOTED = ("intermediates", "attention")  # collections that `features` returns; not part of the state


def tap(module: Any, name: str, value: jax.Array) -> jax.Array:
    """Name a map inside a Linen or NNX module, so that `features` returns it and can add a perturbation to it."""
    if not isinstance(module, nn.Module):
        return nnx.tap(module, name, value)
    if module.has_variable("add", name):
        value = value + module.get_variable("add", name)
    if module.is_mutable_collection("intermediates"):
        module.put_variable("intermediates", name, value)
    return value


def tap_attention(module: nn.Module, shares: jax.Array) -> None:
    """Record the attention [B, heads, N, N] of a block as "block_attention", if `features` asks for it."""
    if module.is_mutable_collection("attention"):
        module.put_variable("attention", "attention", shares)


def mean_over_devices(norm: nn.BatchNorm, mean: jax.Array) -> tuple[jax.Array, int]:
    """Return the mean over the devices that a batch norm is synchronized with, and their number."""
    if norm.axis_name is None or norm.is_initializing():
        return mean, 1
    return jax.lax.pmean(mean, norm.axis_name), jax.lax.axis_size(norm.axis_name)


class Variation(NamedTuple):
    """How a model's training mode differs from that of its module."""

    frozen: frozenset[str] = frozenset()  # paths of modules whose batch norms use the stored statistics
    axis: str | None = None  # device axis over which batch norms compute their statistics
    again: tuple[type[nn.Module], ...] = ()  # modules that are recomputed in the backward pass

    def noting(self, norms: set[str]) -> Callable[..., Any]:
        """Return an interceptor that adds the paths of the batch norms in use to `norms`."""

        def intercept(function, arguments, options, context):
            if isinstance(context.module, nn.BatchNorm):
                norms.add("/".join(context.module.path))
            return self(function, arguments, options, context)

        return intercept

    def __call__(self, function: Callable[..., Any], arguments: Any, options: Any, context: Any) -> Any:
        """Call a module's method; an interceptor for `nn.intercept_methods`."""
        module = context.module
        if context.method_name != "__call__":
            return function(*arguments, **options)
        if isinstance(module, nn.BatchNorm):
            object.__setattr__(module, "use_fast_variance", False)  # it is wrong in float32 for means far from 0
            if self.axis is not None:
                object.__setattr__(module, "axis_name", self.axis)
            if "/".join(module.path) in self.frozen:
                # Flax refuses use_running_average both in the constructor and in the call.
                object.__setattr__(module, "use_running_average", None)
                return function(*arguments[:1], **{**options, "use_running_average": True})
        if isinstance(module, self.again):
            call = context.orig_method.func  # unbound, because the lifted module is called on a copy
            static = [number for number, argument in enumerate(arguments, 1) if not _is_traced(argument)]

            def again(module, *arguments):
                return call(module, *arguments, **options)

            return nn.remat(again, static_argnums=tuple(static))(module, *arguments)
        return function(*arguments, **options)


def _require_fit(module: nn.Module, params: Any) -> None:
    """Raise ValueError if parameters do not fit into the memory; shapes suffice, so that nothing is allocated."""
    count = sum(int(leaf.size) for leaf in jax.tree.leaves(params))
    if count > MANY_PARAMETERS:
        options = {field.name: getattr(module, field.name) for field in dataclasses.fields(module)}
        named = ", ".join(f"{name}={value!r}" for name, value in options.items() if name not in ("parent", "name"))
        num_bytes = sum(int(leaf.size) * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
        require_memory(num_bytes, f"{type(module).__name__}({named}), of {count:,} parameters,")


def _is_traced(argument: Any) -> bool:
    """Return whether all leaves of an argument are arrays, so that it can be traced."""
    leaves = jax.tree.leaves(argument)
    return bool(leaves) and all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)


def from_linen(
    module: nn.Module,
    *,
    head: str | None = None,
    blocks: tuple[type[nn.Module], ...] = (),
    adapt: Adapt | None = None,
) -> Model:
    """Build a Model from a Linen module.

    The module's `__call__` takes inputs [B, H, W, C], normalized floats, and returns outputs [B, output_size]. An
    argument `train` is passed if it has one. Dropout uses the "dropout" stream. All collections except "params" are the
    state. Maps that the outermost module names by `tap` are its features.

    Args:
        module: the module.
        head: key of the last layer in the parameters.
        blocks: module classes that `remat` recomputes in the backward pass.
        adapt: the model's `adapt` function.
    """
    return _model(module, Variation(), head, blocks, adapt)


def _model(
    module: nn.Module, variation: Variation, head: str | None, blocks: tuple[type[nn.Module], ...], adapt: Adapt | None
) -> Model:
    takes_train = "train" in inspect.signature(module.__call__).parameters

    def mode(train: bool) -> dict[str, Any]:
        return {"train": train} if takes_train else {}

    def init(key, inputs):
        params_key, dropout_key = jax.random.split(key)
        rngs = {"params": params_key, "dropout": dropout_key}
        variables = dict(module.init(rngs, inputs, **mode(False), mutable=DenyList(NOTED)))
        params = variables.pop("params", {})
        _require_fit(module, params)
        return params, variables

    def apply(params, state, inputs, *, train, key) -> tuple[Any, Any]:
        variables = {"params": params, **state}
        if not train:
            return module.apply(variables, inputs, **mode(False)), state
        rngs = {} if key is None else {"dropout": key}
        norms: set[str] = set()
        with nn.intercept_methods(variation.noting(norms)):
            outputs, new_state = module.apply(variables, inputs, **mode(True), rngs=rngs, mutable=list(state))
        if variation.axis is not None:
            check_synchronized(state, dict(new_state), norms)
        return outputs, {name: where_path(new, state[name], variation.frozen) for name, new in dict(new_state).items()}

    def features(params, state, inputs, *, add=None, attention=False):
        variables = {"params": params, **state, "add": dict(add or {})}
        outputs, mutated = module.apply(variables, inputs, **mode(False), mutable=NOTED if attention else NOTED[:1])
        noted: dict[str, Any] = dict(mutated)  # pyright: ignore[reportCallIssue, reportArgumentType]
        maps = {name: leaf for name, leaf in noted.get("intermediates", {}).items() if isinstance(leaf, jax.Array)}
        weights = {
            path.replace("/", "_"): leaf for path, leaf in flatten_with_paths(noted.get("attention", {})).items()
        }
        return {**maps, **weights, "outputs": outputs}

    def varied(**changes: Any) -> Model:
        return _model(module, variation._replace(**changes), head, blocks, adapt)

    return Model(
        init=init,
        apply=apply,
        features=features,
        head=head,
        freeze=lambda modules: varied(frozen=modules),
        synchronize=lambda axis: varied(axis=axis),
        remat=(lambda: varied(again=blocks)) if blocks else None,
        adapt=adapt,
    )
