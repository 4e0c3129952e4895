"""Leaves of nests, by their paths."""

from __future__ import annotations

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
