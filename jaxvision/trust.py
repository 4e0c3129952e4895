"""Plug-ins that a workdir names are code: they run if this user trained there with them, or allows them.

A file of the user, outside all workdirs, records with which plug-ins the user trained on this machine.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxvision import failures
from jaxvision.plugins import add_working_directory, is_loaded, load_plugins, plugin_place

Entry = dict[str, str]  # workdir, plugin, and sha256 of the plug-in's code

_trusts_all: contextvars.ContextVar[bool] = contextvars.ContextVar("trusts_all", default=False)


@contextlib.contextmanager
def trusting(is_on: bool) -> Iterator[None]:
    """Run the plug-ins of all workdirs within the context, as --trust_plugins does, if `is_on`."""
    token = _trusts_all.set(is_on or _trusts_all.get())
    try:
        yield
    finally:
        _trusts_all.reset(token)


def load_named_plugins(
    workdir: Path, named: Sequence[str], *, given: Sequence[str] = (), trust_plugins: bool = False
) -> list[str]:
    """Load the plug-ins that a workdir names, and return them.

    One with the file name of a plug-in that the user gave is left to that. A file that does not exist, or fails, is a
    warning. Raises ValueError, before any is run, for one that the user neither trained with there nor allows.
    """
    replaced = {Path(plugin).name for plugin in given}
    names = [plugin for plugin in named if Path(plugin).name not in replaced]
    code: dict[str, bytes] = {}
    if not (trust_plugins or _trusts_all.get()):
        for plugin in names:
            why = _refusal(workdir, plugin, code)
            if why:
                raise ValueError(failures.untrusted_plugin(workdir, plugin, why))
    load_plugins(names, required=False, code=code)
    return names


def _refusal(workdir: Path, plugin: str, code: dict[str, bytes]) -> str:
    """Return why a plug-in must not run, or "" if it may: its code has run in this process, or is recorded.

    The content of a file that may run is added to `code`, so that what runs is what was checked.
    """
    is_missing = plugin.endswith(".py") and not os.path.exists(plugin_place(plugin))
    if is_missing or is_loaded(plugin) or plugin in sys.modules:
        return ""
    key = (_full_path(workdir), plugin_place(plugin))
    recorded = {entry["sha256"] for entry in _entries() if (entry["workdir"], entry["plugin"]) == key}
    if not recorded:
        return "you did not train in this folder with it on this machine"
    files = _read(plugin)
    if _digest(files) not in recorded:
        return "it has changed since you trained with it"
    if plugin.endswith(".py"):
        code[plugin] = files[0]
    return ""


def record(workdir: Path, plugins: Sequence[str]) -> None:
    """Record that this user trains in a workdir with plug-ins; warn if that is impossible."""
    entries, known = [], _entries()
    for plugin in plugins:
        digest = _digest(_read(plugin))
        entry = {"workdir": _full_path(workdir), "plugin": plugin_place(plugin), "sha256": digest or ""}
        entries += [entry] if digest and entry not in known else []
    if not entries:
        return
    file = state_file()
    try:
        if file is None:
            raise OSError("there is no home folder; set XDG_STATE_HOME")
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as opened:
            opened.write("".join(json.dumps(entry) + "\n" for entry in entries))
    except OSError as error:
        warnings.warn(
            f"cannot record the plug-ins of this run ({error}): later commands need --plugins or --trust_plugins",
            stacklevel=2,
        )


def state_file() -> Path | None:
    """Return the file of the records, in $XDG_STATE_HOME or ~/.local/state; None if the user has no home."""
    try:
        return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "jaxvision" / "plugins.jsonl"
    except RuntimeError:
        return None


def _entries() -> list[Entry]:
    """Return what is recorded. Damaged lines, and a file that another user may have written, trust nothing."""
    file, entries = state_file(), []
    try:
        if file is None or file.stat().st_uid not in (os.getuid(), 0):
            return []
        lines = file.read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, dict) and all(isinstance(entry.get(n), str) for n in ("workdir", "plugin", "sha256")):
                entries.append({name: entry[name] for name in ("workdir", "plugin", "sha256")})
    return entries


def _full_path(workdir: Path) -> str:
    return str(workdir) if "://" in str(workdir) else os.path.realpath(workdir)


def _read(plugin: str) -> list[bytes]:
    """Return the content of the files that an import of a plug-in runs first, or nothing if they cannot be read."""
    try:
        files = [Path(plugin_place(plugin))] if plugin.endswith(".py") else _files_of_module(plugin)
        return [file.read_bytes() for file in files]
    except (OSError, ValueError, ImportError):
        return []


def _digest(files: list[bytes]) -> str | None:
    return hashlib.sha256(b"\0".join(files)).hexdigest() if files else None


def _files_of_module(name: str) -> list[Path]:
    """Return the files of a module and the packages around it, found without running any of them."""
    add_working_directory()
    top, *rest = name.split(".")
    specs = [importlib.util.find_spec(top)]
    for part in rest:
        outer = specs[-1]
        if outer is None or outer.submodule_search_locations is None:
            return []
        inner = importlib.machinery.PathFinder.find_spec(f"{outer.name}.{part}", [*outer.submodule_search_locations])
        specs.append(inner)
    origins = [spec.origin for spec in specs if spec is not None and spec.origin not in (None, "built-in", "frozen")]
    return [Path(str(origin)) for origin in origins] if None not in specs else []
