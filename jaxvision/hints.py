"""What an error message suggests: the nearest name, the name since version 0.1, or what other tools call it."""

from __future__ import annotations

import difflib
import errno
import inspect
import math
import os
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from jaxvision import upgrades
from jaxvision.config import Config, Execution, fields_of
from jaxvision.specs import Spec, nearest, parse

if TYPE_CHECKING:
    from jaxvision.registry import Registry

COMMANDS = {  # of other tools, and of version 0.1
    "benchmark": "python scripts/benchmark.py",
    "convert": "jaxvision export --format=timm",
    "eval": "jaxvision evaluate",
    "fit": "jaxvision train",
    "infer": "jaxvision predict",
    "inference": "jaxvision predict",
    "resume": "jaxvision train --workdir=WORKDIR",
    "scaling": "python scripts/scaling.py",
    "test": "jaxvision evaluate",
    "torture": "python scripts/crash_test.py",
    "tune": "jaxvision sweep",
    "val": "jaxvision evaluate",
    "validate": "jaxvision evaluate",
}
FLAGS = {  # of other tools, and of version 0.1; with the value that was given, or "…"
    "advice": "--quality_check",
    "amp": "--precision=bf16",
    "arch": "--model",
    "augment": "--augmentations",
    "bs": "--batch_size",
    "checkpoint_dir": "--workdir",
    "clip_grad": "--grad_clip_norm",
    "data": "--dataset",
    "dropout": "--model='cnn(dropout={value})'",
    "epoch": "--epochs",
    "image_size": "--dataset={dataset}",
    "img_size": "--dataset={dataset}",
    "imgsz": "--dataset={dataset}",
    "judge": "--fid_classifier",
    "label_smoothing": "--task=\"multiclass(loss='cross_entropy(label_smoothing={value})')\"",
    "loss": "--task=\"multiclass(loss='focal')\"",
    "lr": "--learning_rate",
    "max_epochs": "--epochs",
    "momentum": "--optimizer='sgd(momentum={value})'",
    "opt": "--optimizer",
    "output": "--workdir",
    "output_dir": "--workdir",
    "pretrained": "--init_from=pretrained",
    "project": "--workdir",
    "resume": "--workdir, which resumes the run that is there",
    "sched": "--schedule",
    "wd": "--optimizer='adamw(weight_decay={value})'",
    "weight_decay": "--optimizer='adamw(weight_decay={value})'",
    "weights": "--init_from",
}
FACTORIES = {"optimizer": {"sam": "--gradient=sam"}, "task": {"focal": "--task=\"multiclass(loss='focal')\""}}
DAMAGED = ("TensorStore", "DATA_LOSS", "OUT_OF_RANGE", "NOT_FOUND", "JSONDecodeError")  # what libraries name it
BOUNDS = {"at least": "least", "above": "above", "below": "below", "at most": "most"}


def for_command(name: str, known: Iterable[str]) -> str:
    """Return what to type in place of an unknown command: "; use `jaxvision train`", or ""."""
    return f"; use `{COMMANDS[name]}`" if name in COMMANDS else nearest(name, known)


def for_flag(name: str, known: Sequence[str], *, value: str = "", dataset: str = "") -> str:
    """Return what to give in place of an unknown flag, "; use --learning_rate", or "".

    `value` is that of the flag, and `dataset` the spec on the same command line.
    """
    if name in upgrades.FIELDS:
        return f"; use --{upgrades.FIELDS[name]}"
    if name in FLAGS:
        return f"; use {FLAGS[name].format(value=value or '…', dataset=_sized(dataset, value or '…'))}"
    flags = [f"--{flag}" for flag in difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(flags)}?" if flags else ""


def _sized(dataset: str, size: str) -> str:
    """Return a dataset spec, quoted for a shell, with an image size."""
    try:
        name, arguments = parse(dataset) if dataset else Spec("folder", {"path": "photos"})
    except ValueError:
        name, arguments = Spec("folder", {"path": "photos"})
    inner = [f"{key}={value!r}" for key, value in arguments.items() if key != "image_size"]
    return f'"{name}({", ".join([*inner, f"image_size={size}"])})"'


def for_field(cls: type, name: str) -> str:
    """Return what to write in place of a field that Config or Execution does not have."""
    new = upgrades.FIELDS.get(name, name)
    owner = next((kind for kind in (Config, Execution) if new in fields_of(kind)), None)
    if owner is not None:
        return f": use {new}, a field of {owner.__name__}"
    return nearest(name, fields_of(cls)) or f"; its fields are {', '.join(fields_of(cls))}"


def for_factory(registry: Registry, name: str) -> str:
    """Return what may have been meant by an unknown name: "; did you mean 'random_crop'?", or ""."""
    new = upgrades.FACTORIES.get(registry.field, {}).get(name)
    other = FACTORIES.get(registry.kind, {}).get(name)
    return f"; did you mean {new!r}?" if new else f"; use {other}" if other else nearest(name, registry.names())


def wrong_type(registry: Registry, name: str, value: Any, expected: str) -> str:
    """Return the message that a factory returned another type than its kind requires."""
    source, kind = registry.entry(name).source, type(value).__name__
    return f"the {registry.kind} {name!r} of {source} returned {kind}; expected {expected}"


def for_argument(
    registry: Registry, spec: Spec, argument: str, *, known: Iterable[str], nested: dict[str, Registry]
) -> str:
    """Return what to write in place of an argument that a factory does not have: "; write loss='focal(…)'", or ""."""
    old = str(spec)
    new = upgrades.upgrade({registry.field: old})[registry.field]
    if new != old:
        return f"; write {new}"
    for outer, inner in nested.items():
        if argument in inner.names():
            return f"; write {outer}='{argument}(…)'"
        for name in inner.names():
            if argument not in inner.context and inner.takes(Spec(name, {}), argument):
                return f"; write {outer}='{name}({argument}=…)'"
    return nearest(argument, known)


def literals(hint: Any) -> list[str]:
    """Return the strings that a type hint lists as literals, at any depth.

    >>> literals(float | typing.Literal["f1"] | tuple[typing.Literal["recall"], float])
    ['f1', 'recall']
    """
    if isinstance(hint, str):
        return [hint]
    return [word for part in typing.get_args(hint) for word in literals(part)]


def for_type(value: Any, hint: Any) -> str:
    """Return the type that an argument must have, and the nearest word to a wrong one: "one of 'a', 'b'; did you …"."""
    choices = literals(hint)
    kind = f"of type {inspect.formatannotation(hint)}"
    if typing.get_origin(hint) is Literal:
        kind = f"one of {', '.join(map(repr, choices))}"
    words = value if isinstance(value, tuple) else (value,)
    return kind + next(filter(None, (nearest(word, choices) for word in words if isinstance(word, str))), "")


def describe(hint: Any) -> str:
    """Return in words what a field accepts."""
    if typing.get_origin(hint) is Literal:
        words = typing.get_args(hint)
        return "one of " * (len(words) > 1) + ", ".join(words)
    names = {int: "a whole number", float: "a number", str: "a string", bool: "True or False", type(None): "None"}
    return " or ".join(names[kind] if kind in names else describe(kind) for kind in typing.get_args(hint) or (hint,))


def limits(bounds: dict[str, Any]) -> str:
    """Return in words what a number must be, "above 0 and below 1, as in 0.999"."""
    given = {word: bounds.get(name) for word, name in BOUNDS.items()}
    powers = {2**31: "2**31", 2**32: "2**32"}
    words = [f"{word} {powers.get(bound, bound)}" for word, bound in given.items() if bound not in (None, math.inf)]
    words += ["finite"] if math.inf in given.values() else []
    return " and ".join(words) + (f", as in {bounds['example']}" if "example" in bounds else "")


def disk_error(error: BaseException) -> str:
    """Return the reason that the operating system gave, found in what the libraries above it report."""
    text = " ".join(str(error).split())
    if "barrier" in text or "DEADLINE_EXCEEDED" in text:
        return "another process could not write its part, or has ended"
    known = map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE))
    return next((reason for reason in known if reason in text), f"{type(error).__name__}: {text[:300]}")


def unreadable_checkpoint(error: BaseException) -> str:
    """Return in short why a checkpoint cannot be read, found in what the libraries report about its files."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 10:
        chain.append(cause)
    text = " ".join(f"{type(each).__name__} {each}" for each in chain)
    reasons = map(os.strerror, (errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE))
    reason = next((reason for reason in reasons if reason in text), None)
    if reason is None and any(word in text for word in DAMAGED):
        return "its files are missing, cut short or damaged"
    return reason or f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def unwritable_checkpoint(folder: Any, error: BaseException, complete: Sequence[int]) -> str:
    """Return the message that a checkpoint cannot be written, with the steps whose checkpoints are complete."""
    return (
        f"a checkpoint cannot be written to {folder}: {disk_error(error)}; complete checkpoints: "
        f"{', '.join(map(str, complete)) or 'none'}. Fix the cause and repeat the command, which resumes from the last "
        "of them"
    )


def locked_folder(path: Any, file: IO[str]) -> str:
    """Return the message that another process holds the lock of a folder, which its file describes."""
    file.seek(0)
    return (
        f"another run trains in {str(path)!r}: {file.read(200).strip() or 'just started'}; wait for it, stop it, or "
        "use another --workdir"
    )


def other_version(path: Path, version: object, newest: int) -> str:
    """Return the message that a file of settings is of a version that this package does not know."""
    return f"{path} has version {version!r}, but this jaxvision reads versions 1 to {newest}: upgrade jaxvision"
