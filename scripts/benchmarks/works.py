"""The measured work: networks and batches, the same for all contestants, and the interface of a contestant."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

LEARNING_RATE, EPSILON = 1e-3, 1e-8  # of Adam, which all contestants use; Keras' own epsilon is 1e-7
SIDE, SHARES = (
    128,
    (0.08, 1.0),
)  # pixels of the images in the section that only reads; fractions of their area that crops keep


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

    Methods return after their results have been computed.
    """

    def loss(self) -> float:
        """Return the mean loss of the batch in training mode at the current parameters; it may take a step."""
        ...

    def outputs(self) -> np.ndarray:
        """Return the outputs of the batch [B, num_classes] in evaluation mode."""
        ...

    def train(self, num_steps: int) -> None:
        """Take training steps on the batch."""
        ...

    def answer(self, num_steps: int) -> None:
        """Compute the outputs of the batch in evaluation mode `num_steps` times."""
        ...

    def device_memory(self) -> int | None:
        """Return the peak bytes of accelerator memory, or None on CPUs."""
        ...


def read_weights(file: str) -> dict[str, np.ndarray]:
    """Read the tensors, under our paths, that all contestants start from."""
    with np.load(file) as tensors:
        return dict(tensors)


def batch(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Return random inputs [B, H, W, C] with mean 0 and std 1, and targets [B], the same for all."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((work.batch_size, *work.input_size), np.float32)
    return inputs, rng.integers(0, work.num_classes, work.batch_size)
