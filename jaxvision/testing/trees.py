"""Comparisons of trees of arrays, for the checks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def finite(tree: Any) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


def equal(one: Any, other: Any) -> bool:
    return all(bool(jnp.all(a == b)) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def close(one: Any, other: Any, *, tolerance: float = 1e-4) -> bool:
    """Return whether two trees agree up to rounding, leaf by leaf, relative to the largest number of each leaf."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(bool(jnp.abs(a - b).max() <= tolerance * (jnp.abs(b).max() + 1e-6)) for a, b in pairs)
