"""Read and write weights: .safetensors and .pth files, folders, and Hugging Face Hub repositories.

No code in a file is run: safetensors hold only arrays, and from pickles only tensors are read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from jaxvision.interfaces import Crop, Interpolation, Preprocessing
from jaxvision.specs import nearest
from jaxvision.storage import MAX_JSON, read_file, write_json
from jaxvision.weights import state_dicts

HUB = "hf://"
CROP_MODES: dict[Any, Crop] = {"squash": None, "border": "pad"}  # timm's names of what keeps the whole image
MODES = (*CROP_MODES, "center")
CROP_PCT = 0.875  # timm's default, as is bicubic interpolation
FILES = (
    "model.safetensors",
    "pytorch_model.bin",
)  # names of the weights in a folder or repository, in order of preference
MAX_SIDE = 8192  # pixels, of the images that weights were trained on
MIN_DEVIATION = 1e-6  # of pixels in 0..1; smaller ones would turn them into numbers that no network was trained on
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".tar")


class Weights(NamedTuple):
    """Tensors by name, with their source and metadata.

    `preprocessing` is that of the training images, `classes` the names of the outputs, `architecture` and `pooling`
    timm's names of the network and its final pooling, `spec` the model of this package that they were trained in.
    Unknown ones are None. `note` states what else the source offers.
    """

    tensors: Mapping[str, Any]
    origin: str
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    architecture: str | None = None
    pooling: str | None = None
    spec: str | None = None
    note: str = ""


def is_source(source: str) -> bool:
    """Return whether a string looks like a weights file or a repository, and not like a workdir."""
    if Path(source).expanduser().is_dir():
        return False
    return source.startswith(HUB) or Path(_split(source)[0]).suffix.lower() in (".safetensors", *PICKLES)


def read(source: str) -> Weights:
    """Read hf://owner/name, a weights file, or a folder with one and its config.json.

    Raises FileNotFoundError if it does not exist, ValueError if it cannot be read or holds anything but tensors.
    """
    if source.startswith(HUB):
        return download(source)
    place, key = _split(source)
    path = Path(place).expanduser()
    config = path / "config.json" if path.is_dir() else None  # next to a single file it may belong to another
    if path.is_dir():
        file = next((path / name for name in FILES if (path / name).is_file()), None)
        if file is None:
            raise FileNotFoundError(f"the folder {source!r} is not a workdir and has no {' or '.join(FILES)}")
        path = file
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*") if is_source(p.name)] if path.parent.is_dir() else []
        raise FileNotFoundError(f"no weights file {source!r}{f'; the folder has {sorted(near)}' if near else ''}")
    if path.suffix.lower() in PICKLES:
        found = _read_pickle(path, key, place)
    elif key:
        raise ValueError(f"{str(path)!r} holds one set of tensors: remove #{key}")
    else:
        found = state_dicts.Found(dict(_read_safetensors(path)), "")
    return _described(Weights(state_dicts.without_wrappers(found.tensors), source, note=found.note), config)


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    import safetensors
    import safetensors.flax  # supports bfloat16, unlike safetensors.numpy

    try:
        return safetensors.flax.load_file(path)
    except (safetensors.SafetensorError, AttributeError, TypeError, ValueError) as error:  # types, shapes
        raise ValueError(f"{str(path)!r} is not a valid safetensors file: {error}") from None


def _read_pickle(path: Path, key: str, source: str) -> state_dicts.Found:
    """Read the model's tensors in a PyTorch file; `key` selects others than the model's own."""
    from jaxvision.weights import pickles, torch_files

    try:
        with torch_files.opened(path) as content:
            found = state_dicts.find(
                content, key, is_tensor=lambda value: isinstance(value, torch_files.Tensor), source=source
            )
            return found._replace(tensors={name: tensor.array() for name, tensor in found.tensors.items()})
    except pickles.ForeignName as error:
        raise ValueError(f"{str(path)!r} {torch_files.what_is_wrong(error.name)}") from None
    except ValueError as error:
        what = " ".join(str(error).split())[:300]
        stated = what.startswith(("holds ", "is ", "was "))
        raise ValueError(f"{str(path)!r} {'' if stated else 'is damaged or not a PyTorch file: '}{what}") from None


def _split(source: str) -> tuple[str, str]:
    """Return the file or folder of a source, and the key behind # that selects tensors in it, or ""."""
    path, _, key = source.rpartition("#")
    return (path, key) if path and not Path(source).expanduser().exists() else (source, "")


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
        content = {} if config is None else dict(json.loads(read_file(config, most=MAX_JSON)))
        stated = _stated({**content, **(content.get("pretrained_cfg") or {})})
        note = "; ".join(filter(None, [weights.note, stated.pop("note")]))
        return weights._replace(**stated, note=note)
    except FileNotFoundError:
        return weights
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"cannot read {str(config)!r} next to the weights: {str(error)[:300]}") from None


def _stated(described: dict[str, Any]) -> dict[str, Any]:
    """Return preprocessing, classes, architecture and pooling from the content of a config.json."""
    classes = described.get("label_names")
    preprocessing, notes = _preprocessing(described)
    stated = {"architecture": described.get("architecture"), "pooling": described.get("global_pool")}
    if isinstance(classes, list | tuple):
        stated["classes"] = tuple(map(str, classes))
        name, count = next(iter(Counter(stated["classes"]).most_common(1)), ("", 0))
        notes += [f"their label_names have {name!r} more than once, so that they fit no run's"] * (count > 1)
    return {**stated, "preprocessing": preprocessing, "note": "; ".join(notes)}


def _preprocessing(described: dict[str, Any]) -> tuple[Preprocessing | None, list[str]]:
    """Return the preprocessing that a config.json describes, with timm's defaults, and notes on what differs.

    Raises ValueError for numbers that cannot be, and for names that are unknown here.
    """
    size, mean, std = (described.get(name) for name in ("input_size", "mean", "std"))
    if size is None or mean is None:
        return None, []
    is_size = isinstance(size, list | tuple) and len(size) == 3 and all(type(side) is int for side in size)
    if not is_size or not 1 <= min(size[1:]) <= max(size[1:]) <= MAX_SIDE:
        raise ValueError(f"input_size={size!r}; expected channels, height and width, integers from 1 to {MAX_SIDE}")
    for name, values, least, most in (("mean", mean, 0, 1), ("std", std, MIN_DEVIATION, 1 / MIN_DEVIATION)):
        numbers: Any = values if isinstance(values, list | tuple) and len(values) == size[0] else [None]
        if not all(type(value) in (int, float) and least <= value <= most for value in numbers):
            expected = f"{size[0]} finite numbers, one a channel, from {least:g} to {most:g}, for pixels from 0 to 1"
            raise ValueError(f"{name}={values!r}; expected {expected}")
    interpolation, mode = described.get("interpolation") or "bicubic", described.get("crop_mode") or "center"
    for name, value, known in (("interpolation", interpolation, get_args(Interpolation)), ("crop_mode", mode, MODES)):
        if value not in known:
            raise ValueError(f"{name}={value!r}{nearest(str(value), known)}; expected {', '.join(known)}")
    fraction = described.get("crop_pct")
    fraction = CROP_PCT if fraction is None else fraction
    if type(fraction) not in (int, float) or not 0 < fraction <= 1:
        raise ValueError(f"crop_pct={fraction!r}; expected a number above 0 and at most 1")
    is_cut = mode in CROP_MODES and fraction < 1
    notes = [f"their crop_mode={mode!r} with crop_pct={fraction:g} cuts the borders, which are kept here"] * is_cut
    crop = CROP_MODES.get(mode, float(fraction))
    means, deviations = tuple(map(float, mean)), tuple(map(float, std or ()))
    return Preprocessing((size[1], size[2]), size[0], means, deviations, crop, interpolation), notes


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
        "crop_pct": 1.0 if preprocessing.crop in CROP_MODES.values() else preprocessing.crop,
        "crop_mode": {crop: mode for mode, crop in CROP_MODES.items()}.get(preprocessing.crop, "center"),
        "fixed_input_size": is_fixed_size,
        **(layers or {}),
    }
    content = {"architecture": architecture, "num_classes": num_outputs}
    content |= {"global_pool": pooling} if pooling else {}
    if len(classes) == num_outputs:
        content["label_names"] = list(classes)
    write_json(folder / "config.json", {**content, "pretrained_cfg": stated})
