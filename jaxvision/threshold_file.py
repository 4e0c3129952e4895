"""The thresholds of a task that were fitted on validation, kept in the workdir for each checkpoint."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxvision import schemas, storage
from jaxvision.workdir import Signature

FILE = "thresholds.json"
REPAIR = "`jaxvision evaluate` writes it again"


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The thresholds of one checkpoint with one test-time augmentation."""

    step: int
    tta: Literal["none", "flip", "flip_shift"]
    thresholds: tuple[float, ...]


def save(workdir: Path, step: int, tta: str, thresholds: Sequence[float]) -> None:
    """Save the thresholds of a checkpoint with a test-time augmentation, beside those of others.

    A file that is damaged is replaced, with a warning: thresholds of other checkpoints are fitted again when needed.
    """
    entry = {"step": step, "tta": tta, "thresholds": [float(value) for value in thresholds]}
    try:
        others = [dataclasses.asdict(each) for each in _read(workdir) if (each.step, each.tta) != (step, tta)]
    except ValueError as error:
        warnings.warn(str(error).replace(REPAIR, "it is replaced"), stacklevel=2)
        others = []
    storage.write_json(workdir / FILE, {"fitted": [*others, entry]}, has_digest=True)


def load(workdir: Path, step: int, tta: str) -> tuple[float, ...] | None:
    """Return the thresholds of a checkpoint with a test-time augmentation, or None if none were fitted.

    Raises ValueError if the file is damaged.
    """
    return next((each.thresholds for each in _read(workdir) if (each.step, each.tta) == (step, tta)), None)


def load_or_warn(workdir: Path, step: int, tta: str, *, signature: Signature) -> tuple[float, ...] | None:
    """Return the thresholds as `load` does; warn and return None, as if none were fitted, if the file is damaged.

    A multilabel task has one for each label, others have one.
    """
    count = len(signature.classes) if signature.targets.kind == "multilabel" else 1
    try:
        thresholds = load(workdir, step, tta)
        if thresholds is not None and len(thresholds) != count:
            raise ValueError(f"{workdir / FILE} is damaged: {len(thresholds)} thresholds instead of {count}; {REPAIR}")
    except ValueError as error:
        warnings.warn(str(error), stacklevel=3)
        return None
    return thresholds


def _read(workdir: Path) -> tuple[Fitted, ...]:
    file = workdir / FILE
    return storage.read_json(file, _entries, repair=REPAIR) if file.exists() else ()


def _entries(content: dict[str, Any]) -> tuple[Fitted, ...]:
    if "fitted" not in content:  # until version 0.2, the file had one entry
        from jaxvision.upgrades import upgrade

        content = {"fitted": [upgrade(content)]}
    return schemas.parse(tuple[Fitted, ...], content["fitted"], "fitted")
