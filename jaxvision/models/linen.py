"""Flax Linen modules under the Model contract."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import flax.linen as nn
import jax

from jaxvision.interfaces import Model
from jaxvision.trees import kept


def tap(module: nn.Module, name: str, value: jax.Array) -> jax.Array:
    """Gives a map inside a module its name: `features` returns it, and adds to it what it is given to add."""
    if module.has_variable("add", name):
        value = value + module.get_variable("add", name)
    if module.is_mutable_collection("intermediates"):
        module.put_variable("intermediates", name, value)
    return value


def _frozen_norms(modules: frozenset[str]):
    """Intercepts the batch norms among the modules of some paths, so that they use what is stored."""

    def intercept(function, arguments, options, context):
        norm = context.module
        if isinstance(norm, nn.BatchNorm) and context.method_name == "__call__" and "/".join(norm.path) in modules:
            # Set in the constructor or given at the call, which Flax refuses to have both.
            object.__setattr__(norm, "use_running_average", None)
            options = {**options, "use_running_average": True}
            arguments = arguments[:1]
        return function(*arguments, **options)

    return nn.intercept_methods(intercept)


def from_linen(module: nn.Module, *, head: str | None = None) -> Model:
    """Puts a Linen module under the Model contract.

    Its `__call__` takes inputs [B, H, W, C], normalised floats, and gives outputs [B, output_size]; where it has an
    argument `train`, it is told. Dropout draws from the "dropout" stream. All collections but "params" are the state.
    Maps that it names by `tap` on its outermost module are its features. `head` is the key of the last layer.
    """
    return _model(module, head, frozenset())


def _model(module: nn.Module, head: str | None, frozen: frozenset[str]) -> Model:
    takes_train = "train" in inspect.signature(module.__call__).parameters

    def mode(train: bool) -> dict[str, Any]:
        return {"train": train} if takes_train else {}

    def init(key, inputs):
        params_key, dropout_key = jax.random.split(key)
        variables = dict(module.init({"params": params_key, "dropout": dropout_key}, inputs, **mode(False)))
        variables.pop("intermediates", None)
        return variables.pop("params", {}), variables

    def apply(params, state, inputs, *, train, key) -> tuple[Any, Any]:
        variables = {"params": params, **state}
        if not train:
            return module.apply(variables, inputs, **mode(False)), state
        rngs = {} if key is None else {"dropout": key}
        with _frozen_norms(frozen) if frozen else contextlib.nullcontext():
            outputs, new_state = module.apply(variables, inputs, **mode(True), rngs=rngs, mutable=list(state))
        return outputs, {name: kept(new, state[name], frozen) for name, new in dict(new_state).items()}

    def features(params, state, inputs, *, add=None):
        variables = {"params": params, **state, "add": dict(add or {})}
        _, found = module.apply(  # pyright: ignore
            variables, inputs, **mode(False), mutable=["intermediates"]
        )
        return {
            name: value for name, value in dict(found).get("intermediates", {}).items() if isinstance(value, jax.Array)
        }

    return Model(init, apply, features, head, freeze=lambda modules: _model(module, head, modules))
