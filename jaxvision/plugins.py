"""Plug-ins: modules and files of users, and entry points of installed packages, that register more."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

ENTRY_POINTS = "jaxvision.plugins"

_loaded_plugins: set[str] = set()


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


def load_plugins(plugins: Iterable[str]) -> None:
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
