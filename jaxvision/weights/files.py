"""Where others' weights are kept: .safetensors and .pth files, folders, and repositories of the Hugging Face hub.

Nothing that a file holds is executed: safetensors hold arrays alone, and of pickles only tensors are read.
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
FILES = ("model.safetensors", "pytorch_model.bin")  # what a folder or repository calls its weights, the first preferred
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
INSIDE = ("state_dict", "model", "model_state_dict", "net")  # what training scripts call the model in what they save


class Weights(NamedTuple):
    """Tensors by name, where they are from, and what else is known of them.

    `preprocessing` is that of the images that they were trained on, `classes` what their outputs mean, `architecture`
    and `pooling` how timm calls the network and its last pooling, `spec` the model of ours that they were trained in.
    """

    tensors: Mapping[str, Any]
    place: str
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    architecture: str | None = None
    pooling: str | None = None
    spec: str | None = None


def is_source(source: str) -> bool:
    """Says whether a text looks like a file of weights or a repository, and not like a workdir."""
    if Path(source).expanduser().is_dir():
        return False
    return source.startswith(HUB) or Path(source).suffix in (".safetensors", *PICKLES)


def read(source: str) -> Weights:
    """Reads hf://owner/name, a file of weights, or a folder with one and its config.json.

    Raises FileNotFoundError where there is none, ValueError where it cannot be read or holds more than tensors.
    """
    if source.startswith(HUB):
        return download(source)
    path = Path(source).expanduser()
    config = path / "config.json" if path.is_dir() else None  # beside a single file it may be another's
    if path.is_dir():
        found = next((path / name for name in FILES if (path / name).is_file()), None)
        if found is None:
            raise FileNotFoundError(f"the folder {source!r} is neither a workdir nor has it {' or '.join(FILES)}")
        path = found
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*") if is_source(p.name)] if path.parent.is_dir() else []
        raise FileNotFoundError(f"no file of weights {source!r}{f'; there are {sorted(near)}' if near else ''}")
    tensors = _read_pickle(path) if path.suffix in PICKLES else _read_safetensors(path)
    return _described(Weights(tensors, source), config)


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    import safetensors
    import safetensors.flax  # which knows bfloat16, as NumPy's does not

    try:
        return safetensors.flax.load_file(path)
    except (safetensors.SafetensorError, AttributeError, TypeError) as error:  # the latter two of types it knows not
        raise ValueError(f"{str(path)!r} is no whole file of safetensors of known types: {error}") from None


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            f"{str(path)!r} is PyTorch's: pip install torch reads it, or save it as .safetensors where torch is"
        ) from None
    import pickle

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles by older versions
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = str(error).partition("GLOBAL ")[2].split()[:1]
        holds = f"holds {what[0]}, not tensors alone, and no code of a file is run" if what else "is no PyTorch file"
        raise ValueError(f"{str(path)!r} {holds}; save its state_dict, best as .safetensors") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{str(path)!r} is damaged or no PyTorch file: {' '.join(str(error).split())[:200]}") from None
    try:
        return {
            name.removeprefix("module."): (value.float() if value.is_floating_point() else value).detach().numpy()
            for name, value in _state_dict(content, path).items()
            if isinstance(value, torch.Tensor)
        }
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:  # sparse, quantised, meta tensors
        raise ValueError(f"{str(path)!r} holds other than plain tensors by name: {str(error)[:200]}") from None


def _state_dict(content: Any, path: Path) -> dict[str, Any]:
    """Finds the model's tensors in what a training script saved."""
    inside = next((content[n] for n in INSIDE if isinstance(content, dict) and isinstance(content.get(n), dict)), None)
    found = content if inside is None else inside
    if not isinstance(found, dict) or not any(hasattr(value, "is_floating_point") for value in found.values()):
        raise ValueError(f"{str(path)!r} holds no tensors by name, as a state_dict does")
    return found


def download(source: str) -> Weights:
    """Reads hf://owner/name, or hf://owner/name@revision, through the hub's own cache; HF_HUB_OFFLINE=1 reads it alone.

    Raises ValueError where there is no such repository, or none that has weights, OSError where it cannot be reached.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors
    from huggingface_hub.utils import logging

    name, _, revision = source.removeprefix(HUB).partition("@")
    logging.set_verbosity_error()  # which leaves its retries out

    def fetch(file: str) -> Path:
        return Path(hub.hf_hub_download(name, file, revision=revision or None))

    try:
        config = _fetched(fetch, ["config.json"])
        path = _fetched(fetch, FILES)
    except errors.HFValidationError:
        raise ValueError(f"{source!r} is not written as {HUB}owner/name") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise ValueError(f"there is no public {source!r} on the hub (a private one needs HF_TOKEN)") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError, OSError) as error:
        raise OSError(
            f"{source} is not in the hub's cache and the hub cannot be reached ({type(error).__name__}): download "
            f"{FILES[0]} and config.json where there is a network, into a folder, and give --init_from=FOLDER"
        ) from None
    if path is None:
        raise ValueError(f"{source!r} has no {' and no '.join(FILES)}")
    return _described(read(str(path))._replace(place=source), config)


def _fetched(fetch, files) -> Path | None:
    """Fetches the first of the files that the repository has."""
    from huggingface_hub import errors

    for file in files:
        try:
            return fetch(file)
        except errors.RemoteEntryNotFoundError:
            continue
    return None


def _described(found: Weights, config: Path | None) -> Weights:
    """Adds what a config.json as timm writes it says of weights; nothing where there is none."""
    try:
        content = {} if config is None else dict(json.loads(config.read_text()))
        return found._replace(**_stated({**content, **(content.get("pretrained_cfg") or {})}))
    except FileNotFoundError:
        return found
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{str(config)!r} beside the weights cannot be read: {error}") from None


def _stated(described: dict[str, Any]) -> dict[str, Any]:
    """Reads preprocessing, classes, architecture and pooling from what a config.json holds."""
    classes = described.get("label_names")
    stated = {"architecture": described.get("architecture"), "pooling": described.get("global_pool")}
    if isinstance(classes, list | tuple):
        stated["classes"] = tuple(map(str, classes))
    if "mean" not in described or "input_size" not in described:
        return stated
    channels, height, width = map(int, described["input_size"])
    mean, std = (tuple(map(float, described[name])) for name in ("mean", "std"))
    if not len(mean) == len(std) == channels or not all(math.isfinite(value) for value in mean) or not min(std) > 0:
        raise ValueError(f"mean {mean} and std {std} are not those of {channels} channels, with deviations above 0")
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
) -> None:
    """Writes model.safetensors and a config.json as timm's, from which it and `read` know preprocessing and classes.

    With is_fixed_size, timm builds the network for that size of images. Raises ValueError for a folder that is not
    empty: what is there may be the only copy.
    """
    import safetensors.numpy

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "is not empty" if folder.is_dir() else "is a file"
        raise ValueError(f"{str(folder)!r} {what}, and nothing is written over what is there; give a new folder")
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
    }
    content = {"architecture": architecture, "num_classes": num_outputs}
    content |= {"global_pool": pooling} if pooling else {}
    if len(classes) == num_outputs:
        content["label_names"] = list(classes)
    write_json(folder / "config.json", {**content, "pretrained_cfg": stated})
