"""The same images with torchvision's ImageFolder and transforms, and a DataLoader with a worker per core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from parity import import_torchvision
from torch.utils.data import DataLoader

from benchmarks.works import SHARES, SIDE
from jaxvision.images import IMAGENET_MEAN, IMAGENET_STD
from jaxvision.machine import num_cores

LIBRARIES = ("torch", "torchvision", "pillow")


class Contestant:
    """Batches of random crops, flipped and normalized, on the device."""

    def __init__(self, folder: str, *, batch_size: int) -> None:
        torchvision = import_torchvision()
        of = torchvision.transforms
        steps = [of.RandomResizedCrop(SIDE, SHARES), of.RandomHorizontalFlip(), of.ToTensor()]
        transform = of.Compose([*steps, of.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._num_workers = num_cores()
        self._loader = DataLoader(
            torchvision.datasets.ImageFolder(folder, transform),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=self._num_workers,
            persistent_workers=True,
            pin_memory=self._device == "cuda",
        )
        self._batches = self._endless()

    def _endless(self) -> Iterator[Any]:
        while True:
            yield from self._loader

    def skip(self) -> None:
        """Discard what was prefetched, by default two batches per worker."""
        self.read(2 * self._num_workers)

    def read(self, num_steps: int) -> None:
        for _ in range(num_steps):
            inputs, targets = next(self._batches)
            on_device = inputs.to(self._device, non_blocking=True), targets.to(self._device, non_blocking=True)
            del on_device
        if self._device == "cuda":
            torch.cuda.synchronize()
