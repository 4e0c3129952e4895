"""Experiments: files that define CONFIG, maybe EXECUTION and SPACE, and may register factories of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from absl import flags

from jaxvision import registry
from jaxvision.cli.errors import UsageError
from jaxvision.cli.flags import given
from jaxvision.config import Config, Execution
from jaxvision.plugins import import_plugin, load_plugins
from jaxvision.specs import nearest

CLONE = Path(__file__).parents[2] / "experiments"


class Experiment(NamedTuple):
    """What an experiment's file defines, and itself as a plug-in where it registers something."""

    config: Config
    execution: Execution = Execution()
    space: Any = None
    plugins: Sequence[str] = ()

    def changed(self, values: flags.FlagValues) -> Experiment:
        """Return it with the fields of its config and execution that the command line sets."""
        config = self.config.replace(**given(values, Config))
        execution = self.execution.replace(**given(values, Execution))
        return self._replace(config=config, execution=execution)


def find_experiment(place: str) -> str:
    """Find an experiment: a .py file, a name in experiments/ here or in the clone, or a module by its dotted name.

    Raise UsageError with the nearest names where there is none.
    """
    names = [place, f"{place}.py", os.path.join("experiments", f"{place}.py"), str(CLONE / f"{place}.py")]
    found = next((name for name in names if name.endswith(".py") and os.path.isfile(name)), None)
    if found:
        return found
    if "." in place and not place.endswith(".py"):
        return place
    folders = [folder for folder in ("experiments", CLONE) if os.path.isdir(folder)]
    known = {file[:-3] for folder in folders for file in os.listdir(folder) if file.endswith(".py")}
    near = nearest(place, known) or ": neither a file nor in experiments/ of this folder or the clone"
    raise UsageError(f"no experiment {place!r}{near}")


def load_experiment(place: str) -> Experiment:
    """Import an experiment. Raise UsageError where it has no CONFIG, or an EXECUTION of another type."""
    found = find_experiment(place)
    before = registry.num_registered()
    module = _imported(found)
    config, execution = getattr(module, "CONFIG", None), getattr(module, "EXECUTION", Execution())
    if not isinstance(config, Config):
        raise UsageError(f"the experiment {place!r} has no CONFIG = jaxvision.Config(…)")
    if not isinstance(execution, Execution):
        raise UsageError(f"the experiment {place!r} has EXECUTION={execution!r}; wanted jaxvision.Execution(…)")
    plugins = [found] if registry.num_registered() > before else []
    return Experiment(config, execution, getattr(module, "SPACE", None), plugins)


def _imported(file: str) -> ModuleType:
    """Import a file or module; say of a syntax error and of an unknown field where and what it is."""
    try:
        return import_plugin(file)
    except SyntaxError as error:
        raise UsageError(f"{error.filename}, line {error.lineno}: {error.msg}") from None
    except TypeError as error:
        unknown = re.search(r"^(Config|Execution)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
        if not unknown:
            raise
        kind = Config if unknown[1] == "Config" else Execution
        kind().replace(**{unknown[2]: None})  # raises the error that teaches
        raise


def chosen(values: flags.FlagValues) -> Experiment:
    """Load the plug-ins, then the experiment that the flags name, or else the defaults, as they are in the file."""
    load_plugins(values.plugins)  # before an experiment's own module may need them
    return load_experiment(values.experiment) if values.experiment else Experiment(Config())
