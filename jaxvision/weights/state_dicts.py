"""Find the model's tensors in what a training script saved, and remove the prefixes of wrappers from their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxvision.specs import nearest

MODELS = ("state_dict", "model", "model_state_dict", "net", "model_state", "network", "module", "weights", "params")
AVERAGED = re.compile(r"(^|[_.])(ema|swa|averaged|avg|shadow)([_.\d]|$)")
OTHERS = re.compile(r"optim|sched|scaler|loss|criterion|metric|args|config|hparams", re.IGNORECASE)
ENDS_IN_MODEL = re.compile(r"(?<![a-z])(model|net|network|module)$", re.IGNORECASE)  # as best_loss_model does
WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
PREFIXES = ("module.", "model.")  # of DataParallel and AveragedModel, and of modules that hold the model
COUNTER = "n_averaged"  # of AveragedModel
MAX_DEPTH, MAX_NAME = 4, 200  # of nested dictionaries, and characters of the keys that lead to them
MAX_NEAR, MAX_PREFIXES = 100, 16  # keys that are compared with a wrong one, and prefixes that are removed


class Found(NamedTuple):
    """Tensors by name, and a note on what else could be used; "" if nothing."""

    tensors: dict[str, Any]
    note: str


def find(content: Any, key: str, *, is_tensor: Callable[[Any], bool], source: str) -> Found:
    """Return the tensors of the model in the content of a file.

    `key` selects a dictionary in it, as in "model_ema" or "ema.module"; "" stands for the model itself. Raises
    ValueError if there is no such dictionary, or if it is unclear which is the model.
    """
    sets = _sets(content, is_tensor)
    if not sets:
        raise ValueError("holds no state_dict of tensors by name")
    chosen = _chosen(sets, key, source)
    averaged = [name for name in sets if name and name != chosen and AVERAGED.search(name)]
    note = ""
    if averaged and not key:
        note = f"the tensors under {chosen!r} are used; for the averaged ones, {' or '.join(map(repr, averaged))}, "
        note += f"use --init_from={source}#{averaged[0]}"
    named = {name: value for name, value in sets[chosen].items() if isinstance(name, str) and is_tensor(value)}
    return Found(named, note)


def _sets(content: Any, is_tensor: Callable[[Any], bool]) -> dict[str, dict[str, Any]]:
    """Return all dictionaries of tensors by name in a nest of dictionaries, by the keys that lead to them.

    The outer ones come first. One that several keys lead to is searched once, from the outermost.
    """
    found: dict[str, dict[str, Any]] = {}
    has_tensors: dict[int, bool] = {}  # by identity of the dictionaries that were searched
    level = [("", content)]
    for depth in range(MAX_DEPTH + 1):
        inner = []
        for path, values in level:
            if not isinstance(values, dict):
                continue
            if id(values) not in has_tensors:
                has_tensors[id(values)] = any(isinstance(n, str) and is_tensor(v) for n, v in values.items())
                names = [n for n in values if depth < MAX_DEPTH and isinstance(n, str) and _may_hold_a_model(n)]
                inner += [(f"{path}.{name}" if path else name, values[name]) for name in names]
            if has_tensors[id(values)]:
                found.setdefault(path, values)
        level = inner
    return found


def _may_hold_a_model(name: str) -> bool:
    return len(name) <= MAX_NAME and (not OTHERS.search(name) or bool(ENDS_IN_MODEL.search(name)))


def _chosen(sets: Mapping[str, Any], key: str, source: str) -> str:
    """Return the keys that lead to the dictionary to use."""
    if key:
        matching = [name for name in sets if name == key or name.startswith(f"{key}.")]
        if not matching:
            raise ValueError(
                f"holds no tensors under {key!r}{nearest(key, list(sets)[:MAX_NEAR])}; it has {_listed(sets)}"
            )
        return matching[0]
    plain = [name for name in sets if name and not AVERAGED.search(name)]
    usual = [name for name in plain if all(part in MODELS for part in name.split("."))]
    if usual:
        return min(usual, key=lambda name: (name.count("."), MODELS.index(name.split(".")[0])))
    if "" in sets:
        return ""
    rest = plain or list(sets)
    if len(rest) > 1:
        raise ValueError(f"holds tensors under {_listed(rest)}; choose one, as in --init_from={source}#{rest[0]}")
    return rest[0]


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in list(names)[:8])


def without_wrappers(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors without the prefixes of wrappers in their names, unless two names would become equal.

    >>> list(without_wrappers({"module._orig_mod.conv.weight": 0, "n_averaged": 1}))
    ['conv.weight']
    """
    names = {name: WRAPPERS.sub("", name) for name in tensors}
    if COUNTER in names and any(name.startswith("module.") for name in names.values()):
        del names[COUNTER]
    for _ in range(MAX_PREFIXES):
        prefix = next((p for p in PREFIXES if any(name.startswith(p) for name in names.values())), None)
        if prefix is None:
            break
        shorter = {name: short.removeprefix(prefix) for name, short in names.items()}
        if len(set(shorter.values())) < len(shorter):
            break
        names = shorter
    return {short: tensors[name] for name, short in names.items()}
