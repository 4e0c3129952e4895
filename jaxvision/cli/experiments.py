"""Experiments: files with a CONFIG, and optionally an EXECUTION, a SEARCH_SPACE and factories."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jaxvision import registry, storage
from jaxvision import workdir as workdirs
from jaxvision.cli.errors import UsageError
from jaxvision.config import Config, Execution
from jaxvision.plugins import import_plugin, load_plugins
from jaxvision.specs import nearest

CLONE = Path(__file__).parents[2] / "experiments"


class Experiment(NamedTuple):
    """What a command runs: settings, the search space of a sweep, plugins, and the data folder of a resumed run.

    `name` is that of the experiment. `changes` are the settings on the command line; `base` is the experiment without
    them.
    """

    config: Config
    execution: Execution = Execution()
    space: Any = None
    plugins: Sequence[str] = ()
    data_dir: str | None = None
    name: str | None = None
    base: Any = None
    changes: Mapping[str, Any] = {}


def find_experiment(place: str) -> str:
    """Find an experiment: a .py file, a name in experiments/ here or in the clone, or a module by its dotted name.

    Raises UsageError with the nearest names if there is none.
    """
    names = [place, f"{place}.py", os.path.join("experiments", f"{place}.py"), str(CLONE / f"{place}.py")]
    found = next((name for name in names if name.endswith(".py") and os.path.isfile(name)), None)
    if found:
        return found
    if "." in place and not place.endswith(".py"):
        return place
    near = nearest(place, _experiment_files()) or ": neither a file nor a name in experiments/ here or in the clone"
    raise UsageError(f"no experiment {place!r}{near}")


def _experiment_files() -> dict[str, Path]:
    """Return the files in experiments/ here and in the clone, by name; those here come first."""
    folders = [folder for folder in (CLONE, Path("experiments")) if folder.is_dir()]
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.py"))}


def experiment_summaries() -> dict[str, str]:
    """Return the first lines of the docstrings of the experiments in experiments/, by name, without running them."""
    return {name: _summary(file) for name, file in _experiment_files().items()}


def _summary(file: Path) -> str:
    try:
        return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    except (SyntaxError, ValueError) as error:
        return f"cannot be read: {error}"


def load_experiment(place: str) -> Experiment:
    """Import an experiment. Raises UsageError if it has no CONFIG, or an EXECUTION of another type."""
    path = find_experiment(place)
    before = registry.num_registered()
    module = _imported(path)
    config, execution = getattr(module, "CONFIG", None), getattr(module, "EXECUTION", Execution())
    if not isinstance(config, Config):
        raise UsageError(f"the experiment {place!r} has no CONFIG; expected CONFIG = jaxvision.Config(…)")
    if not isinstance(execution, Execution):
        raise UsageError(f"the experiment {place!r} has EXECUTION={execution!r}; expected jaxvision.Execution(…)")
    plugins = [path] if registry.num_registered() > before else []
    return Experiment(config, execution, getattr(module, "SEARCH_SPACE", None), plugins, name=place)


def _imported(file: str) -> ModuleType:
    """Import a file or module. Raises UsageError with file and line for a syntax error."""
    try:
        return import_plugin(file)
    except SyntaxError as error:
        raise UsageError(f"{error.filename}, line {error.lineno}: {error.msg}") from None


def load_run(workdir: str) -> Experiment | None:
    """Return the settings of the run in a folder and load its plugins, or return None if there is no run."""
    path = storage.to_path(workdir)
    settings = workdirs.settings_in(path)
    if settings is None or not (path / "signature.json").exists():
        return None
    signature = workdirs.Signature.load(path / "signature.json")
    load_plugins(signature.plugins, required=False)
    return Experiment(*settings, plugins=signature.plugins, data_dir=signature.data_dir)
