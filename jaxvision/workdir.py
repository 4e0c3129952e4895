"""The folder of a run: its name and lock, and the settings and signature that later commands read from it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxvision import failures, schemas, storage
from jaxvision.config import Config, Execution, fields_of
from jaxvision.distributed import multihost
from jaxvision.interfaces import Kind, Preprocessing, TargetStats

MAY_CHANGE = {
    name: field.metadata["may_change"] for kind in (Config, Execution) for name, field in fields_of(kind).items()
}

# Of a run that was killed before its config was written.
FIRST_FILES = (storage.LOCK, "config.json", "execution.json", "signature.json", "range_test.json", "range_test.png")


@dataclass(frozen=True)
class Signature:
    """What later commands know of a run without opening its data; `data` is the fingerprint of the data.

    `data_dir` and `plugins` are those of training, the defaults of later commands. `num_validation` is the number of
    validation examples, None without such a split or if an older version began the run.
    """

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    targets: TargetStats
    data: str
    data_dir: str | None
    plugins: tuple[str, ...]
    versions: dict[str, str]
    num_validation: int | None = None

    def save(self, path: Path) -> None:
        """Write the signature as JSON."""
        storage.write_json(path, dataclasses.asdict(self), has_digest=True)

    @staticmethod
    def load(path: Path) -> Signature:
        """Read what `save` wrote. Raises ValueError if the file is damaged."""
        return storage.read_json(path, _signature)


def _signature(values: dict[str, Any]) -> Signature:
    values["preprocessing"].setdefault("resize", "crop_first")  # the rule until version 0.3, which had no such field
    if values["targets"]["kind"] not in typing.get_args(Kind):
        from jaxvision.upgrades import upgrade_targets

        values["targets"] = upgrade_targets(values["targets"])
    signature = schemas.parse(Signature, values, "")
    classes, targets = signature.classes, signature.targets
    is_complete = len(set(classes)) == len(classes) and len(targets.counts) in (0, len(classes))
    if not is_complete or min(*targets.counts, targets.num_examples - 1, 0) < 0 or targets.std <= 0:
        raise ValueError("its classes, their counts, num_examples and std do not fit each other")
    return signature


def open_workdir(workdir: str | Path) -> Path:
    """Return the path of a workdir. Raises FileNotFoundError if it is not the workdir of a training run."""
    path = storage.to_path(workdir)
    for name in ("config.json", "signature.json", "checkpoints"):
        if not (path / name).exists():
            what = "no folder" if not path.is_dir() else f"no {name} in"
            raise FileNotFoundError(f"{what} {os.fspath(workdir)!r}; expected the workdir of a training run")
    return path


def settings_in(path: Path) -> tuple[Config, Execution] | None:
    """Return the config of the run in a folder and its latest execution, or None if there is no run."""
    if not (path / "config.json").exists():
        return None
    return Config.load(path / "config.json"), Execution.load(path / "execution.json")


def read(path: Path) -> tuple[Config, Execution, Signature]:
    """Return the config, execution and signature of a workdir. Raises ValueError if one of them is damaged."""
    settings = settings_in(path)
    assert settings is not None
    return *settings, Signature.load(path / "signature.json")


def check(path: Path, config: Config, execution: Execution, signature: Signature) -> None:
    """Raise ValueError if a folder holds another run, a run on other data, or other files."""
    before = settings_in(path)
    if before is None:
        if storage.foreign_files(path, FIRST_FILES):
            raise ValueError(failures.other_files(path))
        return
    differences = before[0].differences(config) | before[1].differences(execution)
    differences = {name: pair for name, pair in differences.items() if not MAY_CHANGE[name]}
    if differences:
        raise ValueError(failures.other_settings(path, differences))
    if Signature.load(path / "signature.json").data != signature.data:
        raise ValueError(failures.other_data(path))


@contextlib.contextmanager
def claim(path: Path, config: Config, execution: Execution, signature: Signature) -> Iterator[Path]:
    """Write the settings of a run to its folder, or compare them with those there; hold its lock. Only on the main
    process.
    """
    with contextlib.ExitStack() as stack:
        try:
            owned = _owned(path, config, execution, signature)
            multihost.run_on_all_hosts(lambda: stack.enter_context(owned) if multihost.is_main_process() else None)
            yield path
        except KeyboardInterrupt as stop:
            stop.add_note(str(path))  # for the message on the command line
            raise
        except OSError as error:
            if error.errno is None or error.filename is not None:
                raise
            raise OSError(error.errno, f"{error.strerror}; existing checkpoints are intact", str(path)) from None


@contextlib.contextmanager
def _owned(path: Path, config: Config, execution: Execution, signature: Signature) -> Iterator[None]:
    check(path, config, execution, signature)
    path.mkdir(parents=True, exist_ok=True)
    storage.refuse_links_out(path)
    with storage.locked(path):
        check(path, config, execution, signature)  # again: another run may have started and ended in between
        signature.save(path / "signature.json")
        if signature.plugins:
            from jaxvision import trust

            trust.record(path, signature.plugins)
        execution.save(path / "execution.json")
        config.save(path / "config.json")  # last: its presence marks a complete workdir
        yield
