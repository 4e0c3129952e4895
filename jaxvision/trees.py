"""Access the leaves of nested dicts by path."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jax

from jaxvision.interfaces import Tree


def flatten_with_paths(tree: Tree) -> dict[str, Any]:
    """Return the leaves of a nested dict by path, e.g. "stage1_block1/conv1/kernel", in the order of the leaves.

    >>> flatten_with_paths({"head": {"bias": 1, "kernel": 2}})
    {'head/bias': 1, 'head/kernel': 2}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(str(getattr(key, "key", key)) for key in path): leaf for path, leaf in leaves}


def where_path(new: Tree, old: Tree, paths: Collection[str], *, place: str = "") -> Tree:
    """Return `new` with the subtrees at the given paths taken from `old`.

    >>> where_path({"a": {"b": 1}, "c": 1}, {"a": {"b": 0}, "c": 0}, {"a"})
    {'a': {'b': 0}, 'c': 1}
    """
    if place in paths:
        return old
    if not isinstance(new, dict):
        return new
    return {
        name: where_path(child, old[name], paths, place=f"{place}/{name}" if place else name)
        for name, child in new.items()
    }
