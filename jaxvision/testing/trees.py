"""What the checks ask of arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def finite(tree: Any) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


def equal(one: Any, other: Any) -> bool:
    return all(bool(jnp.all(a == b)) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
