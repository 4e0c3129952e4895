"""Other people's tensors -> our parameters, and back: names by the rules of each family, layouts by kind.

A family states in its registration how its parameters are called elsewhere: `names={"torchvision": RULES, …}`, each a
tuple of (pattern, replacement) that `re.sub` applies in order to our path, as "stage1_block1/conv1/kernel". What is the
same for all is done after: "/" becomes ".", a kernel or scale "weight", mean and var "running_mean" and "running_var".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision.interfaces import Tree

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
ENDINGS = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
IGNORED = re.compile(r"\.num_batches_tracked$")  # a count that PyTorch keeps and nothing here needs


class Fitted(NamedTuple):
    """Parameters and state with what fitted put in; what did not, by name and shape, and whose names they were."""

    params: Tree
    state: Tree
    source: str
    used: frozenset[str]
    missing: dict[str, tuple[int, ...]]
    unexpected: dict[str, tuple[int, ...]]
    misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]


def flat(tree: Tree) -> dict[str, Any]:
    """The leaves of a nest of dicts, by their paths."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(str(key.key) for key in path): leaf for path, leaf in leaves}


def their_name(path: str, rules: Rules) -> str:
    """What others call a parameter of ours."""
    for pattern, replacement in rules:
        path = re.sub(pattern, replacement, path)
    head, _, ending = path.rpartition("/")
    return ".".join(filter(None, [*head.split("/"), ENDINGS.get(ending, ending)]))


def to_ours(tensor: np.ndarray) -> np.ndarray:
    """Brings a weight to our layout: OIHW to HWIO, [out, in] to [in, out]."""
    return {4: tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor, 2: tensor.T}.get(tensor.ndim, tensor)


def to_theirs(array: np.ndarray) -> np.ndarray:
    """Brings a kernel to their layout: HWIO to OIHW, [in, out] to [out, in]."""
    return {4: array.transpose(3, 2, 0, 1) if array.ndim == 4 else array, 2: array.T}.get(array.ndim, array)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)


def _all(params: Tree, state: Tree) -> dict[str, Any]:
    """Parameters and batch statistics by path; the two never share one."""
    return {**flat(params), **flat(state.get("batch_stats", {}))}


def fit(tensors: Mapping[str, np.ndarray], params: Tree, state: Tree, names: Mapping[str, Rules]) -> Fitted:
    """Puts others' tensors in the place of ours, by the names of that source which has most in common with them."""
    ours = _all(params, state)
    tensors = {name: tensor for name, tensor in tensors.items() if not IGNORED.search(name)}
    called = {source: {path: their_name(path, rules) for path in ours} for source, rules in names.items()}
    source = max(called, key=lambda source: len(tensors.keys() & called[source].values()))
    placed, misshapen, missing = {}, {}, {}
    for path, name in called[source].items():
        if name not in tensors:
            missing[name] = ours[path].shape
            continue
        tensor = to_ours(np.asarray(tensors[name])) if path.endswith("kernel") else np.asarray(tensors[name])
        if _without_ones(tensor.shape) != _without_ones(ours[path].shape):
            misshapen[name] = (tensor.shape, ours[path].shape)
            continue
        placed[path] = tensor.reshape(ours[path].shape)
    unexpected = {name: tensors[name].shape for name in tensors.keys() - called[source].values()}

    def put(tree):
        leaves, structure = jax.tree.flatten(tree)
        return jax.tree.unflatten(
            structure, [placed.get(path, leaf) for path, leaf in zip(flat(tree), leaves, strict=True)]
        )

    new_state = {**state, "batch_stats": put(state["batch_stats"])} if "batch_stats" in state else state
    used = frozenset(called[source][path] for path in placed)
    return Fitted(put(params), new_state, source, used, missing, unexpected, misshapen)


def export(params: Tree, state: Tree, rules: Rules) -> dict[str, np.ndarray]:
    """Gives our parameters and statistics under others' names and in their layout."""
    return {
        their_name(path, rules): np.ascontiguousarray(to_theirs(np.asarray(leaf)) if path.endswith("kernel") else leaf)
        for path, leaf in _all(params, state).items()
    }
