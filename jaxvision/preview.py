"""Draw training examples next to their augmented versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxvision import data as datas
from jaxvision import registry, specs
from jaxvision.config import Config
from jaxvision.engine import pipeline
from jaxvision.engine.precision import as_float
from jaxvision.interfaces import Array
from jaxvision.plugins import load_plugins
from jaxvision.reports import plots
from jaxvision.training_setup import make_augment

MOST_CLASSES = 3  # in a caption


def preview(
    config: Config,
    *,
    out: str | Path = "preview.png",
    num_images: int = 6,
    num_versions: int = 7,
    data_dir: str | None = None,
    dataset: Any = None,
    plugins: Sequence[str] = (),
) -> Path:
    """Draw training examples, one per row, next to augmented versions of them; return the file.

    Each version is that of another epoch. The examples are the first that a run with the config's seed trains on;
    mixing augmentations mix these examples.

    Args:
        config: names dataset, augmentations and seed.
        out: file to write, .png.
        num_images: number of examples.
        num_versions: number of augmented versions of each example.
        data_dir: folder of the datasets.
        dataset: a dataset that replaces the config's.
        plugins: plug-in files to load.

    Raises:
        ValueError: if there are no augmentations, too few training examples, no images, or the file is not a .png.
    """
    load_plugins(plugins)
    if not specs.parse_list(config.augmentations):
        raise ValueError("preview needs augmentations, e.g. --augmentations='horizontal_flip, random_crop'")
    if num_images < 1 or num_versions < 1:
        raise ValueError(f"num_images={num_images}, num_versions={num_versions}; expected 1 or more of each")
    path = Path(out).expanduser()
    if path.suffix != ".png":
        raise ValueError(f"cannot write {str(path)!r}; expected a file name ending in .png")
    for spec in specs.parse_list(config.augmentations):
        registry.augmentations.check(spec)
    data = datas.open_dataset(config, data_dir=data_dir, dataset=dataset)
    if not data.preprocessing.is_image:
        raise ValueError(f"preview needs images; the dataset {config.dataset!r} has none")
    if num_images > len(data.train):
        raise ValueError(f"num_images={num_images}; the training split has only {len(data.train)} examples")
    augment = jax.jit(make_augment(config, num_classes=len(data.classes)))
    batches = pipeline.train_batches(data.train, num_images, seed=config.seed)
    batch = next(batches)
    batches.close()
    batch["inputs"] = as_float(jax.numpy.asarray(batch["inputs"]))
    shown = [(batch["inputs"], batch["targets"])]
    for epoch in range(num_versions):
        key = jax.random.fold_in(jax.random.key(config.seed), epoch)
        version = augment(key, {**batch, "epoch": np.full(num_images, epoch, np.int32)})
        shown.append((version["inputs"], version["targets"]))
    inputs, targets = zip(*shown, strict=True)
    captions = [_caption(np.asarray(row[place]), data.classes) for place in range(num_images) for row in targets]
    captions[:: 1 + num_versions] = [f"original: {caption}" for caption in captions[:: 1 + num_versions]]
    path.parent.mkdir(parents=True, exist_ok=True)
    plots.images(_rows(inputs), captions, path, columns=1 + num_versions)
    return path


def _rows(versions: Sequence[Array]) -> np.ndarray:
    """Interleave the versions [V] of images [N, H, W, C]: [N * V, H, W, C]."""
    stacked = np.stack(versions, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])


def _caption(target: np.ndarray, classes: Sequence[str]) -> str:
    """Return the class of an integer target, the largest classes of a soft one with their weights, or the number."""
    if target.ndim == 0 and np.issubdtype(target.dtype, np.floating):
        return f"{float(target):.4g}"
    if target.ndim == 0:
        return classes[int(target)]
    largest = [i for i in np.argsort(-target, kind="stable")[:MOST_CLASSES].tolist() if target[i] >= 0.005]
    return "\n".join(f"{classes[i]} {target[i]:.0%}" for i in largest)
