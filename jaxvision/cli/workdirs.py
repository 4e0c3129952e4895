"""Workdirs on the command line: several words, or one text separated by commas."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from jaxvision import storage
from jaxvision.cli.errors import UsageError

RUN_FILES = ("config.json", "signature.json")  # by which the folder of a run is known


def split_workdirs(texts: Iterable[str]) -> list[str]:
    """Return the workdirs in texts; a comma separates them unless the whole text is an existing folder."""
    listed = [[text] if storage.to_path(text).exists() else text.split(",") for text in texts]
    return [place for places in listed for place in places if place]


def refuse_workdirs(images: Iterable[str], workdirs: Sequence[str]) -> None:
    """Raise UsageError if a word that stands for images is the folder of a trained run, whose plots are images too."""
    found = [each for each in images if all((storage.to_path(each) / name).exists() for name in RUN_FILES)]
    if found:
        flags = shlex.join(f"--workdir={place}" for place in [*workdirs, *found])
        raise UsageError(f"{found[0]} is a workdir, not images: write {flags}")
