"""Names for factories: registration, spec strings such as `cnn(channels=(64, 128))`, and the loading of plug-ins."""

from __future__ import annotations

import ast
import difflib
import fnmatch
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
import typing
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ENTRY_POINTS = "jaxvision.plugins"


class Spec(NamedTuple):
    """A name and the keyword arguments given with it."""

    name: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        inner = ", ".join(f"{k}={v!r}" for k, v in self.arguments.items())
        return f"{self.name}({inner})" if inner else self.name


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


def _unreadable(text: str, why: str) -> ValueError:
    return ValueError(
        f"cannot read {text!r}: {why}; write name or name(argument=value, …) with numbers, 'strings', "
        "True, False, None, tuples or another name(…) as values"
    )


def _value(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Name() | ast.Call():  # a spec inside a spec stays a string for its own registry to read
            _spec(node, text)
            return ast.unparse(node)
        case ast.Tuple() | ast.List():
            return tuple(_value(item, text) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise _unreadable(text, f"{ast.unparse(node)!r} is not a plain value, and no code is run") from None


def _spec(node: ast.expr, text: str) -> Spec:
    match node:
        case ast.Name(id=name):
            return Spec(name, {})
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords) if all(k.arg for k in keywords):
            arguments = {str(k.arg): _value(k.value, text) for k in keywords}
            if len(arguments) < len(keywords):
                raise _unreadable(text, "an argument is given twice")
            return Spec(name, arguments)
        case ast.Call(func=ast.Name(), args=[_, *_]):
            raise _unreadable(text, "arguments are given by name")
    raise _unreadable(text, f"{ast.unparse(node)!r} is not a name, and no code is run")


def parse_list(text: str) -> list[Spec]:
    """Reads a comma-separated list of specs; the empty string is the empty list.

    >>> [str(spec) for spec in parse_list("flip, crop(padding=4)")]
    ['flip', 'crop(padding=4)']
    """
    if not text.strip():
        return []
    try:
        tree = ast.parse(f"({text.strip().rstrip(',')},)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _unreadable(text, getattr(error, "msg", str(error))) from None
    if not isinstance(tree, ast.Tuple):
        raise _unreadable(text, "brackets do not match")
    return [_spec(node, text) for node in tree.elts]


def parse(text: str) -> Spec:
    """Reads one spec. Values are literals or specs: nothing is evaluated.

    >>> parse("cnn(channels=(64, 128), dropout=0.2)")
    Spec(name='cnn', arguments={'channels': (64, 128), 'dropout': 0.2})
    """
    specs = parse_list(text)
    if len(specs) != 1:
        raise _unreadable(text, "one name is wanted" if specs else "it is empty")
    return specs[0]


def nearest(word: str, words: typing.Iterable[str]) -> str:
    """Says which of the words the given one may have meant: " (did you mean …?)", or nothing."""
    lowered = {each.lower(): each for each in words}
    close = [lowered[each] for each in difflib.get_close_matches(word.lower(), lowered, n=3, cutoff=0.5)]
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


class Registry:
    """The factories of one kind, by name. The built-in ones are in `home`, imported at the first look-up.

    `context` names the arguments that the run gives to those factories that have them; a spec may not set them.
    """

    def __init__(self, kind: str, home: str, *, context: tuple[str, ...] = ()):
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
                f"(`jaxvision list {self.kind}s` shows all {len(known)})"
            )
        return self._entries[name]

    def signature(self, name: str) -> str:
        """Writes the call that a user may make: the name with its arguments and their defaults."""
        free = [p for p in _parameters(self.entry(name).factory).values() if p.name not in self.context]
        shown = (p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in free)
        return f"{name}({', '.join(shown)})"

    def build(self, spec: str | Spec, **context: Any) -> Any:
        """Calls the factory that the spec names, with the spec's arguments and what of the context it asks for.

        Raises ValueError for an unknown name or argument, TypeError for a value of the wrong type.
        """
        name, arguments = parse(spec) if isinstance(spec, str) else spec
        factory = self.entry(name).factory
        parameters = _parameters(factory)
        _check(self, name, arguments, parameters)
        return factory(**arguments, **{k: v for k, v in context.items() if k in parameters})

    def check(self, spec: str | Spec) -> None:
        """Raises what `build` would for a spec's name and arguments, without building."""
        name, arguments = parse(spec) if isinstance(spec, str) else spec
        _check(self, name, arguments, _parameters(self.entry(name).factory))

    def default(self, name: str, argument: str) -> Any:
        """Gives the default that an argument has in a factory's signature, or None."""
        parameter = _parameters(self.entry(name).factory).get(argument)
        return None if parameter is None or parameter.default is parameter.empty else parameter.default

    def takes(self, spec: str | Spec, argument: str) -> bool:
        """Says whether the factory that a spec names has an argument, the context's among them."""
        name = parse(spec).name if isinstance(spec, str) else spec.name
        return argument in _parameters(self.entry(name).factory)

    def modules(self) -> set[str]:
        """Names the modules whose factories are registered."""
        return {entry.factory.__module__ for entry in self._entries.values()}


def literals(hint: Any) -> list[str]:
    """Lists the words that a type spells out, at any depth.

    >>> literals(float | typing.Literal["f1"] | tuple[typing.Literal["recall"], float])
    ['f1', 'recall']
    """
    if isinstance(hint, str):
        return [hint]
    return [word for part in typing.get_args(hint) for word in literals(part)]


def _parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(factory).parameters)


def _check(registry: Registry, name: str, arguments: dict[str, Any], parameters: dict[str, inspect.Parameter]) -> None:
    import typeguard

    hints = typing.get_type_hints(registry.entry(name).factory)
    free = {k: p for k, p in parameters.items() if k not in registry.context}
    wanted = f"it takes {registry.signature(name)}"
    for argument, value in arguments.items():
        if argument in registry.context:
            raise ValueError(f"{registry.kind} {name!r}: {argument!r} is set by the run, not by a spec; {wanted}")
        if argument not in free:
            raise ValueError(
                f"{registry.kind} {name!r} has no argument {argument!r}{nearest(argument, free)}; {wanted}"
            )
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
    for argument, parameter in free.items():
        if parameter.default is parameter.empty and argument not in arguments:
            raise ValueError(f"{registry.kind} {name!r} needs {argument}=…, as in {name}({argument}=…)")


models = Registry("model", "jaxvision.models", context=("output_size", "input_size", "axis_name", "remat"))
datasets = Registry(
    "dataset", "jaxvision.datasets", context=("data_dir", "split_seed", "on_bad_image", "preprocessing")
)
tasks = Registry("task", "jaxvision.tasks", context=("num_classes", "targets", "thresholds"))
optimizers = Registry("optimizer", "jaxvision.optimizers", context=("learning_rate",))
schedules = Registry("schedule", "jaxvision.schedules", context=("learning_rate", "num_steps"))
augments = Registry("augment", "jaxvision.augments", context=("num_classes", "seed"))

REGISTRIES = {f"{r.kind}s": r for r in (models, datasets, tasks, optimizers, schedules, augments)}

_loaded_plugins: set[str] = set()


def num_registered() -> int:
    """Counts what is registered so far, of all kinds."""
    return sum(len(each._entries) for each in REGISTRIES.values())


def _warn(name: str, error: BaseException) -> None:
    warnings.warn(f"the plug-in {name} is left out: {type(error).__name__}: {error}", stacklevel=3)


def load_entry_points() -> None:
    """Imports every installed package's entry points of the group `jaxvision.plugins`; a broken one warns."""
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.value not in _loaded_plugins:
            _loaded_plugins.add(point.value)
            try:
                point.load()
            except (
                Exception,
                SystemExit,
            ) as error:  # whatever it is, nothing else goes down with it
                _warn(f"{point.name} ({point.value})", error)


def load_plugins(plugins: typing.Iterable[str]) -> None:
    """Imports modules by dotted name or by path of a .py file, so that they register; a broken one warns."""
    for plugin in plugins:
        place = plugin_place(plugin)
        if place not in _loaded_plugins:
            _loaded_plugins.add(place)
            try:
                import_plugin(plugin)
            except (Exception, SystemExit) as error:
                _warn(plugin, error)


def plugin_place(plugin: str) -> str:
    """Names a plug-in so that it is found again from another folder: a file by its whole path."""
    return str(Path(plugin).expanduser().resolve()) if plugin.endswith(".py") else plugin


def import_plugin(plugin: str) -> ModuleType:
    """Imports a module by dotted name (the working directory included) or by path of a .py file."""
    if not plugin.endswith(".py"):
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        return importlib.import_module(plugin)
    path = Path(plugin_place(plugin))
    if not path.is_file():
        raise FileNotFoundError(f"no file {plugin!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    shadowed = sys.modules.get(path.stem)
    sys.modules.setdefault(path.stem, module)  # so that dataclasses and pickles of the file find their module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if shadowed is None:
            sys.modules.pop(path.stem, None)
        raise
    return module
