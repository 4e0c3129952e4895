"""The temperature that was fitted on validation, kept in the workdir for each checkpoint."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any, Literal

from jaxvision import schemas, storage
from jaxvision.calibration import LARGEST_TEMPERATURE, LEAST_TEMPERATURE

FILE = "temperature.json"
REPAIR = "`jaxvision evaluate --calibrate` writes it again"


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The temperature of one checkpoint with one test-time augmentation, and how many examples it was fitted to.

    It is None if none would help on other examples.
    """

    step: int
    tta: Literal["none", "flip", "flip_shift"]
    temperature: float | None
    num_examples: int


def exists(workdir: Path) -> bool:
    """Return whether a temperature was fitted for any checkpoint of a run."""
    return (workdir / FILE).exists()


def lacks(workdir: Path, step: int, tta: str) -> bool:
    """Return whether temperatures were fitted, but not for this checkpoint and test-time augmentation."""
    try:
        return exists(workdir) and load(workdir, step, tta) is None
    except ValueError:
        return False


def save(workdir: Path, fitted: Fitted) -> None:
    """Save the temperature of a checkpoint with a test-time augmentation, beside those of others.

    A file that is damaged is replaced, with a warning: temperatures of other checkpoints are fitted again when needed.
    """
    try:
        others = [each for each in _read(workdir) if (each.step, each.tta) != (fitted.step, fitted.tta)]
    except ValueError as error:
        warnings.warn(str(error).replace(REPAIR, "it is replaced"), stacklevel=2)
        others = []
    entries = [dataclasses.asdict(each) for each in (*others, fitted)]
    storage.write_json(workdir / FILE, {"fitted": entries}, has_digest=True)


def load(workdir: Path, step: int, tta: str) -> Fitted | None:
    """Return the temperature of a checkpoint with a test-time augmentation, or None if none was fitted.

    Raises ValueError if the file is damaged.
    """
    return next((each for each in _read(workdir) if (each.step, each.tta) == (step, tta)), None)


def load_or_warn(workdir: Path, step: int, tta: str) -> float | None:
    """Return the temperature that `load` finds; warn and return None, as if none was fitted, if the file is damaged."""
    try:
        fitted = load(workdir, step, tta)
    except ValueError as error:
        warnings.warn(str(error), stacklevel=3)
        return None
    return fitted and fitted.temperature


def _read(workdir: Path) -> tuple[Fitted, ...]:
    file = workdir / FILE
    return storage.read_json(file, _entries, repair=REPAIR) if file.exists() else ()


def _entries(content: dict[str, Any]) -> tuple[Fitted, ...]:
    entries = schemas.parse(tuple[Fitted, ...], content["fitted"], "fitted")
    for each in entries:
        if each.temperature is not None and not LEAST_TEMPERATURE <= each.temperature <= LARGEST_TEMPERATURE:
            raise ValueError(
                f"the temperature {each.temperature} is not from {LEAST_TEMPERATURE} to {LARGEST_TEMPERATURE}"
            )
    return entries
