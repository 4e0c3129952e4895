"""The same networks in idiomatic PyTorch; the ResNets are torchvision's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from parity import import_torchvision
from torch import nn

from benchmarks.works import EPSILON, LEARNING_RATE, Work, batch, read_weights
from jaxvision import registry, specs
from jaxvision.machine import num_cores
from jaxvision.weights.mapping import their_name, to_theirs

LIBRARIES = ("torch", "torchvision")

SIDE = 4  # of the last map of the introductory network: 32 -> 30 -> 15 -> 13 -> 6 -> 4


def make_cnn(*, channels: int, num_classes: int) -> nn.Module:
    """Build the introductory network for images of 32 by 32."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(64 * SIDE * SIDE, 64), nn.ReLU(), nn.Linear(64, num_classes),
    )  # fmt: skip


def _cnn(work: Work, tensors: dict[str, np.ndarray]) -> nn.Module:
    network = make_cnn(channels=work.input_size[2], num_classes=work.num_classes)
    first = tensors["dense1/kernel"]  # its inputs lie rows, columns, channels here, and channels first there
    tensors = {
        **tensors,
        "dense1/kernel": first.reshape(SIDE, SIDE, 64, -1).transpose(2, 0, 1, 3).reshape(first.shape),
    }
    named = zip(("conv1", "conv2", "conv3", "dense1", "head"), (0, 3, 6, 9, 11), strict=True)
    network.load_state_dict(
        {
            f"{place}.{theirs}": torch.tensor(to_theirs(tensors[f"{name}/{ours}"]))
            for name, place in named
            for ours, theirs in (("kernel", "weight"), ("bias", "bias"))
        }
    )
    return network


def _resnet(work: Work, tensors: dict[str, np.ndarray]) -> nn.Module:
    name = specs.parse(work.model).name
    network = getattr(import_torchvision().models, name)(num_classes=work.num_classes)
    if "cifar" in work.model:
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    rules = registry.models.entry(name).metadata["names"]["torchvision"]
    loaded = {their_name(path, rules): torch.tensor(to_theirs(t)) for path, t in tensors.items()}
    missing, unexpected = network.load_state_dict(loaded, strict=False)
    assert not unexpected and all(each.endswith("num_batches_tracked") for each in missing), (missing, unexpected)
    return network


def prepared_device() -> str:
    """Return the device, with PyTorch configured for speed: all cores, or TF32, in which JAX multiplies."""
    torch.set_num_threads(num_cores())
    if not torch.cuda.is_available():
        return "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    return "cuda"


class Contestant:
    """Eager as in tutorials ("plain"), in channels_last with the fused optimizer, or also compiled."""

    def __init__(self, work: Sequence[Any], weights: str, *, precision: str, variant: str) -> None:
        work = Work(*work)
        device = prepared_device()
        layout = torch.contiguous_format if variant == "plain" else torch.channels_last
        network = (_cnn if work.model == "cnn" else _resnet)(work, read_weights(weights))
        network = network.to(device=device).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
        self._network = torch.compile(network) if variant == "compile" else network
        self._optimizer = torch.optim.Adam(
            network.parameters(), LEARNING_RATE, eps=EPSILON, fused=True if variant != "plain" else None
        )
        inputs, targets = batch(work)
        self._inputs = torch.tensor(inputs.transpose(0, 3, 1, 2)).to(device, memory_format=layout)
        self._targets = torch.tensor(targets).to(device)
        self._cast = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")
        self._device = device

    def _loss(self):
        with self._cast:
            return F.cross_entropy(self._network(self._inputs).float(), self._targets)

    def loss(self) -> float:
        self._network.train()
        return float(self._loss().detach())

    def outputs(self) -> np.ndarray:
        self._network.eval()
        with torch.inference_mode(), self._cast:
            return self._network(self._inputs).float().cpu().numpy()

    def train(self, num_steps: int) -> None:
        self._network.train()
        for _ in range(num_steps):
            self._optimizer.zero_grad()
            self._loss().backward()
            self._optimizer.step()
        self._finish()

    def answer(self, num_steps: int) -> None:
        self._network.eval()
        with torch.inference_mode(), self._cast:
            for _ in range(num_steps):
                self._network(self._inputs)
        self._finish()

    def _finish(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()

    def device_memory(self) -> int | None:
        return torch.cuda.max_memory_allocated() if self._device == "cuda" else None
