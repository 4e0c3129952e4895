"""Checks for authors of plug-ins: does a plug-in keep its contract?

Each check takes a spec, builds what it names, and raises AssertionError with the part of the contract that it breaks.

    check_model         shapes, determinism, state, gradients, head and features of a model
    check_dataset       splits, shapes, types and repeatability of a dataset
    check_task          values, predictions, metrics, monitor, headline and baseline of a task
    check_loss          one finite number for each example, which falls towards the target, and its gradient
    check_gradient      sums, padding, microbatches, devices and frozen parameters of a gradient rule
    check_optimizer     whether an optimizer brings the loss of a small problem down
    check_schedule      whether a schedule reaches its peak, and stays finite and at least 0
    check_augmentation  shapes, range, randomness by key, and the other rows of the batch
    check_explanation   shapes of maps, the target, randomness by key, and the other rows of the batch

A test of a plug-in loads its file, then calls the check of its kind:

    from jaxvision import testing
    from jaxvision.plugins import load_plugins

    def test_my_model():
        load_plugins(["my_model.py"])
        testing.check_model("my_model")
"""

from jaxvision.testing.datasets import check_dataset
from jaxvision.testing.explanations import check_explanation
from jaxvision.testing.gradients import check_gradient
from jaxvision.testing.models import check_model
from jaxvision.testing.tasks import check_loss, check_task
from jaxvision.testing.training import check_augmentation, check_optimizer, check_schedule

__all__ = [
    "check_augmentation",
    "check_dataset",
    "check_explanation",
    "check_gradient",
    "check_loss",
    "check_model",
    "check_optimizer",
    "check_schedule",
    "check_task",
]
