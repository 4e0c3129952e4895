"""Read the tensors in PyTorch files, without PyTorch: the zip archives since 1.6, and the older sequence of pickles.

Only tensors, numbers, strings and containers are read. Tensors stay descriptions until `array` reads their bytes, so
the state of an optimizer in a checkpoint costs nothing. The formats are those of torch/serialization.py.
"""

from __future__ import annotations

import errno
import functools
import io
import mmap
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxvision.weights import pickles

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the older format
SCRIPT = "a TorchScript program"
MAX_REPEAT = 64  # a tensor may be this many times as large as its storage; expanded ones repeat it
DTYPES: dict[str, Any] = {
    "Double": np.float64,
    "Float": np.float32,
    "Half": np.float16,
    "BFloat16": jnp.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
    "ComplexDouble": np.complex128,
    "ComplexFloat": np.complex64,
}
NAMED_DTYPES = {  # of tensors in storages without a type, and as values beside tensors
    **{np.dtype(dtype).name: dtype for dtype in DTYPES.values()},
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "float8_e4m3fn": jnp.float8_e4m3fn,
    "float8_e5m2": jnp.float8_e5m2,
}
INERT = (  # what training scripts save beside tensors; read as None
    "argparse.Namespace",
    "types.SimpleNamespace",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
    "_codecs.encode",
    "torch.device",
    "torch.Size",
    "torch.Generator",
    "collections.Counter",
    "datetime.datetime",
    "datetime.timedelta",
    "torch.serialization._get_layout",
    *(f"builtins.{name}" for name in ("bool", "bytearray", "complex", "float", "frozenset", "int", "range", "set")),
    *(f"builtins.{name}" for name in ("slice", "str", "tuple", "long", "unicode", "xrange")),  # the last are Python 2's
)
NOT_DENSE = ("sparse", "qtensor", "nested", "meta_tensor")  # in the names of functions that build such tensors


class Storage(NamedTuple):
    """A run of numbers in a file: their type and count, and a function that reads bytes, of numbers of a type."""

    dtype: Any
    count: int
    read: Callable[[Any], bytes]


class Tensor(NamedTuple):
    """A tensor in a file, that is not read yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """Read the numbers. Raises ValueError if the tensor reaches beyond its storage, or that beyond the file."""
        sides, steps = len(self.shape), len(self.strides)
        if sides != steps or sides > 32:
            raise ValueError(f"a tensor of {sides} dimensions has {steps} strides; expected as many, and at most 32")
        if not _are_counts((self.offset, *self.shape, *self.strides)):
            raise ValueError("the offset, shape and strides of a tensor are not numbers from 0 to 2**62")
        dtype, count = np.dtype(self.storage.dtype), self.storage.count
        size = functools.reduce(lambda product, side: product * side, self.shape, 1)
        last = self.offset + sum((side - 1) * stride for side, stride in zip(self.shape, self.strides, strict=True))
        if size and last >= count:
            raise ValueError(f"a tensor of shape {self.shape} does not fit its storage of {count} numbers")
        if size > MAX_REPEAT * count:
            repair = f"expected at most {MAX_REPEAT} times as many: save tensor.contiguous()"
            raise ValueError(f"holds a tensor of shape {self.shape}, expanded from {count} numbers; {repair}")
        if not size:
            return np.zeros(self.shape if max(self.shape) < 2**31 else (0,), dtype)
        content = self.storage.read(dtype)
        if len(content) < count * dtype.itemsize:
            raise ValueError(f"a storage of {count} numbers has only {len(content)} bytes")
        flat = np.frombuffer(content, dtype, count)
        strides = [stride * dtype.itemsize * (side > 1) for side, stride in zip(self.shape, self.strides, strict=True)]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides, writeable=False)


def _are_counts(values: Any) -> bool:
    return all(type(value) is int and 0 <= value < 2**62 for value in values)


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    """Describe the tensor that torch._utils._rebuild_tensor_v2 builds."""
    pending = rest[-1] if len(rest) > 2 else None  # views that negate or conjugate the numbers in the storage
    if isinstance(pending, dict) and any(pending.get(name) for name in ("neg", "conj")):
        raise ValueError(
            "holds a tensor that is not dense, a negated or conjugated view: save tensor.resolve_neg().resolve_conj()"
        )
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor has no storage")
    return Tensor(storage, offset, shape, strides)


def _rebuild_typed(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *pending: Any
) -> Tensor:
    """Describe the tensor that torch._utils._rebuild_tensor_v3 builds: with a type, on a storage without one."""
    tensor = _rebuild(storage, offset, shape, strides, grad, hooks, *pending)
    dtype = dtype.builder() if isinstance(dtype, pickles.Name) else None
    if not isinstance(dtype, _Dtype):
        raise ValueError("a tensor has no type")
    whole = storage.count * np.dtype(storage.dtype).itemsize
    count = whole // np.dtype(dtype.dtype).itemsize
    return tensor._replace(storage=storage._replace(dtype=dtype.dtype, count=count))


class _Dtype(NamedTuple):
    dtype: Any


def _first(value: Any = None, *_: Any) -> Any:
    return value


def _ordered(items: Any = (), *_: Any) -> dict[Any, Any]:
    return {key: value for key, value in items if pickles.is_key(key)}


def _nothing(*_: Any) -> None:
    return None


def _from_type(function: Any, _type: Any, arguments: Any, *_: Any) -> Any:
    """Describe a tensor with attributes: torch._tensor._rebuild_from_type_v2."""
    if not isinstance(function, pickles.Name) or not isinstance(arguments, tuple):
        raise ValueError("a tensor is built by nothing")
    return function.builder(*arguments)


BUILDERS: dict[str, pickles.Builder] = {
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_tensor_v3": _rebuild_typed,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Tensor": _nothing,
    "torch.nn.parameter.Parameter": _first,
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda *_: {},
    "builtins.dict": lambda *_: {},
    "builtins.list": lambda *_: [],
    **dict.fromkeys(INERT, _nothing),
    **{f"torch.{name}Storage": functools.partial(_Dtype, dtype) for name, dtype in DTYPES.items()},
    **{f"torch.{name}": functools.partial(_Dtype, dtype) for name, dtype in NAMED_DTYPES.items()},
    "torch.storage.UntypedStorage": functools.partial(_Dtype, np.uint8),
}


def _storage(identity: Any, read: Callable[[str, Any], bytes]) -> Storage:
    """Describe the storage that a persistent id names: ("storage", type, key, device, count, …)."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise ValueError("it refers to something other than a storage")
    _, kind, key, _, count = identity[:5]
    made = kind.builder() if isinstance(kind, pickles.Name) else None
    if not isinstance(made, _Dtype) or not isinstance(key, str) or not _are_counts([count]):
        raise ValueError("a storage has no type or size")
    if len(identity) > 5 and identity[5] is not None:
        raise ValueError("a storage is a view of another, as before PyTorch 0.4; save it again")
    return Storage(made.dtype, count, functools.partial(read, key))


def what_is_wrong(name: str) -> str:
    """Return the message for a file that names something other than tensors, with the repair."""
    if name.startswith("torch._utils._rebuild") and any(kind in name for kind in NOT_DENSE):
        return f"holds tensors that are not dense ({name})"
    repair = "only if you trust its author, load it in PyTorch and run torch.save(model.state_dict(), 'weights.pth')"
    if name == SCRIPT or name.startswith(("torch.nn.", "torchvision.", "timm.", "torch.fx.")):
        return f"holds a whole model ({name}), not its state_dict of tensors, and no code is run: {repair}"
    return f"holds {name}, which PyTorch would run; expected only tensors, and no code was run: {repair}"


@contextmanager
def opened(path: Path):
    """Open a PyTorch file: yield its content, whose tensors can be read until the file is closed.

    Raises pickles.ForeignName if it holds anything but tensors, numbers, strings and containers, ValueError if it is
    damaged.
    """
    with open(path, "rb") as file:
        start = file.read(4)
        file.seek(0)
        if start.startswith(b"PK"):
            try:
                with zipfile.ZipFile(file) as archive:
                    yield _archived(archive, path.stat().st_size)
            except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, OverflowError, OSError) as error:
                if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of a place before the file's beginning
                    raise
                raise ValueError(f"is damaged or not a PyTorch file: {error}") from None
        elif start.startswith(b"\x80"):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                yield _in_sequence(content)
        else:
            raise ValueError(_other(start, file.read(64)))


def _other(start: bytes, head: bytes) -> str:
    """Return what a file is that no PyTorch wrote."""
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the weights: run git lfs pull"
    if head.lstrip()[:1] == b"<":
        return "is a web page, not the weights: download the file itself"
    if not start:
        return "is damaged or not a PyTorch file: it is empty"
    return "is not a PyTorch file"


def _archived(archive: zipfile.ZipFile, size: int) -> Any:
    """Read the content of a zip archive, of so many bytes."""
    entries = {entry.filename: entry for entry in archive.infolist()}
    names = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(names) != 1:
        raise ValueError("is damaged or not a PyTorch file: the archive has no data.pkl")
    root = names[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in entries:
        raise pickles.ForeignName(SCRIPT)
    packed = [name for name, entry in entries.items() if entry.compress_type != zipfile.ZIP_STORED]
    if packed or sum(entry.file_size for entry in entries.values()) > size:
        raise ValueError(f"is damaged or not a PyTorch file: {(packed or names)[0]!r} is larger than the file")
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in entries else b"little"

    @functools.cache
    def stored(key: str) -> bytes:
        if f"{root}data/{key}" not in entries:
            raise ValueError(f"the storage {key!r} is missing")
        return archive.read(f"{root}data/{key}")

    @functools.cache
    def swapped(key: str, dtype: Any) -> bytes:
        return np.frombuffer(stored(key), dtype, len(stored(key)) // dtype.itemsize).byteswap().tobytes()

    read = swapped if order == b"big" else lambda key, _: stored(key)
    return pickles.load(io.BytesIO(archive.read(names[0])), BUILDERS, lambda identity: _storage(identity, read))


def _in_sequence(content: mmap.mmap) -> Any:
    """Read the content of the older format: magic number, version, system, object, keys of storages, storages."""
    places: dict[str, tuple[int, int]] = {}

    @functools.cache
    def read(key: str) -> bytes:
        if key not in places:
            raise ValueError(f"the storage {key!r} is missing")
        return content[slice(*places[key])]

    sizes: dict[str, int] = {}

    def stored(identity: Any) -> Storage:
        storage = _storage(identity, lambda key, _: read(key))
        sizes[identity[2]] = np.dtype(storage.dtype).itemsize
        return storage

    file: BinaryIO = content  # pyright: ignore[reportAssignmentType]
    if pickles.load(file, {}, _nothing) != MAGIC or pickles.load(file, {}, _nothing) != PROTOCOL:
        raise ValueError("is not a PyTorch file")
    system = pickles.load(file, {}, _nothing)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise ValueError("was saved on a big-endian machine; save it again")
    found = pickles.load(file, BUILDERS, stored)
    keys = pickles.load(file, {}, _nothing)
    for key in keys if isinstance(keys, list) else ():
        count = int.from_bytes(content.read(8), "little")
        if not isinstance(key, str) or key not in sizes or content.tell() + count * sizes[key] > len(content):
            name = repr(key[:40]) if isinstance(key, str) else f"under a {type(key).__name__}"
            raise ValueError(f"is damaged: the storage {name} reaches beyond the file")
        places[key] = content.tell(), content.tell() + count * sizes[key]
        content.seek(count * sizes[key], 1)
    return found
