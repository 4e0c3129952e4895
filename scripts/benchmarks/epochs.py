"""Input and training together, from disk: an epoch of CIFAR-10; and only input, from a folder of photographs."""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.entrant import absent, entered
from benchmarks.races import take_turns
from jaxvision import registry
from jaxvision.datasets.roles import assign_roles
from jaxvision.datasets.tfds import find_prepared

READ_SIZE = 64  # batch size of the section that only reads
PAUSE = 4.0  # seconds: a loader reads four batches and more ahead, at a hundred images/s and more
USUAL = "~/tensorflow_datasets"  # the default of TensorFlow Datasets


class Found(NamedTuple):
    """Images/s in each round by contestant, notes, and the versions of libraries."""

    rates: dict[str, list[float]]
    notes: list[str]
    versions: dict[str, str]


def cifar(
    folder: Path,
    data_dir: str | None,
    *,
    variants: Sequence[str],
    per_class: int | None,
    batch_size: int,
    num_rounds: int,
) -> Found:
    """Train the introductory network for an epoch per round, after a warmup epoch: ours with `jaxvision train`.

    Files are written to `folder`. With per_class, an epoch has that many images of each class.
    """
    place = Path(data_dir or USUAL).expanduser()
    if find_prepared(place, "cifar10") is None:
        made = f"jaxvision dataset_report --dataset=cifar10 --data_dir={data_dir or USUAL} prepares it"
        return Found({}, [f"epoch of CIFAR-10: no prepared cifar10 in {place}; {made}, or name another --data_dir"], {})
    words = {"ours": _launching(folder, place, per_class, batch_size)}
    missing = absent("PyTorch")
    if missing:
        return Found({}, [f"PyTorch is out of the epoch of CIFAR-10: {missing}"], {})
    told = _written(folder, place, per_class, batch_size)
    for variant in variants:
        options = json.dumps({**told, "variant": variant})
        words[f"PyTorch {variant}"] = ["benchmarks.epoch_torch", options]
    rates: dict[str, list[float]] = {name: [] for name in words}
    waiting: dict[str, list[float]] = {name: [] for name in words}
    with contextlib.ExitStack() as stack:
        entrants = entered(stack, words)
        for number in range(num_rounds + 1):
            for each in entrants:
                epoch = each.ask("epoch")
                if epoch and number:
                    rates[each.name].append(epoch["images"] / epoch["seconds"])
                    waiting[each.name].append(epoch["waiting"])
        notes = [f"{each.name} is out of the epoch of CIFAR-10: {each.failed}" for each in entrants if each.failed]
        versions = {name: version for each in entrants for name, version in each.versions.items()}
    shares = (f"{name} {statistics.median(each):.1%}" for name, each in waiting.items() if each)
    return Found(
        rates,
        [f"share of the epoch of CIFAR-10 that is spent waiting for input: {', '.join(shares)}", *notes],
        versions,
    )


def _spec(per_class: int | None) -> str:
    return f"cifar10(per_class={per_class})"


def _launching(folder: Path, place: Path, per_class: int | None, batch_size: int) -> list[str]:
    flags = ["--model=cnn", f"--dataset={_spec(per_class)}", f"--data_dir={place}", f"--batch_size={batch_size}"]
    flags += [
        "--augmentations=horizontal_flip",
        "--epochs=1000",
        "--validation_fraction=0.0",
        f"--workdir={folder / 'run'}",
    ]
    return ["benchmarks.epoch_ours", *flags, "--mesh=data=1"]


def _written(folder: Path, place: Path, per_class: int | None, batch_size: int) -> dict[str, object]:
    """Write the same images as arrays, and return the options of the PyTorch script."""
    dataset = registry.datasets.build(_spec(per_class), data_dir=str(place), split_seed=0)
    images, shape = dataset.train.read(np.arange(len(dataset.train))), dataset.preprocessing
    np.savez(folder / "cifar.npz", images=images, targets=dataset.train.targets)
    file = str(folder / "cifar.npz")
    return {"file": file, "mean": shape.mean, "std": shape.std, "batch_size": batch_size}


def require_folder(folder: str) -> Path:
    """Return the path of a folder. Raises FileNotFoundError if there is none, ValueError if it has no class folders."""
    place, wanted = Path(folder).expanduser().resolve(), "expected --images=… with photographs in train/<class>/"
    if not place.is_dir():
        raise FileNotFoundError(f"no folder {folder!r}; {wanted}")
    if not any(each.is_dir() for each in _train_folder(place).iterdir()):
        raise ValueError(f"folder {folder!r} has no class folders; {wanted}")
    return place


def _train_folder(place: Path) -> Path:
    return assign_roles(place, validation=None, test=None).folders["train"]


def images(folder: str, *, num_rounds: int, seconds: float) -> Found:
    """Read random crops of the photographs in a folder: our pipeline, only decoding, and a DataLoader, without a
    network.

    Raises FileNotFoundError or ValueError if the folder has no class folders.
    """
    place = require_folder(folder)
    ours = {"folder": str(place), "batch_size": READ_SIZE}
    words = {
        "ours": ["read_ours", {**ours, "is_decoding": False}],
        "our decoding alone": ["read_ours", {**ours, "is_decoding": True}],
        "PyTorch DataLoader": ["read_torch", {**ours, "folder": str(_train_folder(place))}],
    }
    missing = {name: absent(name) for name in words if absent(name)}
    started = {
        name: ["benchmarks.contestant", module, json.dumps(options)]
        for name, (module, options) in words.items()
        if name not in missing
    }
    with contextlib.ExitStack() as stack:
        entrants = entered(stack, started)
        rates = take_turns(entrants, "read", READ_SIZE, num_rounds + 1, seconds, before="skip", pause=PAUSE)
        failed = {**missing, **{each.name: each.failed for each in entrants if each.failed}}
        versions = {name: version for each in entrants for name, version in each.versions.items()}
    notes = [f"{name} is out of reading images: {why}" for name, why in failed.items()]
    return Found({name: each[1:] for name, each in rates.items()}, notes, versions)
