"""Arrays, .npz files and images in memory: read as their owner means them, or refused by name."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

import jaxvision as jv
from jaxvision import registry
from jaxvision.arrays import from_arrays
from jaxvision.config import Config
from jaxvision.data import fingerprint, open_dataset
from jaxvision.upgrades import upgrade_saved

IMAGES = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3)).astype(np.uint8)
LABELS = np.arange(40) % 2
NAMES = np.array(["cat", "dog"])[LABELS]


def opened(dataset):
    return open_dataset(Config(dataset="in_memory"), dataset=dataset)


def with_label(value, index=3, labels=LABELS):
    labels = list(map(int, labels)) if labels is LABELS else labels
    return [value if position == index else label for position, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (LABELS[:, None], ("0", "1")),
        (np.array([b"cat", b"dog"])[LABELS], ("cat", "dog")),
        (np.array([b"cat", b"dog"], object)[LABELS], ("cat", "dog")),
        (NAMES.tolist(), ("cat", "dog")),
        ([np.int64(label) for label in LABELS], ("0", "1")),
        (np.array(["10", "9"])[LABELS], ("9", "10")),
        (LABELS.astype(bool), ("False", "True")),
    ],
    ids=["column", "bytes", "bytes as objects", "list", "list of integers", "numbered", "booleans"],
)
def test_labels_are_read(labels, classes):
    data = opened((IMAGES, labels))
    assert data.classes == classes
    assert sum(len(part) for part in (data.train, data.validation, data.test) if part) == 40


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (with_label(None), "label 3 is None"),
        (with_label(float("nan")), "label 3 is nan"),
        (with_label(float("nan"), labels=NAMES.tolist()), "label 3 is nan"),
        (np.where(LABELS == 9, "x", np.array(["nan", "cat"])[LABELS]), "label 0 is 'nan'"),
        (np.where(np.arange(40) == 3, np.nan, LABELS), "label 3 is nan"),
        (with_label("cat"), r"several types, as 1 \(int\) and 'cat' \(str\)"),
        (with_label("", labels=NAMES.tolist()), "label 3 is ''"),
        (np.array([b"cat", b"\xff\xfe"])[LABELS], r"label 1 is b'.*', which is not UTF-8 text"),
        (np.eye(2)[LABELS], r"one-hot: give labels.argmax\(axis=1\)"),
        (np.ma.masked_array(LABELS, LABELS == 0), "masked array"),
        (np.array(["caf\u00e9", "cafe\u0301"])[LABELS], "Unicode normal form"),
        (with_label({"a": 1}), "labels have shape|label 3 is"),
        (with_label([0, 1, 2], labels=[[0, 1]] * 40), "train: labels are lists of 2 and of 3 values; expected one"),
        (np.array(["<NA>", "cat"])[LABELS], "label 0 is '<NA>'"),
    ],
)
def test_labels_that_are_no_classes_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        opened((IMAGES, labels))


@pytest.mark.parametrize(
    "dataset",
    [
        ((IMAGES, LABELS), (IMAGES[:10], LABELS[:10])),
        [[IMAGES, LABELS], [IMAGES[:10], LABELS[:10]]],
        ((IMAGES, LABELS[:, None]), (IMAGES[:10], LABELS[:10, None])),
    ],
)
def test_two_pairs_are_train_and_test(dataset):
    data = opened(dataset)
    assert len(data.test) == 10 and np.array_equal(data.test.read(np.arange(10)), IMAGES[:10])


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ((IMAGES, LABELS, np.zeros(40)), "got 3 elements; .*class_weights"),
        ({"train": (IMAGES, LABELS, np.zeros(40))}, "got 3 elements"),
        (((IMAGES, LABELS),) * 3, "got 3 elements"),
        (IMAGES, "got ndarray"),
        ({"train": IMAGES}, "got ndarray"),
        ({"x": IMAGES, "y": LABELS}, "no split 'x'"),
        ({"val": (IMAGES, LABELS), "valid": (IMAGES, LABELS), "train": (IMAGES, LABELS)}, "name one split twice"),
        ((IMAGES.transpose(0, 3, 1, 2), LABELS), r"channels come first: give images.transpose\(0, 2, 3, 1\)"),
        (([*IMAGES[:39], IMAGES[0, :4]], LABELS), "several sizes"),
        (([Image.fromarray(image) for image in IMAGES], LABELS), "image 0 is a PIL image"),
        ((np.ma.masked_array(IMAGES, IMAGES > 9), LABELS), "masked array"),
        ((np.where(np.arange(40)[:, None, None] == 7, np.nan, IMAGES[..., 0] / 255), LABELS), "image 7 has pixels"),
    ],
)
def test_data_of_another_form_are_named(dataset, message):
    with pytest.raises(ValueError, match=message):
        opened(dataset)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (np.array(["cat", "cat"]), "two classes 'cat'"),
        (np.array(["a", "a"]), "two classes 'a'"),
        (np.array(["1", "1"]), "two classes '1'"),
        (np.array("ab"), r"classes have shape \(\)"),
        (np.array([["a", "b"]]), "classes have shape"),
        (np.array(["cat", ""]), "label 1 is ''"),
        (np.array(["cat", "cow"]), "the label 'dog' is none of the 2 classes"),
    ],
)
def test_names_of_classes_that_do_not_fit_are_named(tmp_path, classes, message):
    np.savez(tmp_path / "t.npz", x=IMAGES, y=NAMES if "cow" in classes else LABELS, classes=classes)
    with pytest.raises(ValueError, match=message):
        registry.datasets.build(f"arrays(path='{tmp_path / 't.npz'}')")


@pytest.mark.parametrize(
    ("train", "test", "types"),
    [
        (LABELS, NAMES, "int64 in train and <U3 in test"),
        (NAMES, LABELS, "<U3 in train and int64 in test"),
    ],
)
def test_labels_of_another_type_than_in_train_are_named(train, test, types):
    with pytest.raises(ValueError, match=f"labels are {types}; expected integers, or strings, in all splits"):
        opened({"train": (IMAGES, train), "test": (IMAGES, test)})


@pytest.mark.parametrize("shape", [(40, 0, 9, 3), (40, 9, 0)])
def test_images_without_pixels_are_named(shape):
    with pytest.raises(ValueError, match=r"train: images have .* pixels; expected at least 1 x 1"):
        opened((np.zeros(shape, np.uint8), LABELS))


@pytest.mark.parametrize("two", [("x", "x_train"), ("images_train", "x_train"), ("inputs_dev", "x_val")])
def test_two_arrays_of_one_meaning_are_named(two, tmp_path):
    np.savez(tmp_path / "t.npz", y_train=LABELS, **dict.fromkeys(two, IMAGES))
    with pytest.raises(ValueError, match=f"has '{two[0]}' and '{two[1]}', which both name x_"):
        registry.datasets.build(f"arrays(path='{tmp_path / 't.npz'}')")


def test_with_train_and_validation_no_test_split_is_made(tmp_path):
    pairs = {"train": (IMAGES, LABELS), "dev": (IMAGES[:10], LABELS[:10])}
    data = opened(pairs)
    assert (len(data.train), len(data.validation), data.test) == (40, 10, None)
    old = upgrade_saved({"dataset": "in_memory"}, 3)["dataset"]
    data = open_dataset(Config(dataset=old), dataset=pairs)
    assert (len(data.train), len(data.validation), len(data.test)) == (32, 10, 8)
    with pytest.raises(ValueError, match="this run was trained on data in memory"):
        open_dataset(Config(dataset=old))
    np.savez(tmp_path / "t.npz", x_train=IMAGES, y_train=LABELS, x_dev=IMAGES[:10], y_dev=LABELS[:10])
    spec = f"arrays(path='{tmp_path / 't.npz'}')"
    data = registry.datasets.build(spec)
    assert (len(data.train), len(data.validation), data.test) == (40, 10, None)
    data = registry.datasets.build(upgrade_saved({"dataset": spec}, 3)["dataset"])
    assert (len(data.train), len(data.validation), len(data.test)) == (32, 10, 8)


def test_a_run_in_memory_of_an_older_version_is_resumed_with_its_test_split(tmp_path):
    pairs = {"train": (IMAGES, LABELS), "validation": (IMAGES[:10], LABELS[:10])}
    config = Config(model="mlp(hidden=(4,))", steps=1, batch_size=8)
    file = jv.train(config, workdir=tmp_path / "run", dataset=pairs).workdir / "config.json"
    new = open_dataset(Config(dataset="in_memory"), dataset=pairs)
    old = open_dataset(Config(dataset="in_memory(test_fraction=0.2)"), dataset=pairs)
    values = json.loads(file.read_text()) | {"version": 3}
    values.pop("digest")
    file.write_text(json.dumps(values))
    signature = json.loads((tmp_path / "run" / "signature.json").read_text())
    assert signature["data"] == fingerprint(new)
    signature["data"] = fingerprint(old)
    signature.pop("digest")
    (tmp_path / "run" / "signature.json").write_text(json.dumps(signature))
    for _ in range(2):  # as version 3 wrote it, and as this version did then
        assert jv.train(config, workdir=tmp_path / "run", dataset=pairs).test is not None
        assert jv.evaluate(tmp_path / "run", dataset=pairs)["split"] == "test"


def test_names_of_classes_order_the_labels(tmp_path):
    np.savez(tmp_path / "t.npz", x=IMAGES, y=NAMES, classes=np.array([b"dog", b"cat", b"cow"]))
    data = registry.datasets.build(f"arrays(path='{tmp_path / 't.npz'}')")
    assert data.classes == ("dog", "cat", "cow") and set(data.train.targets) == {0, 1}
    values, classes = from_arrays((IMAGES, NAMES), classes=("dog", "cat")).train.targets, ("dog", "cat")
    assert sorted(classes[value] for value in values) == ["cat"] * 16 + ["dog"] * 16


def header(shape, kind="|u1"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (64 - (len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def archive(**entries):
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name.replace("_npy", ".npy"), content)
    return buffer.getvalue()


def saved(save=np.savez, **arrays):
    save(buffer := io.BytesIO(), **arrays)
    return bytearray(buffer.getvalue())


def bad_files():
    np.save(buffer := io.BytesIO(), IMAGES)
    array = buffer.getvalue()
    yield "npy", array, "cannot read"
    damaged = saved(np.savez_compressed, x=IMAGES, y=LABELS)
    damaged[300:320] = b"\xff" * 20
    yield "damaged", bytes(damaged), "cannot read"
    locked = saved(x=IMAGES, y=LABELS)
    locked[locked.find(b"PK\3\4") + 6] |= 1
    locked[locked.find(b"PK\1\2") + 8] |= 1
    yield "encrypted", bytes(locked), "'x.npy' is encrypted"
    yield "huge", archive(x_npy=header("(1000000000, 64, 64, 3)"), y_npy=array), "declares the shape .* and holds 0"
    yield "overflow", archive(x_npy=header("(10000000000000000000000, 2)"), y_npy=array), "declares the shape"
    yield "negative", archive(x_npy=header("(-1, 2)"), y_npy=array), "declares the shape"
    yield "objects", archive(x_npy=header("(3,)", "|O") + b"cos\nsystem", y_npy=array), "Python objects"
    yield "cut", bytes(saved(x=IMAGES, y=LABELS)[:-100]), "cannot read"
    yield "text", b"hello", "cannot read"
    method = saved(np.savez_compressed, x=IMAGES, y=LABELS)
    method[method.find(b"PK\3\4") + 8] = method[method.find(b"PK\1\2") + 10] = 97
    yield "unknown packing", bytes(method), "cannot read"
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(twice := io.BytesIO(), "w") as file:
        for _ in range(2):
            file.writestr("x.npy", array)
    yield "twice", twice.getvalue(), "two arrays 'x'"


def test_npz_files_that_are_damaged_or_lie_are_named(tmp_path):
    for name, content, message in bad_files():
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(ValueError, match=f"{message}.*; write it again with np.savez"):
            registry.datasets.build(f"arrays(path='{tmp_path / name}.npz')")


@pytest.mark.parametrize(
    ("parts", "repair"),
    [
        (
            {"arr_0": IMAGES, "arr_1": LABELS},
            r"expected .*: write it with np\.savez\('data\.npz', x=images, y=labels\)",
        ),
        ({}, r"no arrays; write it with np\.savez"),
        ({"x": IMAGES}, "expected x_train and y_train: add the other"),
        ({"x": IMAGES, "y": LABELS[:-1]}, "expected one label each: remove or add some"),
        ({"x": IMAGES, "y": LABELS - 9}, "is negative; expected labels from 0: remove its examples, or renumber"),
        ({"x": IMAGES, "y": LABELS / 2}, r"labels\.astype\(int\), or for .* a table with kind='continuous'"),
        ({"x": IMAGES, "y": LABELS, "classes": ["a"]}, r"no name among 1 classes: name \d, the first for label 0"),
        ({"x": IMAGES.astype(int), "y": LABELS}, "expected uint8, or floats from 0 to 1: convert them"),
        ({"x": IMAGES.astype(np.float32), "y": LABELS}, "expected 0 to 1: scale them, as in images / 255"),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS + 9},
            "which train does not have: add examples of it to train, or remove those of test",
        ),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, :1], "y_test": LABELS}, "that of train: resize"),
        ({"x_test": IMAGES, "y_test": LABELS}, "no train split among test: add one"),
    ],
)
def test_arrays_that_do_not_fit_name_the_repair(parts, repair, tmp_path):
    np.savez(tmp_path / "a.npz", **parts)
    with pytest.raises(ValueError, match=repair) as caught:
        registry.datasets.build(f"arrays(path={str(tmp_path / 'a.npz')!r})", split_seed=0)
    assert "\n" not in str(caught.value)


def test_an_npz_file_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    (tmp_path / "t.npz").write_bytes(
        saved(np.savez_compressed, x=np.zeros((400, 64, 64, 3), np.uint8), y=np.zeros(400))
    )
    monkeypatch.setattr("jaxvision.machine.memory_bytes", lambda: 2**22)
    with pytest.raises(ValueError, match=r"needs at least 4\.7 MiB of memory, and there are 4\.0 MiB"):
        registry.datasets.build(f"arrays(path='{tmp_path / 't.npz'}')")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    config = jv.Config(model="mlp(hidden=(4,))", batch_size=8, steps=1)
    jv.train(config, workdir=folder, dataset=(IMAGES, LABELS))
    return jv.load(folder)


def pictures():
    return [Image.fromarray(image) for image in IMAGES[:5]]


@pytest.mark.parametrize(
    "make",
    [
        pictures,
        lambda: (image for image in IMAGES[:5]),
        lambda: iter(pictures()),
        lambda: list(IMAGES[:5]),
        lambda: [pictures()[0], *IMAGES[1:5]],
        lambda: tuple(IMAGES[:5]),
        lambda: np.array([*pictures(), None], object)[:5],
    ],
    ids=["pil", "generator", "iterator", "list", "mixed", "tuple", "objects"],
)
def test_images_in_memory_are_predicted_alike(run, make):
    expected = jv.predict(run, IMAGES[:5]).probabilities
    np.testing.assert_array_equal(jv.predict(run, make()).probabilities, expected)


def test_a_pillow_image_is_read_as_its_file(run, tmp_path):
    rotated = Image.fromarray(IMAGES[0, :6])
    rotated.getexif()[274] = 6
    images = [rotated, Image.fromarray(IMAGES[0]).convert("P"), Image.fromarray(IMAGES[1]).convert("RGBA")]
    images += [Image.fromarray(IMAGES[2, ..., 0])]
    for index, image in enumerate(images):
        image.save(tmp_path / f"{index}.png", exif=image.getexif())
    images[0] = Image.open(tmp_path / "0.png")
    in_memory = jv.predict(run, images)
    np.testing.assert_array_equal(in_memory.probabilities, jv.predict(run, tmp_path).probabilities)
    assert images[0].size == (8, 6)  # as it was
    np.testing.assert_array_equal(jv.predict(run, images[3]).probabilities[0], in_memory.probabilities[3])


def test_a_pillow_image_of_sixteen_bits_is_scaled_as_its_file(run, tmp_path):
    values = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
    for name, turn in (("0.png", None), ("1.tif", 6), ("2.jpg", 3)):
        image = Image.fromarray(values if turn is None else IMAGES[1])
        image.save(tmp_path / name, **({} if turn is None else {"exif": exif_of(turn)}))
    files = sorted(tmp_path.iterdir())
    opened = [Image.open(file) for file in files]
    from_files, in_memory = jv.predict(run, list(map(str, files))), jv.predict(run, opened)
    np.testing.assert_array_equal(in_memory.probabilities, from_files.probabilities)
    again = [Image.open(file).convert("RGB") for file in files[2:]]  # keeps its EXIF
    np.testing.assert_array_equal(jv.predict(run, again).probabilities, from_files.probabilities[2:])
    with pytest.raises(ValueError, match="image 1 cannot be read: its pixels have mode 'F'"):
        jv.predict(run, [opened[0], Image.fromarray(np.zeros((8, 8), np.float32))])


def exif_of(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def test_images_of_several_sizes_and_types_are_predicted_one_by_one(run):
    images = [IMAGES[0], IMAGES[1, :5], IMAGES[2] / np.float32(255), IMAGES[3, :, :6] / 255.0, IMAGES[4, ..., 0]]
    alpha = np.concatenate([IMAGES[5], np.full((8, 8, 1), 255, np.uint8)], axis=-1)
    together = jv.predict(run, [*images, alpha])
    alone = [jv.predict(run, image).probabilities[0] for image in [*images, IMAGES[5]]]
    np.testing.assert_allclose(together.probabilities, alone, atol=1e-4)
    assert len(jv.predict(run, np.stack([alpha] * 6)).names) == 6 and len(jv.predict(run, alpha).names) == 1


def test_a_series_of_files_is_read_in_its_order(run, tmp_path):
    pandas = pytest.importorskip("pandas")
    for index, image in enumerate(IMAGES[:4]):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    files = [str(tmp_path / f"{index}.png") for index in (2, 0, 3)]
    series = pandas.Series(files, index=[7, 8, 9])
    expected = jv.predict(run, files)
    for inputs in (series, (tmp_path / f"{index}.png" for index in (2, 0, 3)), np.array(files), tuple(files)):
        given = jv.predict(run, inputs)
        assert given.names == expected.names
        np.testing.assert_array_equal(given.probabilities, expected.probabilities)
    with pytest.raises(ValueError, match=r"predict was given DataFrame.*give the column"):
        jv.predict(run, pandas.DataFrame({"file": files}))


@pytest.mark.parametrize("side", [8, 12])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_named(run, side, value):
    images = np.zeros((4, side, side, 3), np.float32)
    images[2, 1, 1, 1] = value
    for inputs in (images, list(images)):
        with pytest.raises(ValueError, match="image 2 has pixels that are not finite"):
            jv.predict(run, inputs)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (IMAGES[0].transpose(2, 0, 1), "one image with its channels first, or three gray ones"),
        (IMAGES.transpose(0, 3, 1, 2), r"channels come first: give images.transpose\(0, 2, 3, 1\)"),
        ([IMAGES[0].transpose(2, 0, 1)], r"image 0 has shape \(3, 8, 8\).*give image.transpose\(1, 2, 0\)"),
        ([IMAGES[0], "a.png"], "input 0 is ndarray, and others are files"),
        (b"a.png", "predict was given bytes"),
        ({"a": IMAGES}, "predict was given dict"),
        (7, "predict was given int"),
        ([], "there are no images"),
        (iter(()), "there are no images"),
        (IMAGES.astype(np.int64), "images have type int64"),
        ([IMAGES[0].astype(bool)], "images have type bool"),
        (np.ma.masked_array(IMAGES, IMAGES > 9), "masked array"),
        (IMAGES / 100, "float images range from"),
        (np.zeros((2, 0, 9, 3), np.uint8), "predict: images have 0 x 9 pixels"),
        ([IMAGES[0], IMAGES[0, :, :0]], "predict, image 1: images have 8 x 0 pixels"),
    ],
)
def test_other_inputs_are_named(run, inputs, message):
    with pytest.raises(ValueError, match=message):
        jv.predict(run, inputs)


def test_labels_of_characters_that_do_not_exist_are_refused():
    labels = np.frombuffer(np.array([97, 0x110000] * 5, np.uint32).tobytes(), "<U1")
    with pytest.raises(ValueError, match="labels are damaged text"):
        jv.train(jv.Config(), dataset=(IMAGES[:10], labels))
