"""The folder of a run: its name, whose it is, who trains in it, and what later verbs know without opening the data."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxvision import hosts, registry
from jaxvision.config import FIELDS, Config, write_json
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
        """Writes the signature as JSON."""
        write_json(path, dataclasses.asdict(self))

    @staticmethod
    def load(path: Path) -> Signature:
        """Reads what `save` wrote. Raises ValueError where it is damaged."""
        try:
            values = json.loads(path.read_text())
            values |= {"classes": tuple(values["classes"]), "plugins": tuple(values["plugins"])}
            preprocessing = Preprocessing(**_plain(values.pop("preprocessing")))
            return Signature(preprocessing=preprocessing, targets=Targets(**_plain(values.pop("targets"))), **values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from None


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Gives values as they were before JSON made lists of tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def save_thresholds(path: Path, step: int, views: str, thresholds: Sequence[float]) -> None:
    """Keeps the thresholds that were chosen for a checkpoint, by its outputs averaged over those views."""
    write_json(path / "thresholds.json", {"step": step, "views": views, "thresholds": list(thresholds)})


def thresholds_of(path: Path, step: int, views: str) -> tuple[float, ...] | None:
    """Gives the thresholds that were chosen for a checkpoint and views; None where none were. Raises for damage."""
    file = path / "thresholds.json"
    if not file.exists():
        return None
    try:
        values = json.loads(file.read_text())
        is_same = values["step"] == step and values["views"] == views
        return tuple(map(float, values["thresholds"])) if is_same else None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is damaged: {type(error).__name__}: {error}; `jaxvision evaluate` makes it") from None


def fresh(config: Config, *, prefix: str = "") -> Path:
    """Names a folder that is not there yet: workdirs/, a prefix, the names of dataset and model, and the time."""
    names = "-".join(registry.parse(spec).name for spec in (config.dataset, config.model))
    base = Path("workdirs") / f"{prefix}{names}-{time.strftime('%Y%m%d-%H%M%S')}"
    return next(path for n in range(1000) if not (path := base.with_name(base.name + (f"-{n}" if n else ""))).exists())


def require(workdir: str | Path) -> Path:
    """Gives the path of a workdir. Raises FileNotFoundError where training left none there."""
    path = Path(workdir).expanduser()
    for name in ("config.json", "signature.json", "checkpoints"):
        if not (path / name).exists():
            what = "no folder" if not path.is_dir() else f"no {name} in"
            raise FileNotFoundError(f"{what} {os.fspath(workdir)!r}: it is not the workdir of a training run")
    return path


def config_in(path: Path) -> Config | None:
    """Gives the config of the run in a folder, None where there is none."""
    return Config.load(path / "config.json") if (path / "config.json").exists() else None


def check(path: Path, config: Config, signature: Signature) -> None:
    """Raises ValueError where a folder holds another run, other data's run, or no run but something else."""
    before = config_in(path)
    if before is None:
        ours = (
            "lock",
            "signature.json",
            ".signature.json.tmp",
            ".config.json.tmp",
        )
        if path.exists() and (not path.is_dir() or any(p.name not in ours for p in path.iterdir())):
            raise ValueError(
                f"{str(path)!r} holds other things than a training run; give a new or empty folder as workdir"
            )
        return
    differences = before.differences(config)
    differences = {name: pair for name, pair in differences.items() if not FIELDS[name].metadata["may_change"]}
    if differences:
        listed = ", ".join(f"{name} {old!r} there, {new!r} here" for name, (old, new) in differences.items())
        raise ValueError(
            f"the workdir {str(path)!r} is of another config: {listed}; give the same or another --workdir"
        )
    if Signature.load(path / "signature.json").data != signature.data:
        raise ValueError(f"the data changed since the run in {str(path)!r} began; give the same or another --workdir")


@contextlib.contextmanager
def entered(path: Path, config: Config, signature: Signature) -> Iterator[Path]:
    """Makes the folder the run's, or checks that it is, and keeps others from training in it: the first host does."""
    with contextlib.ExitStack() as held:
        try:
            hosts.together(lambda: held.enter_context(_owned(path, config, signature)) if hosts.is_first() else None)
            yield path
        except OSError as error:
            if error.errno is None or error.filename is not None:
                raise
            raise OSError(error.errno, f"{error.strerror}; checkpoints that are there are whole", str(path)) from None


@contextlib.contextmanager
def _owned(path: Path, config: Config, signature: Signature) -> Iterator[None]:
    check(path, config, signature)
    path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        check(path, config, signature)  # once more: another may have begun and ended since
        signature.save(path / "signature.json")
        config.save(path / "config.json")  # last: its presence says that the workdir is whole
        yield


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the folder's lock. It ends with the process, however that ends, so a killed run leaves none behind."""
    import fcntl

    with open(path / "lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(
                f"another run trains in {str(path)!r}: {file.read().strip() or 'just started'}; "
                "wait for it, stop it, or give another --workdir"
            ) from None
        except OSError as error:  # some network file systems have no locks
            warnings.warn(f"{path} cannot be locked ({error}): see that no second run trains in it", stacklevel=2)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield
