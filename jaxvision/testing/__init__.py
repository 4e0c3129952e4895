"""Checks for plug-in authors: does a model, dataset, task, optimizer or augment keep its contract?

Each takes a spec and raises AssertionError with what does not hold.

    from jaxvision import testing
    def test_my_model():
        testing.check_model("my_model")
"""

from jaxvision.testing.datasets import check_dataset
from jaxvision.testing.models import check_model
from jaxvision.testing.tasks import check_loss, check_task
from jaxvision.testing.training import check_augment, check_optimizer, check_schedule

__all__ = [
    "check_augment",
    "check_dataset",
    "check_loss",
    "check_model",
    "check_optimizer",
    "check_schedule",
    "check_task",
]
