"""Train, judge and ship image classifiers with JAX. `jv.train(jv.Config(model="cnn", dataset="digits"))` begins."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxvision import datasets, models, tasks
from jaxvision import registry as _registry
from jaxvision.advice import advise
from jaxvision.config import Config, Execution
from jaxvision.convert import convert
from jaxvision.distributed import runtime as _runtime
from jaxvision.engine.signals import Interrupted
from jaxvision.ensemble import ensemble
from jaxvision.evaluate import evaluate
from jaxvision.interfaces import Dataset, Gradient, Model, Preprocessing, Split, Task, TrainState
from jaxvision.predict import Predictions, predict, warm_up
from jaxvision.pretrained import create_model
from jaxvision.preview import preview
from jaxvision.run import load
from jaxvision.space import Range
from jaxvision.sweep import Sweep, sweep
from jaxvision.train import Result, train

_runtime.keep_freed()  # before JAX starts its threads

if TYPE_CHECKING:
    from jaxvision import augments, losses, optimizers, schedules
    from jaxvision.models.linen import from_linen, tap
    from jaxvision.models.nnx import from_nnx

list_models = _registry.models.names
list_datasets = _registry.datasets.names

__version__ = "0.2.0"

__all__ = [
    "Config",
    "Dataset",
    "Execution",
    "Gradient",
    "Interrupted",
    "Model",
    "Predictions",
    "Preprocessing",
    "Range",
    "Result",
    "Split",
    "Sweep",
    "Task",
    "TrainState",
    "advise",
    "augments",
    "convert",
    "create_model",
    "datasets",
    "ensemble",
    "evaluate",
    "from_linen",
    "from_nnx",
    "list_datasets",
    "list_models",
    "load",
    "losses",
    "models",
    "optimizers",
    "predict",
    "preview",
    "schedules",
    "sweep",
    "tap",
    "tasks",
    "train",
    "warm_up",
]

_LAZY = {
    "from_linen": "jaxvision.models.linen",
    "from_nnx": "jaxvision.models.nnx",
    "tap": "jaxvision.models.linen",
}


def __getattr__(name: str) -> Any:
    """Imports what brings Flax or Optax at its first use, so that `import jaxvision` stays light."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in ("augments", "losses", "optimizers", "schedules"):
        return importlib.import_module(f"jaxvision.{name}")
    raise AttributeError(f"module 'jaxvision' has no attribute {name!r}")
