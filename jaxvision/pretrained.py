"""Models that begin with weights of elsewhere: `pretrained`, a workdir, a file, a folder, hf://owner/name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import registry, specs
from jaxvision import run as runs
from jaxvision.config import Config
from jaxvision.distributed import compilation, runtime
from jaxvision.engine import checkpoint
from jaxvision.images import IMAGENET_MEAN, IMAGENET_STD
from jaxvision.interfaces import Model, Preprocessing, Tree
from jaxvision.plugins import load_plugins
from jaxvision.weights import files as weight_files
from jaxvision.weights import mapping as weights
from jaxvision.weights.files import Weights
from jaxvision.workdir import Signature

PRETRAINED = "pretrained"
AT_RANDOM = {"dropout", "drop_path"}  # arguments that act in training alone
NUM_LISTED = 4  # of what does not fit


class Start(NamedTuple):
    """Parameters and state to begin with, what weights they are from, and what of these was changed or is doubtful."""

    params: Tree
    state: Tree
    place: str = ""
    notes: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """All of it in one sentence; "" where the parameters are new."""
        told = "; ".join(self.notes)
        return f"begins with {self.place}{': ' if told else ''}{told}" if self.place else ""


def peers(name: str) -> dict[str, str]:
    """What a model is called elsewhere, by library, as its registration states."""
    facts = registry.models.entry(name).facts
    timm = {"timm": facts["weights"].rpartition("/")[2].partition(".")[0]} if "weights" in facts else {}
    torchvision = {"torchvision": facts["torchvision"]} if "torchvision" in facts else {}
    return {**torchvision, **timm}


def open_weights(model: str, source: str, *, plugins: Sequence[str] = ()) -> Weights:
    """Reads the weights that `init_from` names for a model spec.

    `source` is "pretrained" (the variant's own on the hub), a workdir, a folder with model.safetensors and config.json,
    a .safetensors or .pth file, or hf://owner/name. Raises ValueError, FileNotFoundError or OSError saying why not.
    """
    if source == PRETRAINED:
        name = specs.parse(model).name
        hub = registry.models.entry(name).facts.get("weights")
        if hub is None:
            known = [n for n in registry.models.names() if "weights" in registry.models.entry(n).facts]
            raise ValueError(
                f"the model {name!r} has no pretrained weights that are known; {', '.join(known)} have some"
            )
        return weight_files.download(weight_files.HUB + hub)
    if not weight_files.is_source(source) and (Path(source).expanduser() / "signature.json").is_file():
        trained = runs.load(source, plugins=plugins)
        signature, tensors = trained.run.signature, weights.tensors_of(trained.params, trained.model_state)
        place, spec = f"step {trained.step} of {source}", trained.run.config.model
        return Weights(tensors, place, signature.preprocessing, signature.classes, spec=spec)
    if not weight_files.is_source(source) and not Path(source).expanduser().exists():
        near = specs.nearest(source, [PRETRAINED])
        raise FileNotFoundError(
            f"init_from={source!r}: no such folder{near}; wanted {PRETRAINED}, a workdir, a folder with "
            f"model.safetensors, a .safetensors or .pth file, or {weight_files.HUB}owner/name"
        )
    return weight_files.read(source)


def open_for_run(
    config: Config, workdir: Path, *, plugins: Sequence[str] = ()
) -> tuple[Weights | None, Preprocessing | None]:
    """Reads the weights that a run begins with, and their preprocessing; one that goes on needs but the latter."""
    assert config.init_from is not None
    if checkpoint.exists(workdir / "checkpoints"):
        return None, Signature.load(workdir / "signature.json").preprocessing
    found = open_weights(config.model, config.init_from, plugins=plugins)
    return found, preprocessing_of(config.model, found)


def preprocessing_of(model: str, found: Weights) -> Preprocessing | None:
    """Gives what belongs to the weights; where their source says nothing, what torchvision evaluates ImageNet by.

    None, the data's own, where it says nothing and the model is not one of those known by ImageNet.
    """
    facts = registry.models.entry(specs.parse(model).name).facts
    if found.preprocessing is not None or not peers(specs.parse(model).name):
        return found.preprocessing
    height, width, channels = facts.get("input_size", (224, 224, 3))
    mean, std = facts.get("mean", IMAGENET_MEAN), facts.get("std", IMAGENET_STD)
    return Preprocessing((height, width), channels, mean, std, crop=0.875)


def begin(
    model: Model,
    spec: str,
    params: Tree,
    state: Tree,
    found: Weights,
    *,
    size: tuple[int, ...],
    classes: tuple[str, ...] | None = None,
    replace_head: bool = False,
) -> Start:
    """Puts the weights in the place of initial parameters, and says what was replaced, adapted or left out.

    Inputs have `size` (height, width). With replace_head, a head of another width, or for other `classes`, stays as it
    was initialised. Raises ValueError that lists by name and shape what does not fit.
    """
    facts = registry.models.entry(specs.parse(spec).name).facts
    names, unused = facts.get("names", {}), facts.get("unused", ())
    sizes = {"size": size, "their_size": found.preprocessing.size if found.preprocessing else None}
    fitted = weights.fit(found.tensors, params, state, names, **sizes, unused=unused)
    if fitted.broken:
        raise ValueError(
            f"the weights of {found.place} are broken, not finite or a variance below 0, in "
            f"{', '.join(fitted.broken[:NUM_LISTED])}"
        )
    heads = {path for path in weights.tensors_of(params, state) if path.split("/")[0] == model.head}
    misfits = heads & {*fitted.missing, *fitted.misshapen}
    are_others = bool(classes and found.classes and tuple(classes) != found.classes)
    said = []
    if replace_head and (misfits or are_others):
        why = _told(fitted, sorted(misfits)[-1]) if misfits else "other classes"
        said.append(f"the head is new ({why})")
        fitted = weights.fit(found.tensors, params, state, names, **sizes, unused=unused, skip=heads)
    _check(spec, found, fitted, heads)
    said += [f"adapted {text}" for text in fitted.adapted]
    said += _doubts(spec, found, fitted.source)
    said += [f"left out {len(fitted.unused)} of {', '.join(unused)}, which this model has not"] if fitted.unused else []
    count = f"{len(fitted.used)} tensors under the names of {fitted.source}"
    return Start(fitted.params, fitted.state, f"{found.place} ({count})", tuple(said))


def begin_run(run: runs.Run, params: Tree, state: Tree, found: Weights) -> Start:
    """Puts weights in the place of a run's new parameters and state; a head for other classes is new."""
    size, classes = run.signature.preprocessing.size, run.signature.classes
    start = begin(run.model, run.config.model, params, state, found, size=size, classes=classes, replace_head=True)
    if found.preprocessing is not None:
        return start
    usual = preprocessing_of(run.config.model, found) is not None
    whose = "torchvision's for ImageNet" if usual else "the data's own"
    return start._replace(notes=(*start.notes, f"nothing states their preprocessing, so it is {whose}"))


def _doubts(spec: str, found: Weights, source: str) -> list[str]:
    """Says how the network that weights were trained in differs from the model, as far as that is known."""
    name = specs.parse(spec).name
    facts, told = registry.models.entry(name).facts, []
    if found.spec is not None:
        ours, theirs = (specs.parse(each) for each in (spec, found.spec))
        if ours.name != theirs.name or _given(ours) != _given(theirs):
            told.append(f"they were trained in {found.spec}, which is not quite this model")
    elif source in facts.get("names", {}):
        otherwise = computes_otherwise(spec, source)
        told += [f"{otherwise}, which is not quite this model (--model='…' takes it)"] if otherwise else []
    peer, pooling = peers(name).get("timm"), facts.get("pooling", "avg")
    if peer and found.architecture not in (None, peer):
        told.append(f"they are of timm's {found.architecture}, and this model is its {peer}: it may compute otherwise")
    if found.pooling not in (None, "", pooling):
        told.append(f"they were trained with the pooling {found.pooling!r}, and this model has {pooling!r}")
    return told


def _given(spec: specs.Spec) -> dict[str, Any]:
    """The arguments of a spec that change what is computed in evaluation, those that are not the defaults."""
    return {
        name: value
        for name, value in spec.arguments.items()
        if name not in AT_RANDOM and value != registry.models.default(spec.name, name)
    }


def computes_otherwise(spec: str, source: str) -> str:
    """Says how the model that a spec names would compute as a library's, where it does not; "" where it does.

    What drops at random acts in training alone, and is no difference.
    """
    name, arguments = specs.parse(spec)
    theirs = registry.models.entry(name).facts.get("options", {}).get(source, {})
    names = (arguments.keys() | theirs.keys()) - AT_RANDOM
    defaults = {each: registry.models.default(name, each) for each in names}
    differing = {
        each: theirs.get(each, defaults[each])
        for each in sorted(names)
        if arguments.get(each, defaults[each]) != theirs.get(each, defaults[each])
    }
    return f"{source}'s is {specs.Spec(name, {**arguments, **differing})}" if differing else ""


def _told(fitted: weights.Fitted, path: str) -> str:
    """Says what is wrong with a parameter."""
    if path in fitted.missing:
        return f"{path} {list(fitted.missing[path])} is missing"
    there, here = fitted.misshapen[path]
    return f"{path} is {list(there)} there, {list(here)} here"


def _check(spec: str, found: Weights, fitted: weights.Fitted, heads: set[str]) -> None:
    """Raises ValueError where weights do not fit a model."""
    wrong = [*fitted.misshapen, *fitted.missing]
    if not wrong and not fitted.unexpected:
        return
    told = [_told(fitted, path) for path in wrong]
    told += [f"{name} {list(shape)} has no place" for name, shape in sorted(fitted.unexpected.items())]
    more = f", and {len(told) - NUM_LISTED} more" if len(told) > NUM_LISTED else ""
    told_spec = f"; they are of --model={found.spec!r}" if found.spec and found.spec != spec else ""
    repair = "; replace_head=True begins with a new head" if not fitted.unexpected and heads.issuperset(wrong) else ""
    raise ValueError(
        f"the weights of {found.place} do not fit the model {spec!r} ({len(fitted.used)} tensors do): "
        f"{'; '.join(told[:NUM_LISTED])}{more}{repair}{told_spec or _likely(found)}"
    )


def _likely(found: Weights) -> str:
    """Names the registered models that have as many parameters as the tensors, which they may be meant for."""
    total = sum(int(np.prod(t.shape)) for name, t in found.tensors.items() if not weights.is_statistic(name))
    names = [n for n in registry.models.names() if registry.models.entry(n).facts.get("num_parameters") == total]
    return f"; {' and '.join(names)} has as many parameters" if names else ""


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
    """Makes a registered model with its parameters and state, from `init_from` where that is given: see `open_weights`.

    The model takes preprocessed inputs [B, H, W, channels]: floats, normalised; image_size is by default that which it
    was registered with. Raises ValueError that lists what does not fit; with replace_head, a head of another width
    than output_size is new. Warns of what was changed, or computes otherwise than where the weights are from.

        model, params, state = create_model("resnet50", output_size=1000, init_from="pretrained")
        logits, _ = model.apply(params, state, inputs, train=False, key=None)
    """
    load_plugins(plugins)
    runtime.use_compilation_cache()
    made: Model = registry.models.build(model, output_size=output_size)
    stated = registry.models.entry(specs.parse(model).name).facts.get("input_size", (224, 224, 3))[:2]
    size = (image_size, image_size) if isinstance(image_size, int) else image_size or stated
    found = open_weights(model, init_from, plugins=plugins) if init_from else None
    params, state = compilation.compile_init(made.init)(
        jax.random.key(seed), np.zeros((1, *size, channels), np.float32)
    )
    if found is None:
        return made, params, state
    start = begin(made, model, params, state, found, size=size, replace_head=replace_head)
    if start.notes:
        warnings.warn(start.said.replace("begins", f"{model} begins", 1), stacklevel=2)
    return made, *jax.tree.map(jax.numpy.asarray, (start.params, start.state))
