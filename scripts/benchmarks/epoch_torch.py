"""The same epochs in PyTorch: torchvision's transforms and a DataLoader with a worker per core."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from parity import import_torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.contestant import speaking, versions
from benchmarks.peer_torch import LIBRARIES, make_cnn, prepared_device
from jaxvision.machine import num_cores


class Images(Dataset):
    """Pixels in memory that become a PIL image on access, as in torchvision's CIFAR10."""

    def __init__(self, file: str, mean: list[float], std: list[float]) -> None:
        transforms = import_torchvision().transforms
        with np.load(file) as arrays:
            self._images, self._targets = arrays["images"], arrays["targets"].tolist()
        self._transform = transforms.Compose(
            [transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(mean, std)]
        )

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int):
        return self._transform(Image.fromarray(self._images[index])), self._targets[index]


def main(options: str) -> None:
    answer, given = speaking(), json.loads(options)
    device, layout = prepared_device(), torch.channels_last
    loader = DataLoader(
        Images(given["file"], given["mean"], given["std"]),
        given["batch_size"],
        shuffle=True,
        drop_last=True,
        num_workers=num_cores(),
        persistent_workers=True,
        pin_memory=device == "cuda",
    )
    network = make_cnn(channels=3, num_classes=10).to(device=device).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    called = torch.compile(network) if given["variant"] == "compile" else network
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    answer(versions(LIBRARIES))
    for _ in sys.stdin:
        count, waited, total, before, begun = 0, 0.0, 0.0, torch.zeros(()), time.perf_counter()
        batches = iter(loader)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            waited += time.perf_counter() - asked
            if batch is None:
                break
            inputs, targets = (each.to(device, non_blocking=True) for each in batch)
            optimizer.zero_grad()
            loss = F.cross_entropy(called(inputs.contiguous(memory_format=layout)), targets)
            loss.backward()
            optimizer.step()
            total, before = total + float(before), loss.detach()  # that of the step before, as the launcher's loop does
            count += len(targets)
        total += float(before)
        seconds = time.perf_counter() - begun
        answer({"images": count, "seconds": seconds, "waiting": waited / seconds})


if __name__ == "__main__":
    main(*sys.argv[1:])
