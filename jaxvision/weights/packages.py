"""Read weights from installed Python packages: the files that registered models name, with their digests.

A package is found by its metadata and never imported, so that none of its code runs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from pathlib import Path

from jaxvision import registry
from jaxvision.specs import nearest, parse
from jaxvision.weights import files
from jaxvision.weights_package import WeightsPackage

PACKAGE = "package:"


def registered() -> dict[str, WeightsPackage]:
    """Return the packages that the registered models name, each by the name of one model.

    It is the model of the architecture that was trained, if the package states one, or else the first that names it.
    """
    packages: dict[WeightsPackage, str] = {}
    for name in registry.models.names():
        metadata = registry.models.entry(name).metadata
        weights = metadata.get("weights")
        if isinstance(weights, WeightsPackage) and (
            weights not in packages or metadata.get("timm") == weights.architecture
        ):
            packages[weights] = name
    return {name: package for package, name in packages.items()}


def at_hand() -> list[str]:
    """Return the registered models whose weights are installed, the one with the most parameters first."""
    names = [name for name, package in registered().items() if _is_installed(package)]
    return sorted(names, key=lambda name: registry.models.entry(name).metadata.get("num_parameters", 0), reverse=True)


def _is_installed(package: WeightsPackage) -> bool:
    try:
        return Path(str(importlib.metadata.distribution(package.name).locate_file(package.file))).is_file()
    except importlib.metadata.PackageNotFoundError:
        return False


def find(source: str) -> WeightsPackage | None:
    """Return the package that package:NAME names, if a registered model has its weights; it may not be installed."""
    return _known().get(_normalized(source.removeprefix(PACKAGE)))


def _known() -> dict[str, WeightsPackage]:
    return {_normalized(package.name): package for package in registered().values()}


def read(source: str) -> files.Weights:
    """Read package:NAME.

    Raises ValueError if no registered model names that package, if it is not installed, or if its file is another one.
    """
    name, package = source.removeprefix(PACKAGE), find(source)
    if package is None:
        known = _known()
        raise ValueError(
            f"no registered model names the package {name!r}{nearest(name, known)}; the packages are "
            f"{', '.join(sorted(known))}. For another file, use its path"
        )
    try:
        distribution = importlib.metadata.distribution(package.name)
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(f"{package} is not installed: {_command(package)}") from None
    path, origin = Path(str(distribution.locate_file(package.file))), f"{package} {distribution.version}"
    if not path.is_file():
        raise ValueError(f"{origin} has no file {package.file!r}: {_command(package)} --force-reinstall")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        raise ValueError(
            f"{str(path)!r} of {origin} has the SHA-256 {digest[:16]}…, and the registered weights have "
            f"{package.sha256[:16]}…: {_command(package)} --force-reinstall"
        )
    stated = {"preprocessing": package.preprocessing, "classes": package.classes, "architecture": package.architecture}
    return files.read(str(path))._replace(origin=origin, **stated)


def instead_of_hub(model: str) -> str:
    """Return what to use if the hub cannot be reached: the package of a model, or a model that has one."""
    weights = registry.models.entry(parse(model).name).metadata.get("weights")
    if isinstance(weights, WeightsPackage):
        return f"; or use --init_from={weights}, which needs no hub ({_command(weights)})"
    for name, package in registered().items():
        return f"; or use --model={name} --init_from=pretrained, which needs no hub ({_command(package)})"
    return ""


def _normalized(name: str) -> str:
    """Return the name of a package as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _command(package: WeightsPackage) -> str:
    return f"pip install {package.name}"
