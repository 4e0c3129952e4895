"""Names for factories: registration by decorators, and building what a spec names."""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxvision.arguments import SpecOf, check_arguments, parameters_of
from jaxvision.plugins import load_entry_points
from jaxvision.specs import Spec, nearest, parse


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
        free = [p for p in parameters_of(self.entry(name).factory).values() if p.name not in self.context]
        shown = (p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in free)
        return f"{name}({', '.join(shown)})"

    def build(self, spec: str | Spec, **context: Any) -> Any:
        """Calls the factory that the spec names, with the spec's arguments and what of the context it asks for.

        Raises ValueError for an unknown name or argument, TypeError for a value of the wrong type.
        """
        name, arguments = parse(spec) if isinstance(spec, str) else spec
        factory = self.entry(name).factory
        parameters = parameters_of(factory)
        check_arguments(self, name, arguments, nested=_nested(factory))
        return factory(**arguments, **{k: v for k, v in context.items() if k in parameters})

    def check(self, spec: str | Spec) -> None:
        """Raises what `build` would for a spec's name and arguments, without building."""
        name, arguments = parse(spec) if isinstance(spec, str) else spec
        check_arguments(self, name, arguments, nested=_nested(self.entry(name).factory))

    def default(self, name: str, argument: str) -> Any:
        """Gives the default that an argument has in a factory's signature, or None."""
        parameter = parameters_of(self.entry(name).factory).get(argument)
        return None if parameter is None or parameter.default is parameter.empty else parameter.default

    def takes(self, spec: str | Spec, argument: str) -> bool:
        """Says whether the factory that a spec names has an argument, the context's among them."""
        name = parse(spec).name if isinstance(spec, str) else spec.name
        return argument in parameters_of(self.entry(name).factory)

    def modules(self) -> set[str]:
        """Names the modules whose factories are registered."""
        return {entry.factory.__module__ for entry in self._entries.values()}


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
