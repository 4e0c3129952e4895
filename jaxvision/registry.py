"""Registries: factories registered by decorators, and built from specs."""

from __future__ import annotations

import fnmatch
import importlib
import importlib.metadata
import inspect
import pkgutil
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxvision.explanation import Explanation
from jaxvision.interfaces import Dataset, Gradient, Model, Task
from jaxvision.plugins import ENTRY_POINTS, load_entry_points
from jaxvision.specs import Spec, parse


class Entry(NamedTuple):
    """A registered factory and the metadata that lists show without building anything."""

    factory: Callable[..., Any]
    metadata: dict[str, Any]

    @property
    def source(self) -> str:
        factory = inspect.unwrap(self.factory)
        code = getattr(factory, "__code__", None) or factory.__init__.__code__  # of a function, or of a class
        return f"{code.co_filename}:{code.co_firstlineno}"

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]


class SpecOf(NamedTuple):
    """Mark an argument as a spec of another kind, which is checked: `loss: Annotated[str, SpecOf("loss")]`."""

    kind: str


REGISTRIES: dict[str, Registry] = {}  # by the plural of the kind, in the order of their definition


class Registry:
    """The factories of one kind, by name. The built-in ones are in `home`, imported at the first lookup.

    `context` names the arguments that the run passes to factories that declare them; a spec cannot set them. `contract`
    is what factories return: a type, the attributes of one, or () for a function.
    """

    def __init__(
        self,
        kind: str,
        home: str,
        *,
        context: tuple[str, ...] = (),
        contract: type | tuple[str, ...] | None = None,
        plural: str | None = None,
    ):
        self.plural = plural or f"{kind}s"
        self.kind = kind
        self.home = home
        self.context = context
        self.contract = contract
        self._entries: dict[str, Entry] = {}
        self._is_loaded = False
        REGISTRIES[self.plural] = self

    def register(self, name: str, **metadata: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the decorated factory; `metadata` (num_parameters, input_size) are shown in lists."""
        if not name.isidentifier():
            raise ValueError(f"invalid {self.kind} name {name!r}: use only letters, digits and _")

        def decorate(factory: Callable[..., Any]) -> Callable[..., Any]:
            entry = Entry(factory, metadata)
            if not factory.__module__.startswith(self.home):
                self._load_home()  # first, so that a conflict is reported for the plugin
            taken = self._entries.get(name)
            again = (
                taken and taken.factory.__module__ == factory.__module__ == "__main__"
            )  # a notebook cell that is run again
            if taken and not again and taken.source != entry.source:
                raise ValueError(
                    f"the {self.kind} {name!r} of {entry.source} is already registered by {taken.source}; rename one"
                )
            self._entries[name] = entry
            return factory

        return decorate

    @property
    def field(self) -> str:
        """The name of the field of Config or Execution that holds specs of this kind."""
        return self.plural if self.kind in ("augmentation", "logger") else self.kind

    def _load_home(self) -> None:
        home = importlib.import_module(self.home)
        for module in pkgutil.iter_modules(getattr(home, "__path__", [])):
            importlib.import_module(f"{self.home}.{module.name}")

    def _load(self) -> None:
        if not self._is_loaded:
            self._is_loaded = True
            self._load_home()
            if importlib.metadata.entry_points(group=ENTRY_POINTS):
                load_entry_points()

    def names(self, pattern: str = "*") -> list[str]:
        """Return the registered names that match a pattern with wildcards, sorted."""
        self._load()
        return sorted(fnmatch.filter(self._entries, pattern))

    def entry(self, name: str) -> Entry:
        """Return the entry of a name. Raises ValueError with the nearest names if it is unknown."""
        self._load()
        if name not in self._entries:
            from jaxvision import hints

            hint = hints.for_factory(self, name)
            raise ValueError(f"unknown {self.kind} {name!r}{hint} (`jaxvision list {self.plural}` shows all)")
        return self._entries[name]

    def signature(self, name: str) -> str:
        """Return the call that a user can write: the name with its arguments and their defaults."""
        free = [p for p in _parameters_of(self.entry(name).factory).values() if p.name not in self.context]
        shown = (p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in free)
        return f"{name}({', '.join(shown)})"

    def build(self, spec: str | Spec, **context: Any) -> Any:
        """Call the factory of a spec with the spec's arguments and the context that it declares.

        Raises ValueError for an unknown name or argument, TypeError for a value of the wrong type.
        """
        name, arguments = parse(spec) if isinstance(spec, str) else spec
        factory = self.entry(name).factory
        parameters = _parameters_of(factory)
        _check_arguments(self, name, arguments, nested=_nested(factory))
        value = factory(**arguments, **{k: v for k, v in context.items() if k in parameters})
        self._check_contract(name, value)
        return value

    def _check_contract(self, name: str, value: Any) -> None:
        """Raise TypeError if a factory returned another type than its kind requires."""
        if self.contract is None:
            return
        if isinstance(self.contract, type):
            is_kept, expected = isinstance(value, self.contract), f"a jaxvision.{self.contract.__name__}"
        elif self.contract:
            is_kept = all(callable(getattr(value, attribute, None)) for attribute in self.contract)
            expected = f"an object with {' and '.join(self.contract)}"
        else:
            is_kept, expected = callable(value), "a function"
        if not is_kept:
            from jaxvision import hints

            raise TypeError(hints.wrong_type(self, name, value, expected))

    def check(self, spec: str | Spec) -> None:
        """Raise what `build` would raise for the name and arguments of a spec, without building."""
        name, arguments = parse(spec) if isinstance(spec, str) else spec
        _check_arguments(self, name, arguments, nested=_nested(self.entry(name).factory))

    def default(self, name: str, argument: str) -> Any:
        """Return the default of an argument in a factory's signature, or None."""
        parameter = _parameters_of(self.entry(name).factory).get(argument)
        return None if parameter is None or parameter.default is parameter.empty else parameter.default

    def takes(self, spec: str | Spec, argument: str) -> bool:
        """Return whether the factory of a spec has an argument, including those of the context."""
        name = parse(spec).name if isinstance(spec, str) else spec.name
        return argument in _parameters_of(self.entry(name).factory)

    def modules(self) -> set[str]:
        """Return the modules whose factories are registered."""
        return {entry.factory.__module__ for entry in self._entries.values()}


def _parameters_of(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(factory).parameters)


def _check_arguments(registry: Registry, name: str, arguments: dict[str, Any], *, nested: dict[str, Registry]) -> None:
    """Raise ValueError for unknown or missing arguments of a registered factory, TypeError for wrong types.

    `nested` has the registries of the arguments that are specs themselves.
    """
    import typeguard

    factory = registry.entry(name).factory
    types = typing.get_type_hints(factory)
    free = {k: p for k, p in _parameters_of(factory).items() if k not in registry.context}
    expected = f"expected {registry.signature(name)}"
    for argument, value in arguments.items():
        if argument in registry.context:
            raise ValueError(f"{registry.kind} {name!r}: {argument!r} is set by the run, not by a spec; {expected}")
        if argument not in free:
            from jaxvision import hints

            hint = hints.for_argument(registry, Spec(name, arguments), argument, known=free, nested=nested)
            raise ValueError(f"{registry.kind} {name!r} has no argument {argument!r}{hint}; {expected}")
        try:
            strategy = typeguard.CollectionCheckStrategy.ALL_ITEMS
            typeguard.check_type(value, types.get(argument, Any), collection_check_strategy=strategy)
        except typeguard.TypeCheckError:
            from jaxvision import hints

            what = f"{registry.kind} {name!r}: {argument}={value!r}"
            raise TypeError(f"{what} is not {hints.for_type(value, types[argument])}; {expected}") from None
        if argument in nested and isinstance(value, str):
            nested[argument].check(value)
    for argument, parameter in free.items():
        if parameter.default is parameter.empty and argument not in arguments:
            raise ValueError(f"{registry.kind} {name!r} needs {argument}=…, as in {name}({argument}=…)")


def _nested(factory: Callable[..., Any]) -> dict[str, Registry]:
    """Return the registries of the arguments of a factory that are specs themselves."""
    kinds = {registry.kind: registry for registry in REGISTRIES.values()}
    hints = typing.get_type_hints(factory, include_extras=True).items()
    marks = [(argument, mark) for argument, hint in hints for mark in getattr(hint, "__metadata__", ())]
    return {argument: kinds[mark.kind] for argument, mark in marks if isinstance(mark, SpecOf)}


models = Registry("model", "jaxvision.models", context=("output_size", "input_size"), contract=Model)
datasets = Registry(
    "dataset",
    "jaxvision.datasets",
    context=("data_dir", "split_seed", "on_bad_image", "preprocessing", "resize", "run_classes", "max_image_pixels"),
    contract=Dataset,
)
tasks = Registry("task", "jaxvision.tasks", context=("num_classes", "targets", "thresholds"), contract=Task)
losses = Registry(
    "loss", "jaxvision.losses", context=("num_classes", "targets", "activation"), contract=(), plural="losses"
)
gradients = Registry(
    "gradient",
    "jaxvision.gradients",
    context=("batch_size", "num_examples", "num_steps", "axis_name"),
    contract=Gradient,
)
optimizers = Registry("optimizer", "jaxvision.optimizers", context=("learning_rate",), contract=("init", "update"))
schedules = Registry("schedule", "jaxvision.schedules", context=("learning_rate", "num_steps"), contract=())
augmentations = Registry("augmentation", "jaxvision.augmentations", context=("num_classes", "seed"), contract=())
explanations = Registry("explanation", "jaxvision.explanations", contract=Explanation)
loggers = Registry("logger", "jaxvision.loggers", context=("folder", "start"), contract=("report", "close"))


def num_registered() -> int:
    """Return the number of factories registered so far, of all kinds."""
    return sum(len(each._entries) for each in REGISTRIES.values())
