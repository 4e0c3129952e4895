"""Workdirs on the command line: several words, or one text separated by commas."""

from __future__ import annotations

from collections.abc import Iterable

from jaxvision import storage


def split_workdirs(texts: Iterable[str]) -> list[str]:
    """Return the workdirs in texts; a comma separates them unless the whole text is an existing folder."""
    listed = [[text] if storage.to_path(text).exists() else text.split(",") for text in texts]
    return [place for places in listed for place in places if place]
