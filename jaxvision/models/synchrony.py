"""Check that training keeps the model state equal on all devices that see different parts of the batch."""

from __future__ import annotations

from collections.abc import Collection

from jaxvision.interfaces import Tree
from jaxvision.trees import flatten_with_paths


def check_synchronized(old: Tree, new: Tree, norms: Collection[str]) -> None:
    """Raise ValueError if training changes state of modules other than the batch norms at the paths `norms`.

    These batch norms compute their statistics over all devices; other state would depend on one device's part of the
    batch. `old` and `new` are states by collection, as traced: an unchanged leaf is the same object in both.
    """
    before, after = flatten_with_paths(old), flatten_with_paths(new)
    changed = [path for path in before if after[path] is not before[path]]
    loose = [path for path in changed if path.partition("/")[2].rpartition("/")[0] not in norms]
    if loose:
        raise ValueError(
            f"under --parallel=pmap the state {loose[0]!r} would depend on one device's part of the batch, because "
            "it does not belong to a Flax batch norm; use --parallel=jit"
        )
