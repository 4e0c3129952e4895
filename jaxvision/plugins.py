"""Plugins: users' modules and files, and entry points of installed packages, that register further factories."""

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


def _left_out(name: str, error: BaseException) -> str:
    return f"the plugin {name} could not be imported: {type(error).__name__}: {error}"


def load_entry_points() -> None:
    """Import the entry points of all installed packages in the group `jaxvision.plugins`; warn about broken ones."""
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.value not in _loaded_plugins:
            _loaded_plugins.add(point.value)
            try:
                point.load()
            except (Exception, SystemExit) as error:
                warnings.warn(_left_out(f"{point.name} ({point.value})", error), stacklevel=2)


def load_plugins(plugins: Iterable[str], *, required: bool = True) -> None:
    """Import modules by dotted name or by the path of a .py file, so that they register their factories.

    Raises ValueError if one cannot be imported; if not `required`, a warning is issued instead.
    """
    for plugin in plugins:
        full_name = plugin_place(plugin)
        if full_name not in _loaded_plugins:
            try:
                import_plugin(plugin)
            except (Exception, SystemExit) as error:
                if required:
                    raise ValueError(_left_out(plugin, error)) from error
                warnings.warn(_left_out(plugin, error), stacklevel=2)
            _loaded_plugins.add(full_name)


def is_loaded(plugin: str) -> bool:
    """Return whether a plug-in has been loaded in this process."""
    return plugin_place(plugin) in _loaded_plugins


def add_working_directory() -> None:
    """Let imports find modules in the working directory, after all others."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def plugin_place(plugin: str) -> str:
    """Return a name that works from any folder: the absolute path of a file, the dotted name of a module."""
    return str(Path(plugin).expanduser().resolve()) if plugin.endswith(".py") else plugin


def import_plugin(plugin: str) -> ModuleType:
    """Import a module by dotted name (also from the working directory) or by the path of a .py file."""
    if not plugin.endswith(".py"):
        add_working_directory()
        return importlib.import_module(plugin)
    path = Path(plugin_place(plugin))
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {plugin!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    shadowed = sys.modules.get(path.stem)
    sys.modules.setdefault(path.stem, module)  # so that dataclasses and pickle find the module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if shadowed is None:
            sys.modules.pop(path.stem, None)
        raise
    return module
