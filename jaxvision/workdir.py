"""The folder of a run: its name, whose it is, who trains in it, and what later verbs know without opening the data."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxvision import specs, storage
from jaxvision.config import FIELDS, Config, Execution
from jaxvision.distributed import multihost
from jaxvision.interfaces import Preprocessing, Targets


@dataclass(frozen=True)
class Signature:
    """What later verbs know of a run without opening its data; `data` tells the data of one run from others.

    `data_dir` and `plugins` say where things were, and serve where nothing else is said.
    """

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    targets: Targets
    data: str
    data_dir: str | None
    plugins: tuple[str, ...]
    versions: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the signature as JSON."""
        storage.write_json(path, dataclasses.asdict(self))

    @staticmethod
    def load(path: Path) -> Signature:
        """Read what `save` wrote. Raise ValueError where it is damaged."""
        return storage.read_json(path, _signature)


def _signature(values: dict[str, Any]) -> Signature:
    nested = {"preprocessing": Preprocessing, "targets": Targets}
    made = {name: kind(**_plain(values[name])) for name, kind in nested.items()}
    return Signature(**{**values, "classes": tuple(values["classes"]), "plugins": tuple(values["plugins"]), **made})


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return values as they were before JSON made lists of tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def save_thresholds(path: Path, step: int, views: str, thresholds: Sequence[float]) -> None:
    """Write the thresholds that were chosen for a checkpoint, by its outputs averaged over those views."""
    storage.write_json(path / "thresholds.json", {"step": step, "views": views, "thresholds": list(thresholds)})


def thresholds_of(path: Path, step: int, views: str) -> tuple[float, ...] | None:
    """Return the thresholds that were chosen for a checkpoint and views; None where none were. Raise for damage."""
    file = path / "thresholds.json"
    if not file.exists():
        return None

    def of_checkpoint(values: dict[str, Any]) -> tuple[float, ...] | None:
        is_same = values["step"] == step and values["views"] == views
        return tuple(map(float, values["thresholds"])) if is_same else None

    return storage.read_json(file, of_checkpoint, repair="`jaxvision evaluate` makes it")


def fresh(config: Config, *, prefix: str = "") -> Path:
    """Return a folder that is not there yet: workdirs/, a prefix, the names of dataset and model, and the time."""
    names = "-".join(specs.parse(spec).name for spec in (config.dataset, config.model))
    base = Path("workdirs") / f"{prefix}{names}-{time.strftime('%Y%m%d-%H%M%S')}"
    return next(path for n in range(1000) if not (path := base.with_name(base.name + (f"-{n}" if n else ""))).exists())


def require(workdir: str | Path) -> Path:
    """Return the path of a workdir. Raise FileNotFoundError where training left none there."""
    path = storage.to_path(workdir)
    for name in ("config.json", "signature.json", "checkpoints"):
        if not (path / name).exists():
            what = "no folder" if not path.is_dir() else f"no {name} in"
            raise FileNotFoundError(f"{what} {os.fspath(workdir)!r}: it is not the workdir of a training run")
    return path


def settings_in(path: Path) -> tuple[Config, Execution] | None:
    """Return the config of the run in a folder, and how it ran last; None where there is none."""
    if not (path / "config.json").exists():
        return None
    return Config.load(path / "config.json"), Execution.load(path / "execution.json")


def read(path: Path) -> tuple[Config, Execution, Signature]:
    """Return what a workdir says of its run. Raise ValueError where it is damaged."""
    settings = settings_in(path)
    assert settings is not None
    return *settings, Signature.load(path / "signature.json")


def check(path: Path, config: Config, signature: Signature) -> None:
    """Raise ValueError where a folder holds another run, other data's run, or no run but something else."""
    before = settings_in(path)
    if before is None:
        if storage.foreign_files(path, (storage.LOCK, "config.json", "execution.json", "signature.json")):
            raise ValueError(
                f"{str(path)!r} holds other things than a training run; give a new or empty folder as workdir"
            )
        return
    differences = before[0].differences(config)
    differences = {name: pair for name, pair in differences.items() if not FIELDS[name].metadata["may_change"]}
    if differences:
        listed = ", ".join(f"{name} {old!r} there, {new!r} here" for name, (old, new) in differences.items())
        raise ValueError(
            f"the workdir {str(path)!r} is of another config: {listed}; give the same or another --workdir"
        )
    if Signature.load(path / "signature.json").data != signature.data:
        raise ValueError(f"the data changed since the run in {str(path)!r} began; give the same or another --workdir")


@contextlib.contextmanager
def entered(path: Path, config: Config, execution: Execution, signature: Signature) -> Iterator[Path]:
    """Make the folder the run's, or check that it is, and keep others from training in it: the first host does."""
    with contextlib.ExitStack() as held:
        try:
            owned = _owned(path, config, execution, signature)
            multihost.together(lambda: held.enter_context(owned) if multihost.is_first() else None)
            yield path
        except OSError as error:
            if error.errno is None or error.filename is not None:
                raise
            raise OSError(error.errno, f"{error.strerror}; checkpoints that are there are whole", str(path)) from None


@contextlib.contextmanager
def _owned(path: Path, config: Config, execution: Execution, signature: Signature) -> Iterator[None]:
    check(path, config, signature)
    path.mkdir(parents=True, exist_ok=True)
    with storage.locked(path):
        check(path, config, signature)  # once more: another may have begun and ended since
        signature.save(path / "signature.json")
        execution.save(path / "execution.json")
        config.save(path / "config.json")  # last: its presence says that the workdir is whole
        yield
