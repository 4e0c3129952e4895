"""Plugins: users' modules and files, and entry points of installed packages, that register further factories."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType, ModuleType

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


def load_plugins(plugins: Iterable[str], *, required: bool = True, code: Mapping[str, bytes] | None = None) -> None:
    """Import modules by dotted name or by the path of a .py file, so that they register their factories.

    `code` has the content of the files that have been read already, by plug-in. Raises ValueError if one cannot be
    imported; if not `required`, a warning is issued instead.
    """
    for plugin in plugins:
        full_name = plugin_place(plugin)
        if full_name not in _loaded_plugins:
            try:
                import_plugin(plugin, (code or {}).get(plugin))
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
    return os.path.realpath(os.path.expanduser(plugin)) if plugin.endswith(".py") and "\0" not in plugin else plugin


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Runs the source of a module as it is, given or in its file: never a compiled copy, which others may write."""

    def __init__(self, name: str, path: str, code: bytes | None):
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path) if self._code is None else self._code
        return self.source_to_code(source, self.path)


def import_plugin(plugin: str, code: bytes | None = None) -> ModuleType:
    """Import a module by dotted name (also from the working directory) or by the path of a .py file.

    `code` is the content of the file, if it has been read already.
    """
    if not plugin.endswith(".py"):
        add_working_directory()
        return importlib.import_module(plugin)
    path = Path(plugin_place(plugin))
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {plugin!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path, loader=_SourceLoader(path.stem, str(path), code))
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
