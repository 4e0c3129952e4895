"""Names for factories: registration by decorators, and building what a spec names."""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxvision.plugins import load_entry_points
from jaxvision.specs import Spec, literals, nearest, parse


class Entry(NamedTuple):
    """A registered factory and the facts that a list shows without building anything."""

    factory: Callable[..., Any]
    facts: dict[str, Any]

    @property
    def place(self) -> str:
        code = inspect.unwrap(self.factory).__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]


class SpecOf(NamedTuple):
    """Mark an argument that is a spec of another kind, and checked as one: `loss: Annotated[str, SpecOf("loss")]`."""

    kind: str


class Registry:
    """The factories of one kind, by name. The built-in ones are in `home`, imported at the first look-up.

    `context` names the arguments that the run gives to those factories that have them; a spec may not set them.
    """

    def __init__(self, kind: str, home: str, *, context: tuple[str, ...] = (), plural: str | None = None):
        self.plural = plural or f"{kind}s"
        self.kind = kind
        self.home = home
        self.context = context
        self._entries: dict[str, Entry] = {}
        self._is_loaded = False

    def register(self, name: str, **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Registers the decorated factory; `facts` (num_parameters, input_size) are shown in lists."""
        if not name.isidentifier():
            raise ValueError(f"a {self.kind} cannot be named {name!r}: a name has letters, digits and _ only")

        def decorate(factory: Callable[..., Any]) -> Callable[..., Any]:
            entry = Entry(factory, facts)
            if not factory.__module__.startswith(self.home):
                self._load_home()  # so that it is the newcomer's name that is taken, never ours
            taken = self._entries.get(name)
            again = (
                taken and taken.factory.__module__ == factory.__module__ == "__main__"
            )  # a notebook's cell, run anew
            if taken and not again and taken.place != entry.place:
                raise ValueError(
                    f"the {self.kind} {name!r} of {entry.place} has a name that {taken.place} took; rename one"
                )
            self._entries[name] = entry
            return factory

        return decorate

    def _load_home(self) -> None:
        home = importlib.import_module(self.home)
        for module in pkgutil.iter_modules(getattr(home, "__path__", [])):
            importlib.import_module(f"{self.home}.{module.name}")

    def _load(self) -> None:
        if not self._is_loaded:
            self._is_loaded = True
            self._load_home()
            load_entry_points()

    def names(self, pattern: str = "*") -> list[str]:
        """Lists the registered names that match a pattern with wildcards, sorted."""
        self._load()
        return sorted(fnmatch.filter(self._entries, pattern))

    def entry(self, name: str) -> Entry:
        """Looks a name up. Raises ValueError with the nearest names where it is unknown."""
        self._load()
        if name not in self._entries:
            known = self.names()
            raise ValueError(
                f"unknown {self.kind} {name!r}{nearest(name, known)} "
                f"(`jaxvision list {self.plural}` shows all {len(known)})"
            )
        return self._entries[name]

    def signature(self, name: str) -> str:
        """Writes the call that a user may make: the name with its arguments and their defaults."""
        free = [p for p in _parameters_of(self.entry(name).factory).values() if p.name not in self.context]
        shown = (p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in free)
        return f"{name}({', '.join(shown)})"

    def build(self, spec: str | Spec, **context: Any) -> Any:
        """Calls the factory that the spec names, with the spec's arguments and what of the context it asks for.

        Raises ValueError for an unknown name or argument, TypeError for a value of the wrong type.
        """
        name, arguments = parse(spec) if isinstance(spec, str) else spec
        factory = self.entry(name).factory
        parameters = _parameters_of(factory)
        _check_arguments(self, name, arguments, nested=_nested(factory))
        return factory(**arguments, **{k: v for k, v in context.items() if k in parameters})

    def check(self, spec: str | Spec) -> None:
        """Raises what `build` would for a spec's name and arguments, without building."""
        name, arguments = parse(spec) if isinstance(spec, str) else spec
        _check_arguments(self, name, arguments, nested=_nested(self.entry(name).factory))

    def default(self, name: str, argument: str) -> Any:
        """Gives the default that an argument has in a factory's signature, or None."""
        parameter = _parameters_of(self.entry(name).factory).get(argument)
        return None if parameter is None or parameter.default is parameter.empty else parameter.default

    def takes(self, spec: str | Spec, argument: str) -> bool:
        """Says whether the factory that a spec names has an argument, the context's among them."""
        name = parse(spec).name if isinstance(spec, str) else spec.name
        return argument in _parameters_of(self.entry(name).factory)

    def modules(self) -> set[str]:
        """Names the modules whose factories are registered."""
        return {entry.factory.__module__ for entry in self._entries.values()}


def _parameters_of(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(factory).parameters)


def _check_arguments(registry: Registry, name: str, arguments: dict[str, Any], *, nested: dict[str, Registry]) -> None:
    """Raise ValueError for arguments that a registered factory has not, or needs; TypeError for those of another type.

    `nested` has the registries of the arguments that are specs themselves.
    """
    import typeguard

    factory = registry.entry(name).factory
    hints = typing.get_type_hints(factory)
    free = {k: p for k, p in _parameters_of(factory).items() if k not in registry.context}
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


def _nested(factory: Callable[..., Any]) -> dict[str, Registry]:
    """Return the registries of those arguments of a factory that are specs themselves."""
    kinds = {each.kind: each for each in REGISTRIES.values()}
    hints = typing.get_type_hints(factory, include_extras=True).items()
    marks = [(argument, mark) for argument, hint in hints for mark in getattr(hint, "__metadata__", ())]
    return {argument: kinds[mark.kind] for argument, mark in marks if isinstance(mark, SpecOf)}


models = Registry("model", "jaxvision.models", context=("output_size", "input_size"))
datasets = Registry(
    "dataset", "jaxvision.datasets", context=("data_dir", "split_seed", "on_bad_image", "preprocessing")
)
tasks = Registry("task", "jaxvision.tasks", context=("num_classes", "targets", "thresholds"))
losses = Registry("loss", "jaxvision.losses", context=("num_classes", "targets", "activation"), plural="losses")
optimizers = Registry("optimizer", "jaxvision.optimizers", context=("learning_rate",))
schedules = Registry("schedule", "jaxvision.schedules", context=("learning_rate", "num_steps"))
augments = Registry("augment", "jaxvision.augments", context=("num_classes", "seed"))
gradients = Registry(
    "gradient", "jaxvision.gradients", context=("batch_size", "num_examples", "num_steps", "axis_name")
)

REGISTRIES = {r.plural: r for r in (models, datasets, tasks, losses, gradients, optimizers, schedules, augments)}


def num_registered() -> int:
    """Counts what is registered so far, of all kinds."""
    return sum(len(each._entries) for each in REGISTRIES.values())
