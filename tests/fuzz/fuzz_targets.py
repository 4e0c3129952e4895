"""What is fuzzed: for each kind of input, a reader, valid inputs to begin with, and a strategy that damages them."""

from __future__ import annotations

import atexit
import io
import itertools
import json
import pickle
import pickletools
import re
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fuzz_guard import is_traceback, report
from hypothesis import strategies as st

from jaxvision import registry, specs
from jaxvision import workdir as workdirs
from jaxvision.config import Config, Execution
from jaxvision.datasets import rows
from jaxvision.datasets.encoding import encode
from jaxvision.engine import logs
from jaxvision.image_files import read_image
from jaxvision.interfaces import Preprocessing, TargetStats
from jaxvision.weights import files as weight_files

SHAPE = Preprocessing((16, 16), 3, (0.5,) * 3, (0.5,) * 3)
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF)
FOLDER = Path(tempfile.mkdtemp(prefix="jaxvision-fuzz-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


class Target(NamedTuple):
    """A reader of bytes, a strategy for them, and the file of the package that reads them."""

    name: str
    read: Callable[[bytes], Any]
    inputs: st.SearchStrategy[bytes]
    source: str


def _file(suffix: str, content: bytes) -> Path:
    path = FOLDER / f"case{suffix}"
    path.write_bytes(content)
    return path


# ── damage ────────────────────────────────────────────────────────────────────────────────────────────────────────────

EDITS = st.lists(
    st.tuples(
        st.sampled_from(("flip", "set", "insert", "delete", "repeat", "cut", "number", "swap")),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
        st.integers(1, 64),
    ),
    max_size=6,
)


def _edited(content: bytes, edits: list[tuple[str, float, int, int]]) -> bytes:
    """Apply edits (kind, place as a fraction, byte, length) to bytes."""
    data = bytearray(content)
    for kind, fraction, byte, length in edits:
        at = int(fraction * len(data))
        match kind:
            case "flip" if data:
                data[at] ^= 1 << byte % 8
            case "set" if data:
                data[at] = byte
            case "insert":
                data[at:at] = bytes([byte]) * length
            case "delete":
                del data[at : at + length]
            case "repeat":
                data[at:at] = data[at : at + length]
            case "cut":
                del data[at:]
            case "number":
                size = (1, 2, 4, 8)[length % 4]
                number = INTERESTING[byte % len(INTERESTING)] % 256**size
                data[at : at + size] = number.to_bytes(size, "little" if byte % 2 else "big")
            case "swap" if len(data) > length:
                part = bytes(data[at : at + length])
                del data[at : at + length]
                data[byte % (len(data) + 1) : byte % (len(data) + 1)] = part
    return bytes(data)


def damaged(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy for seeds with edits."""
    return st.builds(_edited, st.sampled_from(seeds), EDITS)


def damaged_archives(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy for zip archives with one entry edited, so that checksums stay right."""

    def edited(seed: bytes, chosen: int, edits: Any, packing: int) -> bytes:
        with zipfile.ZipFile(io.BytesIO(seed)) as archive:
            entries = [(name, archive.read(name)) for name in archive.namelist()]
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", packing) as archive:
            for index, (name, content) in enumerate(entries):
                archive.writestr(name, _edited(content, edits) if index == chosen % len(entries) else content)
        return made.getvalue()

    packings = st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    return st.builds(edited, st.sampled_from(seeds), st.integers(0, 9), EDITS, packings)


# ── specs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

REGISTRIES = registry.REGISTRIES
NAMES = sorted({name for kind in REGISTRIES.values() for name in kind.names()})
ARGUMENTS = sorted(set(re.findall(r"(\w+)=", " ".join(k.signature(n) for k in REGISTRIES.values() for n in k.names()))))
LITERALS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=True).map(str),
    st.sampled_from(
        ("None", "True", "8/255", "1/0", "()", "[]", "''", "'x'", "1e400", "-1", "0", "lambda: 0", "x.y", "{}")
    ),
    st.text(max_size=6).map(repr),
    st.sampled_from(NAMES),
)
VALUES = st.recursive(
    LITERALS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"({', '.join(items)},)"),
        st.builds(
            lambda name, items: f"{name}({', '.join(f'{k}={v}' for k, v in items)})",
            st.sampled_from(NAMES),
            st.lists(st.tuples(st.sampled_from(ARGUMENTS), inner), max_size=2),
        ),
    ),
    max_leaves=6,
)
SPECS = st.builds(
    lambda name, items: f"{name}({', '.join(f'{k}={v}' for k, v in items)})",
    st.sampled_from(NAMES),
    st.lists(st.tuples(st.sampled_from(ARGUMENTS), VALUES), max_size=3),
)
NESTS = st.builds(
    lambda text, depth, end: text * depth + end * depth,
    st.sampled_from(("(", "[", "a(b=", "-", "not ")),
    st.integers(1, 3000),
    st.sampled_from((")", "]", "", "1")),
)


def _read_specs(content: bytes) -> None:
    """Parse a spec, and check it as one of every kind: accepted by one, or refused by all."""
    text = content.decode(errors="replace")
    specs.parse_list(text)
    refusals = []
    for kind in REGISTRIES.values():
        try:
            kind.check(text)
            return
        except ValueError as error:
            refusals.append(error)
    raise max(refusals, key=is_traceback)


# ── seeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _images() -> list[bytes]:
    from PIL import Image

    rng = np.random.default_rng(0)
    seeds = []
    for mode, formats in {
        "RGB": ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"),
        "L": ("PNG", "JPEG", "TIFF", "PPM"),
        "RGBA": ("PNG", "WEBP", "TIFF"),
        "P": ("PNG", "GIF"),
        "I;16": ("PNG", "TIFF"),
        "CMYK": ("JPEG", "TIFF"),
        "1": ("PNG", "TIFF"),
    }.items():
        image = Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).convert("L" if mode == "I;16" else mode)
        for kind in formats:
            out = io.BytesIO()
            options = (
                {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"}
                if kind == "JPEG"
                else {}
            )
            (image.convert("I").convert("I;16") if mode == "I;16" else image).save(out, kind, **options)
            seeds.append(out.getvalue())
        if mode == "RGB":
            out = io.BytesIO()
            image.save(out, "JPEG", progressive=True)
            seeds.append(out.getvalue())
    return seeds


CSV = [
    b"file,label\na.png,cat\nb.png,dog\n",
    b'file;label;split\n"a;b.png";"c""at";train\n\nb.png;dog;test\n',
    "\ufefffile\tcaf\u00e9\na.png\t1\n".encode(),
    b"file,cat,dog\r\na.png,1,0\r\nb.png,0,1\r\n",
    b"class,flag,score,labels\n" + b"a,1,0.5,red|big\nb,0,1.5,red\n" * 6,
    b"class,flag,score,labels\n" + b"10,-1,1e3,\n2,1,nan,['red']\n" * 6,
]
CELLS = st.one_of(
    st.text(max_size=5), st.sampled_from(('"', '""', "\0", "\n", "\r", ",", "1e999", "nan", "-0", "'", "x" * 140_000))
)
TABLES = st.lists(st.lists(CELLS, max_size=4), max_size=5).map(
    lambda t: "\n".join(map(",".join, t)).encode(errors="replace")
)


def _parquets() -> list[bytes]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return []
    seeds = []
    for columns in (
        {"file": ["a.png", "b.png"], "label": ["cat", None]},
        {"x": [[1, 2], []], "y": [b"a", b"\xff"], "z": [0.5, None]},
    ):
        out = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(columns), out)
        seeds.append(out.getvalue())
    return seeds


def _read_tables(content: bytes) -> None:
    """Read bytes as Parquet if they look so, or else as CSV; encode every column as targets, and all as labels.

    Raises the error of the last column that cannot be a target, so that a table is accepted if all can be.
    """
    is_parquet = content[:4] == b"PAR1" or content[-4:] == b"PAR1"
    table = rows.read_table(_file(".parquet" if is_parquet else ".csv", content))
    is_train = np.arange(len(table.rows)) % 3 > 0
    errors: list[Exception] = []
    for columns, delimiter in (*(((name,), None) for name in table.rows[0]), (tuple(table.rows[0]), "|")):
        try:
            encode([table], columns, None, delimiter=delimiter, min_count=1, is_train=is_train)
        except ValueError as error:
            if is_traceback(error):
                raise
            errors.append(error)
    if errors:
        raise errors[-1]


def _npz() -> list[bytes]:
    images = np.zeros((12, 4, 4, 3), np.uint8)
    labels = np.arange(12) % 2
    seeds = []
    for arrays in (
        {"x": images, "y": labels},
        {
            "x_train": images,
            "y_train": labels,
            "x_test": images / 255.0,
            "y_test": labels,
            "classes": np.array(["a", "b"]),
        },
        {"images": images[..., 0], "labels": np.array(["a", "b"] * 6)},
    ):
        out = io.BytesIO()
        np.savez(out, **arrays)
        seeds.append(out.getvalue())
    return seeds


def _read_npz(content: bytes) -> None:
    """Open bytes as a dataset of arrays, and read its first images."""
    data = registry.datasets.build(f"arrays(path={str(_file('.npz', content))!r})", split_seed=0, on_bad_image="error")
    data.train.read(np.arange(min(2, len(data.train))))


def _safetensors() -> list[bytes]:
    import safetensors.numpy

    tensors = {"conv.weight": np.zeros((2, 3, 3, 3), np.float32), "fc.bias": np.ones(4, np.float16)}
    return [safetensors.numpy.save(tensors), safetensors.numpy.save({"a": np.zeros(0, np.int64)})]


def _pth() -> list[bytes]:
    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def tensor(key: str, count: int) -> bytes:
        storage = (
            b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + b"K" + bytes([count]) + b"tQ"
        )
        return (
            b"ctorch._utils\n_rebuild_tensor_v2\n("
            + storage
            + b"K\0K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR"
        )

    state = b"}(" + text("module.w") + tensor("0", 6) + text("module.b") + tensor("1", 6) + b"u"
    body = b"\x80\x02}(" + text("state_dict") + state + text("epoch") + b"K\x03" + text("ema") + state + b"u."
    data = np.arange(6, dtype=np.float32).tobytes()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in (("data.pkl", body), ("byteorder", b"little"), ("data/0", data), ("data/1", data)):
            archive.writestr(f"archive/{name}", content)
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    old = b"".join(pickle.dumps(each, 2) for each in head) + body + pickle.dumps(["0", "1"], 2)
    return [out.getvalue(), old + 2 * (struct.pack("<q", 6) + data)]


def executed(*_: Any) -> None:
    """Report that a pickle called this function, which hostile pickles name."""
    report("a function that a pickle names")


NAMED = (b"fuzz_targets\nexecuted\n", b"builtins\neval\n", b"os\nsystem\n", b"torch.hub\nload\n", b"torch\nTensor\n")
CALLS = (  # of a name N
    b"cNX\x04\0\0\0true\x85R",  # GLOBAL, REDUCE
    b"(X\x04\0\0\0trueiN",  # INST
    b"(cNX\x04\0\0\0trueo",  # OBJ
    b"cN)\x81",  # NEWOBJ
    b"cN)}\x92",  # NEWOBJ_EX
    b"ctorch._utils\n_rebuild_parameter\n(cN\x89)tR",
    b"ctorch._tensor\n_rebuild_from_type_v2\n(cNcN)}tR",
    b"ccollections\nOrderedDict\n(](cN)R\x86etR",
    b"cN)RcNb",  # BUILD
    b"cNQ",  # BINPERSID
)
OTHERS = (  # PERSID, extensions, buffers, sets, and operations on a stack that may be empty
    *(b"Pexecuted\n", b"\x82\x01", b"\x83\x01\0", b"\x84\x01\0\0\0", b"\x97", b"\x98", b"\x8f(N\x90", b"(N\x91"),
    *(b"2", b"0", b"1", b"("),
)
STACKED = [b"".join(b"\x8c" + bytes([len(part)]) + part for part in name.split()) + b"\x93)R" for name in NAMED]
HOSTILE = (*(call.replace(b"N", name) for name in NAMED for call in CALLS), *STACKED, *OTHERS)


def _operations(content: bytes) -> list[bytes]:
    """Return the operations of all pickles at the beginning of bytes, and the rest as the last item."""
    file, parts, end = io.BytesIO(content), [], 0
    while content[end : end + 1] == b"\x80":
        places = [place for _, _, place in pickletools.genops(file)] + [file.tell()]
        parts += [content[start:stop] for start, stop in itertools.pairwise(places)]
        end = file.tell()
    return [*parts, content[end:]]


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(("hostile", "delete", "repeat", "swap", "other", "byte")),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(HOSTILE),
    ),
    min_size=1,
    max_size=5,
)


def _changed(parts: list[bytes], changes: Any) -> bytes:
    """Insert, delete, repeat or exchange whole operations, so that pickles stay valid until the reader reaches them."""
    parts = list(parts)
    for kind, one, two, code in changes:
        at, other = int(one * len(parts)), int(two * len(parts))
        match kind:
            case "hostile":
                parts[at:at] = [code]
            case "delete" if len(parts) > 1:
                del parts[at]
            case "repeat":
                parts[at:at] = parts[min(at, other) : max(at, other) + 1]
            case "swap":
                parts[at], parts[other] = parts[other], parts[at]
            case "other":
                parts[at] = parts[other]
            case "byte" if parts[at]:
                place = int(two * len(parts[at]))
                parts[at] = parts[at][:place] + bytes([code[0]]) + parts[at][place + 1 :]
    return b"".join(parts)


def hostile_pickles(archive: bytes, sequence: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy for PyTorch files of both formats whose pickles have other operations."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        entries = {name: file.read(name) for name in file.namelist()}

    def zipped(changes: Any) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as file:
            for name, content in entries.items():
                is_pickle = name.endswith("data.pkl")
                file.writestr(name, _changed(_operations(content), changes) if is_pickle else content)
        return out.getvalue()

    parts = _operations(sequence)
    return st.one_of(CHANGES.map(zipped), CHANGES.map(lambda changes: _changed(parts, changes)))


def _read_weights(suffix: str) -> Callable[[bytes], Any]:
    """Return a reader of weights, whose only error is ValueError with the name of the file, in one line."""

    def read(content: bytes) -> None:
        path = str(_file(suffix, content))
        try:
            weight_files.read(path)
        except ValueError as error:
            if path not in str(error) or "\n" in str(error):
                raise AssertionError(f"not a line that names the file: {error}") from error
            raise
        except OSError as error:
            raise AssertionError(f"not the documented error: {error!r}") from error

    return read


# ── workdirs ──────────────────────────────────────────────────────────────────────────────────────────────────────────

JSON_FILES = ("config.json", "execution.json", "signature.json", "metrics.jsonl")


def _workdir() -> dict[str, Any]:
    """Return the files of a workdir as a run writes them, without its checkpoints."""
    targets = TargetStats(kind="multiclass", counts=(3, 4), num_examples=7)
    signature = workdirs.Signature(("a", "b"), SHAPE, targets, "0" * 32, None, (), {"jax": "0.10"})
    folder = FOLDER
    for name, content in zip(JSON_FILES, (Config(), Execution(), signature), strict=False):
        content.save(folder / name)
    content = {name: json.loads((folder / name).read_text()) for name in JSON_FILES[:3]}
    return {**content, "metrics.jsonl": {"step": 1, "split": "train", "loss": 0.5}}


WORKDIR = _workdir()
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=6), st.just(10**400)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@st.composite
def workdir_files(draw: Callable[..., Any]) -> bytes:
    """Draw the settings of a workdir with some values replaced, removed or added, or with damaged bytes."""
    content = json.loads(json.dumps(WORKDIR))
    for _ in range(draw(st.integers(1, 3))):
        place = content[draw(st.sampled_from(JSON_FILES))]
        while isinstance(place, dict) and place:
            name = draw(st.sampled_from(sorted(place)))
            if isinstance(place[name], dict) and place[name] and draw(st.booleans()):
                place = place[name]
                continue
            match draw(st.sampled_from(("replace", "replace", "remove", "add", "list"))):
                case "replace":
                    place[name] = draw(JSON)
                case "remove":
                    del place[name]
                case "add":
                    place[draw(st.text(max_size=5))] = draw(JSON)
                case "list" if isinstance(place[name], list) and place[name]:
                    place[name][0] = draw(JSON)
            break
    texts = [json.dumps(content[name]).encode(errors="replace") for name in JSON_FILES]
    if draw(st.integers(0, 4)) == 0:
        index = draw(st.integers(0, 3))
        texts[index] = _edited(texts[index], draw(EDITS))
    return b"\n".join(text.replace(b"\n", b" ") for text in texts)


def _read_workdir(content: bytes) -> None:
    """Read the settings, the signature and the log of a workdir."""
    folder = FOLDER / "run"
    folder.mkdir(exist_ok=True)
    for name, text in zip(JSON_FILES, [*content.split(b"\n"), b"", b"", b"", b""], strict=False):
        (folder / name).write_bytes(text)
    workdirs.read(folder)
    logs.read_rows(folder / "metrics.jsonl")


def targets() -> list[Target]:
    """Return all targets."""
    specs_ = st.one_of(SPECS, NESTS, st.text(max_size=30)).map(lambda text: text.encode(errors="replace"))
    tables = [damaged(CSV), TABLES] + ([damaged(_parquets())] if _parquets() else [])
    npz, pth = _npz(), _pth()
    return [
        Target("specs", _read_specs, specs_, "specs.py"),
        Target(
            "images", lambda content: read_image(_file(".jpg", content), SHAPE), damaged(_images()), "image_files.py"
        ),
        Target("tables", _read_tables, st.one_of(*tables), "datasets/rows.py"),
        Target("npz", _read_npz, st.one_of(damaged(npz), damaged_archives(npz)), "datasets/arrays.py"),
        Target("safetensors", _read_weights(".safetensors"), damaged(_safetensors()), "weights/files.py"),
        Target(
            "pth", _read_weights(".pth"), st.one_of(damaged(pth), damaged_archives(pth[:1])), "weights/torch_files.py"
        ),
        Target("pickles", _read_weights(".pth"), hostile_pickles(*pth), "weights/pickles.py"),
        Target("workdirs", _read_workdir, workdir_files(), "workdir.py"),
    ]
