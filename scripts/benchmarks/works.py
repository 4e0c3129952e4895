"""What is measured: networks and their batches, alike for all contestants, and what a contestant is."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

LEARNING_RATE, EPSILON = 1e-3, 1e-8  # of Adam, which all contestants use; Keras' own epsilon is 1e-7
SIDE, SHARES = 128, (0.08, 1.0)  # in pixels, of the images that are but read; of their area that is kept


class Work(NamedTuple):
    """A network of ours by its spec, on images [batch_size, *input_size] of num_classes."""

    model: str
    input_size: tuple[int, int, int]
    num_classes: int
    batch_size: int


WORKS = {
    "cnn": Work("cnn", (32, 32, 3), 10, 128),
    "resnet18": Work("resnet18(stem='cifar')", (32, 32, 3), 10, 128),
    "resnet50": Work("resnet50", (224, 224, 3), 1000, 16),
}


class Contestant(Protocol):
    """A network with its weights and one batch on the device, in one library.

    What each method asks for has been computed when it returns.
    """

    def loss(self) -> float:
        """The mean loss of the batch in training mode, where the parameters stand; it may take a step."""
        ...

    def outputs(self) -> np.ndarray:
        """The outputs of the batch [B, num_classes] in evaluation mode."""
        ...

    def train(self, num_steps: int) -> None:
        """Takes steps on the batch."""
        ...

    def answer(self, num_steps: int) -> None:
        """Computes the outputs of the batch in evaluation mode, so many times."""
        ...

    def device_memory(self) -> int | None:
        """The most bytes of the accelerator's memory that were in use; None where the processor computes."""
        ...


def read_weights(file: str) -> dict[str, np.ndarray]:
    """Reads the tensors, under our paths, that all contestants begin with."""
    with np.load(file) as tensors:
        return dict(tensors)


def batch(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Gives random inputs [B, H, W, C] of mean 0 and deviation 1, and targets [B]: the same ones to all who ask."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((work.batch_size, *work.input_size), np.float32)
    return inputs, rng.integers(0, work.num_classes, work.batch_size)
