"""The text of a mesh, `data=2,fsdp=4`."""

from __future__ import annotations

from collections.abc import Sequence

from jaxvision.specs import nearest


def read_mesh(spec: str, axes: Sequence[str]) -> dict[str, int]:
    """Parse a mesh, `data=2,fsdp=4`, into the size of each named axis. Raises ValueError for other axes or sizes."""
    sizes: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in spec.split(","))):
        name, _, size = (word.strip() for word in part.partition("="))
        if name not in axes:
            raise ValueError(f"mesh {spec!r}: no axis {name!r}{nearest(name, axes)}; expected as in data=2,fsdp=4")
        if name in sizes:
            raise ValueError(f"mesh {spec!r} has the axis {name!r} twice; expected as in data=2,fsdp=4")
        if not size.isdigit() or int(size) < 1:
            raise ValueError(f"mesh {spec!r}: {part!r} is not a size of at least 1; expected as in data=2,fsdp=4")
        sizes[name] = int(size)
    return sizes
