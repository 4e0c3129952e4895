"""Train, evaluate and export image classifiers with JAX: `jv.train(jv.Config(model="cnn", dataset="digits"))`."""

import jaxvision.interruption  # noqa: F401 - first, because the other imports take a second

# isort: split
import importlib
from typing import TYPE_CHECKING, Any

from jaxvision import datasets, models, tasks
from jaxvision import registry as _registry
from jaxvision.config import Config, Execution
from jaxvision.distributed import runtime as _runtime
from jaxvision.engine.signals import Interrupted
from jaxvision.ensemble import ensemble
from jaxvision.evaluate import evaluate
from jaxvision.explain import explain
from jaxvision.explanation import Explanation
from jaxvision.export import export
from jaxvision.fewshot import fewshot
from jaxvision.finetune import finetune
from jaxvision.interfaces import Dataset, Gradient, Model, Monitor, Preprocessing, Split, Task, TrainState
from jaxvision.label_errors import LabelError, label_errors
from jaxvision.predict import Predictions, predict, warm_up
from jaxvision.pretrained import create_model
from jaxvision.preview import preview
from jaxvision.quality_check import check_quality
from jaxvision.run import load
from jaxvision.search_space import LogUniform, Uniform
from jaxvision.sweep import Sweep, sweep
from jaxvision.train import Result, train
from jaxvision.weights_package import WeightsPackage

_runtime.keep_freed()  # must precede JAX's threads

if TYPE_CHECKING:
    from jaxvision import augmentations, explanations, gradients, loggers, losses, optimizers, schedules
    from jaxvision.models.linen import from_linen, tap
    from jaxvision.models.nnx import from_nnx

list_models = _registry.models.names
list_datasets = _registry.datasets.names

__version__ = "0.6.0"

__all__ = [
    "Config",
    "Dataset",
    "Execution",
    "Explanation",
    "Gradient",
    "Interrupted",
    "LabelError",
    "LogUniform",
    "Model",
    "Monitor",
    "Predictions",
    "Preprocessing",
    "Result",
    "Split",
    "Sweep",
    "Task",
    "TrainState",
    "Uniform",
    "WeightsPackage",
    "augmentations",
    "check_quality",
    "create_model",
    "datasets",
    "ensemble",
    "evaluate",
    "explain",
    "explanations",
    "export",
    "fewshot",
    "finetune",
    "from_linen",
    "from_nnx",
    "gradients",
    "label_errors",
    "list_datasets",
    "list_models",
    "load",
    "loggers",
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
    """Import names that need Flax or Optax on first use, so that `import jaxvision` stays fast."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in ("augmentations", "explanations", "gradients", "loggers", "losses", "optimizers", "schedules"):
        return importlib.import_module(f"jaxvision.{name}")
    raise AttributeError(f"module 'jaxvision' has no attribute {name!r}")
