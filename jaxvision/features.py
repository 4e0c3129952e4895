"""Pooled features of images under pretrained weights, computed once and cached on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import array_cache, data, failures, pretrained, registry
from jaxvision.config import Config
from jaxvision.distributed import compilation, runtime
from jaxvision.distributed import mesh as meshes
from jaxvision.engine import inference, precision
from jaxvision.interfaces import Dataset, Preprocessing, Split, Tree
from jaxvision.plugins import load_plugins
from jaxvision.specs import parse
from jaxvision.weights import packages
from jaxvision.weights.files import Weights

FORMAT = 1  # increment if a model computes other features from the same weights, to invalidate cached ones


class Backbone(NamedTuple):
    """A model spec with weights loaded for it. `preprocessing` is that of the weights, None for that of the data."""

    model: str
    init_from: str
    weights: Weights
    preprocessing: Preprocessing | None


def open_backbone(model: str | None = None, init_from: str | None = None, *, plugins: Sequence[str] = ()) -> Backbone:
    """Load the weights whose features are wanted.

    Args:
        model: The spec of a registered model. If None, the model that the workdir `init_from` was trained with, or the
            largest whose weights are installed.
        init_from: The weights, as in `create_model`. If None, the registered ones of the model.
        plugins: Modules or .py files that register further models.

    Raises:
        ValueError: No model is given, and none follows from the weights or is installed.
    """
    load_plugins(plugins)
    source = init_from or pretrained.PRETRAINED
    if model is None and source == pretrained.PRETRAINED:
        model = next(iter(packages.at_hand()), None)
        if model is None:
            raise ValueError(failures.no_weights_at_hand(packages.registered()))
    loaded = pretrained.open_weights(model or Config().model, source, plugins=plugins)
    spec = model or loaded.spec or _model_of(loaded)
    if spec is None:
        raise ValueError(failures.unknown_backbone(source))
    registry.models.check(spec)
    return Backbone(spec, source, loaded, pretrained.preprocessing_of(spec, loaded))


def backbone_of(config: Config, *, plugins: Sequence[str] = ()) -> Backbone:
    """Load the weights that a config names; the default model of a config stands for none."""
    model = config.model if config.model != Config().model else None
    return open_backbone(model, config.init_from, plugins=plugins)


def _model_of(loaded: Weights) -> str | None:
    """Return the registered model that timm calls by the architecture of the weights."""
    names = [n for n in registry.models.names() if pretrained.peers(n).get("timm") == loaded.architecture]
    return names[0] if loaded.architecture and names else None


def features_of(
    backbone: Backbone, split: Split, preprocessing: Preprocessing, *, doing: str = "features", batch_size: int = 64
) -> np.ndarray:
    """Compute the pooled features of a split, float32 [N, D].

    Open the dataset with the backbone's preprocessing, and pass that of the dataset. Features are cached by the images,
    the weights, the model and the preprocessing, so that a second call with the same data needs no model. Raises
    ValueError if the weights do not fit, or if the model has no pooled features.
    """

    def make(folder: Path) -> None:
        mesh = meshes.make_mesh()
        step, params, state = _feature_step(backbone, preprocessing, mesh)
        options: dict[str, Any] = {"batch_size": batch_size, "mesh": mesh, "doing": doing}
        _, pooled = inference.infer_split(step, params, state, split, **options)
        np.save(folder / "pooled.npy", pooled.astype(np.float32))

    arrays = array_cache.cached("features", _key(backbone, split, preprocessing), make, what="features")
    return np.array(arrays["pooled"])


def pooled_features(backbone: Backbone, dataset: Dataset, *, batch_size: int = 64) -> dict[str, np.ndarray]:
    """Compute the pooled features of each split of a dataset, by the name of the split, as `features_of` does."""
    options: dict[str, Any] = {"batch_size": batch_size}
    return {
        name: features_of(backbone, split, dataset.preprocessing, doing=f"features of {name}", **options)
        for name, split in data.splits_of(dataset).items()
    }


def _feature_step(backbone: Backbone, preprocessing: Preprocessing, mesh: Any) -> tuple[inference.Step, Tree, Tree]:
    """Build the model, and compile the step that returns pooled features; return it, parameters and state."""
    runtime.use_compilation_cache()
    size = preprocessing.size
    model = registry.models.build(backbone.model, output_size=1, input_size=(*size, preprocessing.channels))
    inputs = np.zeros((1, *size, preprocessing.channels), np.float32)
    params, state = compilation.compile_init(model.init)(jax.random.key(0), inputs)
    start = pretrained.begin(model, backbone.model, params, state, backbone.weights, size=size, replace_head=True)
    model = precision.with_precision(model, preprocessing)
    maps = jax.eval_shape(model.features, start.params, start.state, inputs) if model.features else {}
    if "pooled" not in maps or maps["pooled"].ndim != 2:
        raise ValueError(failures.no_pooled_features(backbone.model))

    def feature_step(params, state, batch):
        assert model.features is not None
        return {"count": batch["mask"].sum()}, model.features(params, state, batch["inputs"])["pooled"]

    placed = jax.device_put((start.params, start.state), meshes.replicated(mesh))
    return compilation.compile_eval(feature_step, mesh), *placed


def _key(backbone: Backbone, split: Split, preprocessing: Preprocessing) -> str:
    """Return what the features depend on: images, weights, model and preprocessing.

    The fingerprint of data covers a sample of the images, so the files that the others come from are part of the key;
    without files, all images are.
    """
    files = [Path(str(name)) for name in split.names]
    have_files = len(files) == len(split) and all(file.is_file() for file in files)
    images = array_cache.stamps(files) if have_files else ""
    alone = Dataset(split, None, None, (), preprocessing)
    fingerprint = data.fingerprint(alone) if have_files else data.fingerprint(alone, num_images=2**40)
    weights, model = _digest(backbone.weights), f"{parse(backbone.model)} {_plugin_stamp(backbone.model)}"
    parts = (FORMAT, jax.default_backend(), images, fingerprint, weights, model)
    return "\n".join(map(str, (*parts, preprocessing)))


def _plugin_stamp(model: str) -> str:
    """Return a key that changes with the file of a model that a plug-in registers; "" for a model of this package."""
    file = Path(registry.models.entry(parse(model).name).source.rpartition(":")[0])
    is_ours = file.is_relative_to(Path(__file__).parent)
    return "" if is_ours or not file.is_file() else array_cache.stamps([file])


def _digest(weights: Weights) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(weights.tensors.items()):
        array = np.ascontiguousarray(tensor)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
