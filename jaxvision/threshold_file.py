"""The thresholds of a task that were fitted on validation, kept in the workdir for each checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxvision import storage

FILE = "thresholds.json"
REPAIR = "`jaxvision evaluate` writes it again"


def save(workdir: Path, step: int, tta: str, thresholds: Sequence[float]) -> None:
    """Save the thresholds of a checkpoint with a test-time augmentation, beside those of others."""
    entry = {"step": step, "tta": tta, "thresholds": list(thresholds)}
    others = [each for each in _read(workdir) if (each["step"], each["tta"]) != (step, tta)]
    storage.write_json(workdir / FILE, {"fitted": [*others, entry]})


def load(workdir: Path, step: int, tta: str) -> tuple[float, ...] | None:
    """Return the thresholds of a checkpoint with a test-time augmentation, or None if none were fitted.

    Raises ValueError if the file is damaged.
    """
    found = [each["thresholds"] for each in _read(workdir) if (each["step"], each["tta"]) == (step, tta)]
    return tuple(map(float, found[0])) if found else None


def _read(workdir: Path) -> list[dict[str, Any]]:
    file = workdir / FILE
    return storage.read_json(file, _entries, repair=REPAIR) if file.exists() else []


def _entries(content: dict[str, Any]) -> list[dict[str, Any]]:
    if "fitted" not in content:  # until version 0.2, the file had one entry
        from jaxvision.upgrades import upgrade

        content = {"fitted": [upgrade(content)]}
    return [{name: each[name] for name in ("step", "tta", "thresholds")} for each in content["fitted"]]
