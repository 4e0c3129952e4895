"""State that devices which see a share of the batch each must change alike."""

from __future__ import annotations

from collections.abc import Collection

from jaxvision.interfaces import Tree
from jaxvision.trees import flat


def check_synchronized(old: Tree, new: Tree, norms: Collection[str]) -> None:
    """Raise ValueError where training changes state of other modules than the batch norms at some paths.

    Those take their statistics over all devices; what another module keeps would be of one device's share. `old` and
    `new` are states by collection, as traced: what a module left alone is the same object in both.
    """
    before, after = flat(old), flat(new)
    changed = [path for path in before if after[path] is not before[path]]
    loose = [path for path in changed if path.partition("/")[2].rpartition("/")[0] not in norms]
    if loose:
        raise ValueError(
            f"under --parallel=pmap the state {loose[0]!r} would be of each device's share alone, as no batch norm of "
            "Flax keeps it: use --parallel=jit"
        )
