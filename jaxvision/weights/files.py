"""Read and write weights: .safetensors and .pth files, folders, and Hugging Face Hub repositories.

No code in a file is run: safetensors hold only arrays, and from pickles only tensors are read.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from jaxvision.interfaces import Interpolation, Preprocessing
from jaxvision.storage import write_json

HUB = "hf://"
FILES = (
    "model.safetensors",
    "pytorch_model.bin",
)  # names of the weights in a folder or repository, in order of preference
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
INSIDE = ("state_dict", "model", "model_state_dict", "net")  # keys under which training scripts save the model


class Weights(NamedTuple):
    """Tensors by name, with their source and metadata.

    `preprocessing` is that of the training images, `classes` the names of the outputs, `architecture` and `pooling`
    timm's names of the network and its final pooling, `spec` the model of this package that they were trained in.
    Unknown ones are None.
    """

    tensors: Mapping[str, Any]
    origin: str
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    architecture: str | None = None
    pooling: str | None = None
    spec: str | None = None


def is_source(source: str) -> bool:
    """Return whether a string looks like a weights file or a repository, and not like a workdir."""
    if Path(source).expanduser().is_dir():
        return False
    return source.startswith(HUB) or Path(source).suffix in (".safetensors", *PICKLES)


def read(source: str) -> Weights:
    """Read hf://owner/name, a weights file, or a folder with one and its config.json.

    Raises FileNotFoundError if it does not exist, ValueError if it cannot be read or holds anything but tensors.
    """
    if source.startswith(HUB):
        return download(source)
    path = Path(source).expanduser()
    config = path / "config.json" if path.is_dir() else None  # next to a single file it may belong to another
    if path.is_dir():
        file = next((path / name for name in FILES if (path / name).is_file()), None)
        if file is None:
            raise FileNotFoundError(f"the folder {source!r} is not a workdir and has no {' or '.join(FILES)}")
        path = file
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*") if is_source(p.name)] if path.parent.is_dir() else []
        raise FileNotFoundError(f"no weights file {source!r}{f'; the folder has {sorted(near)}' if near else ''}")
    tensors = _read_pickle(path) if path.suffix in PICKLES else _read_safetensors(path)
    return _described(Weights(tensors, source), config)


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    import safetensors
    import safetensors.flax  # supports bfloat16, unlike safetensors.numpy

    try:
        return safetensors.flax.load_file(path)
    except (safetensors.SafetensorError, AttributeError, TypeError) as error:  # the latter two for unknown types
        raise ValueError(f"{str(path)!r} is not a valid safetensors file: {error}") from None


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            f"{str(path)!r} is a PyTorch file; run pip install torch to read it, or save it as .safetensors"
        ) from None
    import pickle

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of older versions
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = str(error).partition("GLOBAL ")[2].split()[:1]
        holds = f"holds {what[0]}; expected only tensors" if what else "is not a PyTorch file"
        raise ValueError(f"{str(path)!r} {holds}; save its state_dict, preferably as .safetensors") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{str(path)!r} is damaged or not a PyTorch file: {' '.join(str(error).split())[:200]}"
        ) from None
    try:
        return {
            name.removeprefix("module."): (value.float() if value.is_floating_point() else value).detach().numpy()
            for name, value in _state_dict(content, path).items()
            if isinstance(value, torch.Tensor)
        }
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:  # sparse, quantized or meta tensors
        raise ValueError(f"{str(path)!r} holds tensors that are not dense: {str(error)[:200]}") from None


def _state_dict(content: Any, path: Path) -> dict[str, Any]:
    """Return the model's tensors from what a training script saved."""
    inside = next((content[n] for n in INSIDE if isinstance(content, dict) and isinstance(content.get(n), dict)), None)
    tensors = content if inside is None else inside
    if not isinstance(tensors, dict) or not any(hasattr(value, "is_floating_point") for value in tensors.values()):
        raise ValueError(f"{str(path)!r} holds no state_dict of tensors by name")
    return tensors


def download(source: str) -> Weights:
    """Read hf://owner/name, or hf://owner/name@revision, through the hub's cache; only the cache if HF_HUB_OFFLINE=1.

    Raises ValueError if the repository does not exist or has no weights, OSError if the hub cannot be reached.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors
    from huggingface_hub.utils import logging

    name, _, revision = source.removeprefix(HUB).partition("@")
    logging.set_verbosity_error()  # hides its retries

    def fetch(file: str) -> Path:
        return Path(hub.hf_hub_download(name, file, revision=revision or None))

    try:
        config = _fetched(fetch, ["config.json"])
        path = _fetched(fetch, FILES)
    except errors.HFValidationError:
        raise ValueError(f"{source!r} is not of the form {HUB}owner/name") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise ValueError(f"no public repository {source!r} on the hub; a private one needs HF_TOKEN") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError, OSError) as error:
        raise OSError(
            f"{source} is not in the hub's cache and the hub cannot be reached ({type(error).__name__}); download "
            f"{FILES[0]} and config.json into a folder on a connected machine, and use --init_from=FOLDER"
        ) from None
    if path is None:
        raise ValueError(f"{source!r} has no {' and no '.join(FILES)}")
    return _described(read(str(path))._replace(origin=source), config)


def _fetched(fetch, files) -> Path | None:
    """Fetch the first of the files that the repository has; None if it has none of them."""
    from huggingface_hub import errors

    for file in files:
        try:
            return fetch(file)
        except errors.RemoteEntryNotFoundError:
            continue
    return None


def _described(weights: Weights, config: Path | None) -> Weights:
    """Add the metadata of a config.json in timm's format, if there is one."""
    try:
        content = {} if config is None else dict(json.loads(config.read_text()))
        return weights._replace(**_stated({**content, **(content.get("pretrained_cfg") or {})}))
    except FileNotFoundError:
        return weights
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"cannot read {str(config)!r} next to the weights: {error}") from None


def _stated(described: dict[str, Any]) -> dict[str, Any]:
    """Return preprocessing, classes, architecture and pooling from the content of a config.json."""
    classes = described.get("label_names")
    stated = {"architecture": described.get("architecture"), "pooling": described.get("global_pool")}
    if isinstance(classes, list | tuple):
        stated["classes"] = tuple(map(str, classes))
    if "mean" not in described or "input_size" not in described:
        return stated
    channels, height, width = map(int, described["input_size"])
    mean, std = (tuple(map(float, described[name])) for name in ("mean", "std"))
    if not len(mean) == len(std) == channels or not all(math.isfinite(value) for value in mean) or not min(std) > 0:
        raise ValueError(f"mean={mean}, std={std}; expected {channels} finite numbers each, std above 0")
    interpolation = described.get("interpolation", "bilinear")
    crop = described.get("crop_pct")
    preprocessing = Preprocessing(
        (height, width),
        channels,
        mean,
        std,
        None if described.get("crop_mode") == "squash" else 1.0 if crop is None else float(crop),
        interpolation if interpolation in get_args(Interpolation) else "bilinear",
    )
    return {**stated, "preprocessing": preprocessing}


def write(
    folder: Path,
    tensors: Mapping[str, Any],
    *,
    architecture: str,
    preprocessing: Preprocessing,
    classes: tuple[str, ...],
    num_outputs: int,
    pooling: str | None = None,
    is_fixed_size: bool = False,
    layers: Mapping[str, str] | None = None,
) -> None:
    """Write model.safetensors and a config.json in timm's format, with preprocessing and classes.

    Args:
        folder: folder to write to, new or empty.
        tensors: arrays by name.
        architecture: timm's name of the network.
        preprocessing: preprocessing of the training images.
        classes: names of the outputs.
        num_outputs: number of outputs.
        pooling: timm's name of the final pooling.
        is_fixed_size: whether timm should build the network for this image size.
        layers: timm's names of the layers that its num_classes= and in_chans= replace, "classifier" and "first_conv".

    Raises:
        ValueError: if the folder is not empty.
    """
    import safetensors.numpy

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "is not empty" if folder.is_dir() else "is a file"
        raise ValueError(f"{str(folder)!r} {what}, and nothing is overwritten; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILES[0]).write_bytes(safetensors.numpy.save(dict(tensors)))
    stated = {
        "input_size": [preprocessing.channels, *preprocessing.size],
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "interpolation": preprocessing.interpolation,
        "crop_pct": preprocessing.crop or 1.0,
        "crop_mode": "center" if preprocessing.crop else "squash",
        "fixed_input_size": is_fixed_size,
        **(layers or {}),
    }
    content = {"architecture": architecture, "num_classes": num_outputs}
    content |= {"global_pool": pooling} if pooling else {}
    if len(classes) == num_outputs:
        content["label_names"] = list(classes)
    write_json(folder / "config.json", {**content, "pretrained_cfg": stated})
