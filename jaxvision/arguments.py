"""The arguments of registered factories: their names and types, as the signature says them, checked before a call."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxvision.specs import Spec, literals, nearest

if TYPE_CHECKING:
    from jaxvision.registry import Registry


class SpecOf(NamedTuple):
    """Mark an argument that is a spec of another kind, and checked as one: `loss: Annotated[str, SpecOf("loss")]`."""

    kind: str


def parameters_of(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(factory).parameters)


def check_arguments(registry: Registry, name: str, arguments: dict[str, Any], *, nested: dict[str, Registry]) -> None:
    """Raise ValueError for arguments that a registered factory has not, or needs; TypeError for those of another type.

    `nested` has the registries of the arguments that are specs themselves.
    """
    import typeguard

    factory = registry.entry(name).factory
    hints = typing.get_type_hints(factory)
    free = {k: p for k, p in parameters_of(factory).items() if k not in registry.context}
    wanted = f"it takes {registry.signature(name)}"
    for argument, value in arguments.items():
        if argument in registry.context:
            raise ValueError(f"{registry.kind} {name!r}: {argument!r} is set by the run, not by a spec; {wanted}")
        if argument not in free:
            hint = _elsewhere(argument, nested) or nearest(argument, free)
            raise ValueError(f"{registry.kind} {name!r} has no argument {argument!r}{hint}; {wanted}")
        try:
            strategy = typeguard.CollectionCheckStrategy.ALL_ITEMS
            typeguard.check_type(value, hints.get(argument, Any), collection_check_strategy=strategy)
        except typeguard.TypeCheckError:
            kind, choices = f"of type {inspect.formatannotation(hints[argument])}", literals(hints[argument])
            if typing.get_origin(hints[argument]) is typing.Literal:
                kind = f"one of {', '.join(map(repr, choices))}"
            words = value if isinstance(value, tuple) else (value,)
            kind += next(filter(None, (nearest(word, choices) for word in words if isinstance(word, str))), "")
            raise TypeError(f"{registry.kind} {name!r}: {argument}={value!r} is not {kind}; {wanted}") from None
        if argument in nested and isinstance(value, str):
            nested[argument].check(value)
    for argument, parameter in free.items():
        if parameter.default is parameter.empty and argument not in arguments:
            raise ValueError(f"{registry.kind} {name!r} needs {argument}=…, as in {name}({argument}=…)")


def _elsewhere(argument: str, nested: dict[str, Registry]) -> str:
    """Return where an argument belongs that is one of a spec inside the spec, or its name: "; write loss='…'"."""
    for outer, inner in nested.items():
        if argument in inner.names():
            return f"; write {outer}='{argument}(…)'"
        for name in inner.names():
            if argument not in inner.context and inner.takes(Spec(name, {}), argument):
                return f"; write {outer}='{name}({argument}=…)'"
    return ""
