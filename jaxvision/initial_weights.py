"""The weights that a run started from, and their license, as far as it is known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from jaxvision import registry, specs
from jaxvision import workdir as workdirs
from jaxvision.config import Config, Execution
from jaxvision.pretrained import PRETRAINED
from jaxvision.weights import files, packages

MOST_RUNS = 10  # that one run may have started from, each from the next


class Origin(NamedTuple):
    """Initial weights: their source without folders, what it is, and their license, if it is known."""

    source: str
    what: str
    license: str | None = None


def origins(config: Config) -> tuple[Origin, ...]:
    """Return the initial weights of a run; if they are those of another run in a folder, also its own, and so on."""
    found: list[Origin] = []
    while config.init_from is not None and len(found) < MOST_RUNS:
        source = _registered(config) if config.init_from == PRETRAINED else config.init_from
        before = _settings_of_run(source)
        found.append(Origin(last_part(source), "a run of this package") if before else _origin(source))
        if before is None:
            break
        config = before[0]
    return tuple(found)


def _registered(config: Config) -> str:
    """Return the registered source of a model's pretrained weights."""
    name = specs.parse(config.model).name
    is_known = name in registry.models.names()
    weights = registry.models.entry(name).metadata.get("weights") if is_known else None
    if weights is None:
        return PRETRAINED
    return files.HUB + weights if isinstance(weights, str) else str(weights)


def _settings_of_run(source: str) -> tuple[Config, Execution] | None:
    """Return the config and execution of a run in a folder; None if there is none that can be read."""
    path = Path(source).expanduser()
    try:
        return workdirs.settings_in(path) if (path / "signature.json").is_file() else None
    except (ValueError, OSError):
        return None


def _origin(source: str) -> Origin:
    if source.startswith(packages.PACKAGE):
        package = packages.find(source)
        what = "a Python package"
        if package is None:
            return Origin(source, what)
        return Origin(str(package), f"{what}, SHA-256 of the file {package.sha256}", package.license)
    if source.startswith(files.HUB):
        return Origin(source, "on the Hugging Face Hub, where its license is stated")
    if source == PRETRAINED:
        return Origin(source, "weights that are no longer registered")
    return Origin(last_part(source), "a file or folder")


def without_folders(spec: str) -> str:
    """Return specs without the folders of the paths and addresses in them.

    >>> without_folders("folder(path='/home/me/photos', image_size=64)")
    "folder(path='photos', image_size=64)"
    >>> without_folders("multilabel(loss='focal(gamma=2)')")
    "multilabel(loss='focal(gamma=2)')"
    """
    return _without_folders(spec)


def _without_folders(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(map(_without_folders, value))
    if isinstance(value, dict):
        return {name: _without_folders(each) for name, each in value.items()}
    if not isinstance(value, str):
        return value
    try:
        parsed = specs.parse_list(value)
    except ValueError:
        return last_part(value)
    if not any(spec.arguments for spec in parsed):
        return value
    return ", ".join(str(specs.Spec(name, _without_folders(arguments))) for name, arguments in parsed)


def last_part(path: str) -> str:
    """Return the last component of a path or address, without the query of an address."""
    path = path.partition("?")[0] if "://" in path else path
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
