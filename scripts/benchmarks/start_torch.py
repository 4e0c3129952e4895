"""The same training as a script in PyTorch, which prints the time in seconds after each step."""

import sys
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main(file: str, num_steps: int, batch_size: int) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    arrays = np.load(file)
    images, labels = torch.tensor(arrays["x_train"]).permute(0, 3, 1, 2), torch.tensor(arrays["y_train"])
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10),
    ).to(device, memory_format=torch.channels_last)  # fmt: skip  # pyright: ignore[reportCallIssue]
    optimizer, criterion = torch.optim.Adam(network.parameters()), nn.CrossEntropyLoss()
    loader = DataLoader(TensorDataset(images, labels), batch_size, shuffle=True, drop_last=True)
    step = 0
    while step < num_steps:
        for inputs, targets in loader:
            inputs, targets = (inputs.to(device).float() / 255 - 0.5) / 0.25, targets.to(device)
            loss = criterion(network(inputs.contiguous(memory_format=torch.channels_last)), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            float(loss)
            print(time.time(), flush=True)
            step += 1
            if step == num_steps:
                break


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
