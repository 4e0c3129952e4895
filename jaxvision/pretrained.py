"""Models initialized from weights: `pretrained`, a workdir, a file, a folder, hf://owner/name or package:NAME."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import registry, specs
from jaxvision import run as runs
from jaxvision.config import Config
from jaxvision.data import IN_MEMORY
from jaxvision.distributed import compilation, multihost, runtime
from jaxvision.engine import checkpoint
from jaxvision.images import IMAGENET_MEAN, IMAGENET_STD
from jaxvision.interfaces import Dataset, Model, Preprocessing, Tree
from jaxvision.plugins import load_plugins
from jaxvision.weights import files as weight_files
from jaxvision.weights import mapping as weights
from jaxvision.weights import packages
from jaxvision.weights.files import Weights
from jaxvision.workdir import Signature

PRETRAINED = "pretrained"
AT_RANDOM = {"dropout", "drop_path"}  # arguments that only act in training
NUM_LISTED = 4  # mismatches that a message shows


class Start(NamedTuple):
    """Parameters and state to start from, their source, and notes on what was changed or may not match."""

    params: Tree
    state: Tree
    origin: str = ""
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """One sentence with all of it; "" if the parameters are new."""
        details = "; ".join(self.notes)
        return f"starts from {self.origin}{': ' if details else ''}{details}" if self.origin else ""


def peers(name: str) -> dict[str, str]:
    """Return the names of a model in other libraries, by library, as its registration states."""
    metadata = registry.models.entry(name).metadata
    own = {source: metadata[source] for source in ("torchvision", "timm") if source in metadata}
    if "timm" not in own and isinstance(metadata.get("weights"), str):
        own["timm"] = metadata["weights"].rpartition("/")[2].partition(".")[0]
    return own


def open_weights(model: str, source: str, *, plugins: Sequence[str] = ()) -> Weights:
    """Load the weights that `init_from` names for a model spec.

    `source` is "pretrained" (the registered weights of the model, on the hub or in a Python package), a workdir, a
    folder with model.safetensors and config.json, a .safetensors or .pth file, hf://owner/name, or package:NAME. Raises
    ValueError, FileNotFoundError or OSError with the cause.
    """
    if source == PRETRAINED:
        source = _registered(specs.parse(model).name)
    if source.startswith(packages.PACKAGE):
        return multihost.main_process_first(lambda: packages.read(source))
    if source.startswith(weight_files.HUB):
        try:
            return multihost.main_process_first(lambda: weight_files.download(source))
        except OSError as error:
            raise OSError(f"{error}{packages.instead_of_hub(model)}") from None
    if not weight_files.is_source(source) and (Path(source).expanduser() / "signature.json").is_file():
        trained = runs.load(source, plugins=plugins)
        signature, tensors = trained.run.signature, weights.tensors_of(trained.params, trained.model_state)
        origin, spec = f"step {trained.step} of {source}", trained.run.config.model
        return Weights(tensors, origin, signature.preprocessing, signature.classes, spec=spec)
    if not weight_files.is_source(source) and not Path(source).expanduser().exists():
        near = specs.nearest(source, [PRETRAINED])
        raise FileNotFoundError(
            f"init_from={source!r}: no such folder{near}; expected {PRETRAINED}, a workdir, a folder with "
            f"model.safetensors, a .safetensors or .pth file, {weight_files.HUB}owner/name or {packages.PACKAGE}NAME"
        )
    return multihost.main_process_first(lambda: weight_files.read(source))


def _registered(name: str) -> str:
    """Return the source of a model's registered weights. Raises ValueError if it has none."""
    own = registry.models.entry(name).metadata.get("weights")
    if own is None:
        known = [n for n in registry.models.names() if "weights" in registry.models.entry(n).metadata]
        raise ValueError(
            f"the model {name!r} has no registered pretrained weights; these models have: {', '.join(known)}"
        )
    return weight_files.HUB + own if isinstance(own, str) else str(own)


def open_for_run(
    config: Config, workdir: Path, *, plugins: Sequence[str] = ()
) -> tuple[Weights | None, Preprocessing | None]:
    """Load the weights that a run starts from, and their preprocessing; a resumed run needs only the latter."""
    assert config.init_from is not None
    if checkpoint.exists(workdir / "checkpoints"):
        return None, Signature.load(workdir / "signature.json").preprocessing
    loaded = open_weights(config.model, config.init_from, plugins=plugins)
    return loaded, preprocessing_of(config.model, loaded)


def preprocessing_of(model: str, loaded: Weights) -> Preprocessing | None:
    """Return the preprocessing that the weights state, or else torchvision's for ImageNet evaluation.

    None, for the preprocessing of the data, if the weights state nothing and the model is not known from ImageNet.
    """
    metadata = registry.models.entry(specs.parse(model).name).metadata
    if loaded.preprocessing is not None or not peers(specs.parse(model).name):
        return loaded.preprocessing
    height, width, channels = metadata.get("input_size", (224, 224, 3))
    mean, std = metadata.get("mean", IMAGENET_MEAN), metadata.get("std", IMAGENET_STD)
    return Preprocessing((height, width), channels, mean, std, crop=0.875)


def preprocessed(dataset: Dataset, spec: str, target: Preprocessing) -> Dataset:
    """Return a dataset with the preprocessing of weights, except for what its spec sets itself."""
    name, arguments = specs.parse(spec)
    is_asked = "image_size" in arguments or (name != IN_MEMORY and registry.datasets.takes(spec, "preprocessing"))
    shapes = [
        (preprocessing.size, preprocessing.crop, preprocessing.interpolation, preprocessing.resize)
        for preprocessing in (dataset.preprocessing, target)
    ]
    if not is_asked and shapes[0] != shapes[1]:
        from jaxvision.arrays import resized

        dataset = resized(dataset, target)
    return dataset._replace(preprocessing=_with_normalization_of(dataset.preprocessing, target))


def _with_normalization_of(preprocessing: Preprocessing, other: Preprocessing) -> Preprocessing:
    """Return preprocessing with the mean and std of another, averaged and repeated if the channels differ."""
    mean, std = (
        tuple(values)
        if len(values) == preprocessing.channels
        else (sum(values) / len(values),) * preprocessing.channels
        for values in (other.mean, other.std)
    )
    return dataclasses.replace(preprocessing, mean=mean, std=std)


def begin(
    model: Model,
    spec: str,
    params: Tree,
    state: Tree,
    loaded: Weights,
    *,
    size: tuple[int, ...],
    classes: tuple[str, ...] | None = None,
    replace_head: bool = False,
) -> Start:
    """Replace initial parameters by weights, and note what was replaced, adapted or left out.

    Args:
        model: The model, which names its head.
        spec: The spec of the model.
        params: Initial parameters.
        state: Initial state.
        loaded: The weights.
        size: (height, width) of the inputs.
        classes: The classes of the run.
        replace_head: Keep the initial head if the weights have one of another width or for other classes.

    Raises:
        ValueError: The weights do not fit; the message lists parameters by name and shape.
    """
    metadata = registry.models.entry(specs.parse(spec).name).metadata
    names, unused = metadata.get("names", {}), metadata.get("unused", ())
    sizes = {"size": size, "their_size": loaded.preprocessing.size if loaded.preprocessing else None}
    fitted = weights.fit(loaded.tensors, params, state, names, **sizes, unused=unused)
    if fitted.broken:
        raise ValueError(
            f"the weights of {loaded.origin} are invalid (not finite, or a negative variance) in "
            f"{', '.join(fitted.broken[:NUM_LISTED])}"
        )
    heads = {path for path in weights.tensors_of(params, state) if path.split("/")[0] == model.head}
    misfits = heads & {*fitted.missing, *fitted.misshapen}
    are_others = bool(classes and loaded.classes and tuple(classes) != loaded.classes)
    notes = [loaded.note] if loaded.note else []
    if replace_head and (misfits or are_others):
        why = _told(fitted, sorted(misfits)[-1]) if misfits else "different classes"
        notes.append(f"the head is new ({why})")
        fitted = weights.fit(loaded.tensors, params, state, names, **sizes, unused=unused, skip=heads)
    _check(spec, loaded, fitted, heads)
    notes += [f"adapted {text}" for text in fitted.adapted]
    notes += _doubts(spec, loaded, fitted.source)
    notes += (
        [f"ignored {len(fitted.unused)} of {', '.join(unused)}, which this model does not have"]
        if fitted.unused
        else []
    )
    count = f"{len(fitted.used)} tensors under the names of {fitted.source}"
    return Start(fitted.params, fitted.state, f"{loaded.origin} ({count})", tuple(notes))


def begin_run(run: runs.Run, params: Tree, state: Tree, loaded: Weights, data: Dataset) -> Start:
    """Replace a run's new parameters and state by weights; the head stays new if the classes differ, or is fitted."""
    size, classes = run.signature.preprocessing.size, run.signature.classes
    start = begin(run.model, run.config.model, params, state, loaded, size=size, classes=classes, replace_head=True)
    if run.config.head_init == "probe":
        from jaxvision import fitted_head

        start = fitted_head.with_fitted_head(start, run, data, loaded)
    if loaded.preprocessing is not None:
        return start
    usual = preprocessing_of(run.config.model, loaded) is not None
    whose = "torchvision's for ImageNet" if usual else "that of the data"
    return start._replace(notes=(*start.notes, f"their preprocessing is unknown, so {whose} is used"))


def _doubts(spec: str, loaded: Weights, source: str) -> list[str]:
    """Return known differences between the network that the weights were trained in and the model."""
    name = specs.parse(spec).name
    metadata, doubts = registry.models.entry(name).metadata, []
    if loaded.spec is not None:
        ours, theirs = (specs.parse(each) for each in (spec, loaded.spec))
        if ours.name != theirs.name or _given(ours) != _given(theirs):
            doubts.append(f"they were trained in {loaded.spec}, which differs from this model")
    elif source in metadata.get("names", {}):
        otherwise = computes_otherwise(spec, source)
        doubts += [f"{otherwise}, which differs from this model (--model='…' selects it)"] if otherwise else []
    peer, pooling = peers(name).get("timm"), metadata.get("pooling", "avg")
    if peer and loaded.architecture not in (None, peer):
        doubts.append(f"they are for timm's {loaded.architecture}, and this model is its {peer}: outputs may differ")
    if loaded.pooling not in (None, "", pooling):
        doubts.append(f"they were trained with pooling {loaded.pooling!r}, and this model uses {pooling!r}")
    return doubts


def _given(spec: specs.Spec) -> dict[str, Any]:
    """Return the arguments of a spec that change the evaluation outputs and differ from their defaults."""
    return {
        name: value
        for name, value in spec.arguments.items()
        if name not in AT_RANDOM and value != registry.models.default(spec.name, name)
    }


def computes_otherwise(spec: str, source: str) -> str:
    """Return how a library's model differs from the one that a spec names, or "" if it does not.

    Dropout and drop path only act in training and are ignored.
    """
    name, arguments = specs.parse(spec)
    theirs = registry.models.entry(name).metadata.get("options", {}).get(source, {})
    names = (arguments.keys() | theirs.keys()) - AT_RANDOM
    defaults = {argument: registry.models.default(name, argument) for argument in names}
    differing = {
        argument: theirs.get(argument, defaults[argument])
        for argument in sorted(names)
        if arguments.get(argument, defaults[argument]) != theirs.get(argument, defaults[argument])
    }
    return f"{source}'s is {specs.Spec(name, {**arguments, **differing})}" if differing else ""


def _told(fitted: weights.Fitted, path: str) -> str:
    """Return what is wrong with a parameter."""
    if path in fitted.missing:
        return f"{path} {list(fitted.missing[path])} is missing"
    there, here = fitted.misshapen[path]
    return f"{path} is {list(there)} in the weights, {list(here)} in the model"


def _check(spec: str, loaded: Weights, fitted: weights.Fitted, heads: set[str]) -> None:
    """Raise ValueError if weights do not fit a model."""
    wrong = [*fitted.misshapen, *fitted.missing]
    if not wrong and not fitted.unexpected:
        return
    mismatches = [_told(fitted, path) for path in wrong]
    mismatches += [f"{name} {list(shape)} is unexpected" for name, shape in sorted(fitted.unexpected.items())]
    more = f", and {len(mismatches) - NUM_LISTED} more" if len(mismatches) > NUM_LISTED else ""
    other_spec = f"; they are for --model={loaded.spec!r}" if loaded.spec and loaded.spec != spec else ""
    repair = "; replace_head=True initializes a new head" if not fitted.unexpected and heads.issuperset(wrong) else ""
    raise ValueError(
        f"the weights of {loaded.origin} do not fit the model {spec!r} ({len(fitted.used)} tensors do): "
        f"{'; '.join(mismatches[:NUM_LISTED])}{more}{repair}{other_spec or _likely(loaded)}"
    )


def _likely(loaded: Weights) -> str:
    """Return a hint with the registered models that have as many parameters as the weights."""
    total = sum(int(np.prod(t.shape)) for name, t in loaded.tensors.items() if not weights.is_statistic(name))
    names = [n for n in registry.models.names() if registry.models.entry(n).metadata.get("num_parameters") == total]
    return f"; {' and '.join(names)} has the same number of parameters" if names else ""


def create_model(
    model: str,
    *,
    output_size: int,
    init_from: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    seed: int = 0,
    replace_head: bool = False,
    plugins: Sequence[str] = (),
) -> tuple[Model, Tree, Tree]:
    """Build a registered model with its parameters and state, new or from pretrained weights.

    The model takes preprocessed (normalized) float inputs [B, H, W, channels]. Warns about what was changed in the
    weights, and about known differences from the model that they were trained in.

    Args:
        model: The spec of a registered model.
        output_size: The number of outputs.
        init_from: Weights: "pretrained", a workdir, a folder, a .safetensors or .pth file, hf://owner/name, or
            package:NAME. If None, parameters are initialized at random.
        image_size: Height and width in pixels. If None, the size that the model is registered with.
        channels: The number of input channels.
        seed: The seed of the initialization.
        replace_head: Initialize a new head if the weights have another number of outputs.
        plugins: Modules or .py files that register further models.

    Returns:
        The model, its parameters and its state.

    Raises:
        ValueError: The weights do not fit the model; the message lists what does not.

    Example:
        model, params, state = create_model("resnet50", output_size=1000, init_from="pretrained")
        logits, _ = model.apply(params, state, inputs, train=False, key=None)
    """
    load_plugins(plugins)
    runtime.use_compilation_cache()
    built: Model = registry.models.build(model, output_size=output_size)
    default_size = registry.models.entry(specs.parse(model).name).metadata.get("input_size", (224, 224, 3))[:2]
    size = (image_size, image_size) if isinstance(image_size, int) else image_size or default_size
    loaded = open_weights(model, init_from, plugins=plugins) if init_from else None
    params, state = compilation.compile_init(built.init)(
        jax.random.key(seed), np.zeros((1, *size, channels), np.float32)
    )
    if loaded is None:
        return built, params, state
    start = begin(built, model, params, state, loaded, size=size, replace_head=replace_head)
    if start.notes:
        warnings.warn(start.summary.replace("starts", f"{model} starts", 1), stacklevel=2)
    return built, *jax.tree.map(jax.numpy.asarray, (start.params, start.state))
