"""Leaves of nests, by their paths."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jax

from jaxvision.interfaces import Tree


def flat(tree: Tree) -> dict[str, Any]:
    """Gives the leaves of a nest of dicts by their paths, as "stage1_block1/conv1/kernel", in the order of the leaves.

    >>> flat({"head": {"bias": 1, "kernel": 2}})
    {'head/bias': 1, 'head/kernel': 2}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(str(getattr(key, "key", key)) for key in path): leaf for path, leaf in leaves}


def kept(new: Tree, old: Tree, paths: Collection[str], *, place: str = "") -> Tree:
    """Gives the new nest of dicts with what lies at some paths, or below them, as in the old one.

    >>> kept({"a": {"b": 1}, "c": 1}, {"a": {"b": 0}, "c": 0}, {"a"})
    {'a': {'b': 0}, 'c': 1}
    """
    if place in paths:
        return old
    if not isinstance(new, dict):
        return new
    return {
        name: kept(each, old[name], paths, place=f"{place}/{name}" if place else name) for name, each in new.items()
    }
