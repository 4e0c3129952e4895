"""Flax Linen modules under the Model contract."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from flax.core import DenyList

from jaxvision.interfaces import Adapt, Model
from jaxvision.models import nnx
from jaxvision.models.synchrony import check_synchronized
from jaxvision.trees import flat, kept

NOTED = ("intermediates", "attention")  # collections of what `features` returns, which are no part of the state


def tap(module: Any, name: str, value: jax.Array) -> jax.Array:
    """Name a map inside a module, Linen's or NNX's: `features` returns it, and adds to it what it is given to add."""
    if not isinstance(module, nn.Module):
        return nnx.tap(module, name, value)
    if module.has_variable("add", name):
        value = value + module.get_variable("add", name)
    if module.is_mutable_collection("intermediates"):
        module.put_variable("intermediates", name, value)
    return value


def tap_attention(module: nn.Module, shares: jax.Array) -> None:
    """Note the attention [B, heads, N, N] of a block, as "block_attention", where `features` is asked for it."""
    if module.is_mutable_collection("attention"):
        module.put_variable("attention", "attention", shares)


class Variation(NamedTuple):
    """What a model does otherwise in training than its module says."""

    frozen: frozenset[str] = frozenset()  # paths of modules whose batch norms use what is stored
    axis: str | None = None  # of devices, over all of which batch norms take their statistics
    again: tuple[type[nn.Module], ...] = ()  # whose maps are computed again in the backward pass

    def noting(self, norms: set[str]) -> Callable[..., Any]:
        """Return the interceptor that adds the paths of the batch norms in use to a set."""

        def intercept(function, arguments, options, context):
            if isinstance(context.module, nn.BatchNorm):
                norms.add("/".join(context.module.path))
            return self(function, arguments, options, context)

        return intercept

    def __call__(self, function: Callable[..., Any], arguments: Any, options: Any, context: Any) -> Any:
        """Call a module's method in its place, as `nn.intercept_methods` wants it."""
        module = context.module
        if context.method_name != "__call__":
            return function(*arguments, **options)
        if isinstance(module, nn.BatchNorm):
            if self.axis is not None:
                object.__setattr__(module, "axis_name", self.axis)
            if "/".join(module.path) in self.frozen:
                # Set in the constructor or given at the call, which Flax refuses to have both.
                object.__setattr__(module, "use_running_average", None)
                return function(*arguments[:1], **{**options, "use_running_average": True})
        if isinstance(module, self.again):
            call = context.orig_method.func  # of no instance, as what is lifted is called on a copy
            told = [number for number, each in enumerate(arguments, 1) if isinstance(each, bool | str)]

            def again(module, *arguments):
                return call(module, *arguments, **options)

            return nn.remat(again, static_argnums=tuple(told))(module, *arguments)
        return function(*arguments, **options)


def from_linen(
    module: nn.Module,
    *,
    head: str | None = None,
    blocks: tuple[type[nn.Module], ...] = (),
    adapt: Adapt | None = None,
) -> Model:
    """Put a Linen module under the Model contract.

    Its `__call__` takes inputs [B, H, W, C], normalised floats, and gives outputs [B, output_size]; where it has an
    argument `train`, it is told. Dropout draws from the "dropout" stream. All collections but "params" are the state.
    Maps that it names by `tap` on its outermost module are its features. `head` is the key of the last layer, `blocks`
    are the classes of the modules that `remat` computes again, and `adapt` is the model's.
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
        return variables.pop("params", {}), variables

    def apply(params, state, inputs, *, train, key) -> tuple[Any, Any]:
        variables = {"params": params, **state}
        if not train:
            return module.apply(variables, inputs, **mode(False)), state
        rngs = {} if key is None else {"dropout": key}
        norms: set[str] = set()
        with contextlib.nullcontext() if variation == Variation() else nn.intercept_methods(variation.noting(norms)):
            outputs, new_state = module.apply(variables, inputs, **mode(True), rngs=rngs, mutable=list(state))
        if variation.axis is not None:
            check_synchronized(state, dict(new_state), norms)
        return outputs, {name: kept(new, state[name], variation.frozen) for name, new in dict(new_state).items()}

    def features(params, state, inputs, *, add=None, attention=False):
        variables = {"params": params, **state, "add": dict(add or {})}
        outputs, found = module.apply(variables, inputs, **mode(False), mutable=NOTED if attention else NOTED[:1])
        noted: dict[str, Any] = dict(found)  # pyright: ignore[reportCallIssue, reportArgumentType]
        maps = {name: each for name, each in noted.get("intermediates", {}).items() if isinstance(each, jax.Array)}
        shares = {path.replace("/", "_"): each for path, each in flat(noted.get("attention", {})).items()}
        return {**maps, **shares, "outputs": outputs}

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
