"""TensorFlow Datasets: prepared from the original archives and read, without TensorFlow."""

import contextlib
import functools
import gzip
import http.server
import io
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
from PIL import Image

from jaxvision import registry
from jaxvision.datasets import tfds as sets
from jaxvision.datasets import tfds_download, tfds_prepare
from jaxvision.upgrades import upgrade_saved

ARCHIVES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@pytest.fixture(autouse=True)
def _no_warnings_from_there():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def archives(shared_data):
    folder = shared_data / "archives" / "mnist"
    if not folder.is_dir():
        pytest.skip("there are no archives of MNIST beside the checkout")
    return folder


def test_idx_files_are_read(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    header = b"\0\0\x08\x03" + np.array([2, 3, 4], ">i4").tobytes()
    (tmp_path / "good.gz").write_bytes(gzip.compress(header + values.tobytes()))
    np.testing.assert_array_equal(tfds_prepare.read_idx(tmp_path / "good.gz"), values)
    (tmp_path / "bad.gz").write_bytes(gzip.compress(b"hello, this is text"))
    with pytest.raises(ValueError, match="not an IDX file"):
        tfds_prepare.read_idx(tmp_path / "bad.gz")


@pytest.mark.parametrize("keys", [["label"], ["coarse_label", "label"]])
def test_cifar_records_are_read(keys):
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    content = b"".join(
        bytes(range(i, i + len(keys))) + image.transpose(2, 0, 1).tobytes() for i, image in enumerate(images)
    )
    examples = list(tfds_prepare.cifar_examples(content, keys, "test_"))
    for index, (key, example) in enumerate(examples):
        assert key == index and example["id"] == f"test_{index:05d}"
        assert [example[k] for k in keys] == list(range(index, index + len(keys)))
        np.testing.assert_array_equal(np.asarray(Image.open(example["image"])), images[index])


def prepared_cifar(monkeypatch, root, name):
    """Prepares a CIFAR of six images, as if its archive had been downloaded."""
    import tensorflow_datasets as tfds

    info = tfds.builder(name, data_dir=str(root))._cifar_info
    num_labels, rng = len(info.label_keys), np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 3072), dtype=np.uint8)
    records = np.concatenate([np.arange(6, dtype=np.uint8)[:, None].repeat(num_labels, axis=1), images], axis=1)
    files: dict[str, bytes] = dict.fromkeys(info.train_files, b"")
    files |= {info.train_files[0]: records[:4].tobytes(), info.test_files[0]: records[4:].tobytes()}
    num_classes = {"label": int(name[5:]), "coarse_label": 20}
    for file, key in zip(info.label_files, info.label_keys, strict=True):
        files[file] = "\n".join(f"{key}{i}" for i in range(num_classes[key])).encode()
    with tarfile.open(root / "cifar.tar.gz", "w:gz") as archive:
        for file, content in files.items():
            member = tarfile.TarInfo(info.prefix + file)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(tfds.download.DownloadManager, "download", lambda self, url: root / "cifar.tar.gz")
    return images.reshape(6, 3, 32, 32).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_prepared_from_its_archive(name, tmp_path, monkeypatch):
    images = prepared_cifar(monkeypatch, tmp_path, name)
    dataset = registry.datasets.build(name, data_dir=str(tmp_path))
    order = np.argsort(dataset.train.targets)  # what is written is shuffled, by TensorFlow Datasets' own rule
    np.testing.assert_array_equal(dataset.train.read(order), images[:4])
    assert sorted(dataset.test.targets) == [4, 5]
    assert dataset.classes[:2] == ("label0", "label1") and len(dataset.classes) == int(name[5:])


def test_mnist_is_prepared_from_the_genuine_archives(archives, tmp_path, monkeypatch):
    manual = tmp_path / "downloads" / "manual" / "mnist"
    manual.mkdir(parents=True)
    for name in ARCHIVES:
        shutil.copy(archives / name, manual)
    code = (
        "import sys; from jaxvision import registry\n"
        "d = registry.datasets.build('mnist', data_dir=sys.argv[1])\n"
        "print(len(d.train), len(d.test), 'tensorflow' in sys.modules, 'tensorflow_datasets' in sys.modules)"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True).stdout.split("\n")[-2]
        for _ in range(2)
    )
    assert first == "60000 10000 False True"
    assert second == "60000 10000 False False"  # the cache of decoded arrays needs not even TensorFlow Datasets
    dataset = registry.datasets.build("mnist", data_dir=str(tmp_path))
    raw = tfds_prepare.read_idx(archives / ARCHIVES[2]), tfds_prepare.read_idx(archives / ARCHIVES[3])
    known = {image.tobytes(): label for image, label in zip(*raw, strict=True)}
    read = dataset.test.read(np.arange(10_000))
    assert all(known[image.tobytes()] == label for image, label in zip(read, dataset.test.targets, strict=True))
    assert np.array_equal(np.bincount(dataset.test.targets), np.bincount(raw[1]))
    pixels = dataset.train.read(np.arange(60_000)) / 255
    assert dataset.preprocessing.mean[0] == pytest.approx(pixels.mean(), abs=1e-4)
    assert dataset.preprocessing.std[0] == pytest.approx(pixels.std(), abs=1e-4)


def test_a_damaged_archive_is_refused(archives, tmp_path):
    manual = tmp_path / "downloads" / "manual" / "mnist"
    manual.mkdir(parents=True)
    for name in ARCHIVES:
        shutil.copy(archives / name, manual)
    whole = bytearray((manual / ARCHIVES[3]).read_bytes())
    whole[2000] ^= 1
    (manual / ARCHIVES[3]).write_bytes(bytes(whole))
    with pytest.raises(ValueError, match=r"wrong checksum: it is damaged or not the original"):
        registry.datasets.build("mnist", data_dir=str(tmp_path))
    assert sets.find_prepared(tmp_path, "mnist") is None
    assert not [p for p in tmp_path.rglob("*") if ".tmp." in p.name or "incomplete" in p.name]


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments): ...


@pytest.fixture
def serve(monkeypatch):
    """Gives a function that makes a handler of requests the source of MNIST."""
    servers = []

    def serve(handler):
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        move_mnist(monkeypatch, f"http://127.0.0.1:{servers[-1].server_port}/")

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def move_mnist(monkeypatch, place):
    import tensorflow_datasets as tfds

    builder = tfds.builder_cls("mnist")
    moved = {place + url.rsplit("/", 1)[1]: info for url, info in builder.url_infos.items()}
    monkeypatch.setattr(builder, "URL", place)
    monkeypatch.setattr(builder, "url_infos", moved)


@pytest.mark.slow
def test_mnist_is_downloaded_from_a_server(archives, tmp_path, serve):
    serve(functools.partial(Handler, directory=str(archives)))
    dataset = registry.datasets.build("mnist", data_dir=str(tmp_path))
    assert len(dataset.train) == 60_000 and len(dataset.test) == 10_000


def unfinished(folder):
    return [p for p in folder.rglob("*") if p.is_file() or ".tmp." in p.name or "incomplete" in p.name]


def test_what_a_server_gives_with_a_wrong_checksum_is_refused(tmp_path, serve):
    (tmp_path / "there").mkdir()
    for name in ARCHIVES:
        (tmp_path / "there" / name).write_bytes(b"no archive")
    serve(functools.partial(Handler, directory=str(tmp_path / "there")))
    with pytest.raises(
        ValueError, match=r"^the download of http.*gz has a wrong checksum: .* put the original .*gz into .*"
    ):
        registry.datasets.build("mnist", data_dir=str(tmp_path / "here"))
    assert not unfinished(tmp_path / "here")


def test_a_failed_download_ends_the_others_of_its_call_and_leaves_those_of_another(tmp_path, serve):
    class Endless(Handler):
        def do_GET(self):
            if "t10k-images" in self.path:  # which is waited for first
                time.sleep(0.3)  # until the others are being read
                return self.send_error(404)
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(10_000))
                    time.sleep(0.01)

    serve(Endless)
    of_another = tmp_path / "downloads" / "mnist" / "archive.gz.tmp.0123" / "archive.gz"
    of_another.parent.mkdir(parents=True)
    of_another.write_bytes(b"half")
    began = time.monotonic()
    with pytest.raises(ConnectionError, match="DownloadError"):
        registry.datasets.build("mnist", data_dir=str(tmp_path))
    assert time.monotonic() - began < 10
    assert unfinished(tmp_path) == [of_another.parent, of_another]
    assert not [t for t in threading.enumerate() if "_sync_download" in str(getattr(t, "_args", ""))]


def test_a_silent_server_is_asked_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_download, "READ_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:  # the kernel accepts, and nobody replies
        move_mnist(monkeypatch, f"http://127.0.0.1:{server.getsockname()[1]}/")
        began = time.monotonic()
        with pytest.raises(ConnectionError, match=r"\(ReadTimeout\)"):
            registry.datasets.build("mnist", data_dir=str(tmp_path))
    assert 1 <= time.monotonic() - began < 5
    assert not unfinished(tmp_path)


@pytest.mark.parametrize("lost", ["packets", "names"])
def test_where_packets_are_dropped_connecting_ends_soon(lost, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_download, "CONNECT_SECONDS", 2)
    monkeypatch.setattr(tfds_download, "ADDRESS_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        there = server.getsockname()
        for _ in range(4):  # a full queue: what else comes is dropped
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(there)

        def addresses(*arguments):
            time.sleep(12 if lost == "names" else 0)
            return 12 * [(socket.AF_INET, socket.SOCK_STREAM, 6, "", there)]

        move_mnist(monkeypatch, "http://mnist.example/")
        monkeypatch.setattr(socket, "getaddrinfo", addresses)
        began = time.monotonic()
        with pytest.raises(ConnectionError, match=r"from mnist.example \(ConnectTimeout\)"):
            registry.datasets.build("mnist", data_dir=str(tmp_path))
        assert time.monotonic() - began < 8
    assert not unfinished(tmp_path)


@pytest.fixture
def no_network(monkeypatch):
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nothing listens there


@pytest.mark.parametrize("name", ["mnist", "cifar100", "fashion_mnist"])
def test_without_a_network_the_error_comes_soon_and_says_what_to_do(name, tmp_path, no_network):
    began = time.monotonic()
    with pytest.raises(
        ConnectionError, match=r"cannot download .* from .*: connect to the network, or put .*set --data_dir"
    ):
        registry.datasets.build(name, data_dir=str(tmp_path))
    assert time.monotonic() - began < 15
    assert not [p for p in tmp_path.rglob("*") if p.is_file() or ".tmp." in p.name or "incomplete" in p.name]


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_archives_of_one_set_never_serve_another(name, tmp_path, no_network):
    for folder in (tmp_path / "downloads" / "manual", tmp_path / "downloads" / "manual" / "mnist"):
        folder.mkdir(parents=True, exist_ok=True)
        for file in ARCHIVES:
            (folder / file).write_bytes(b"an archive of MNIST")
    with pytest.raises(ConnectionError, match=rf"put t10k-images-.*gz into {tmp_path}/downloads/manual/{name}, or"):
        registry.datasets.build(f"tfds(name='{name}')", data_dir=str(tmp_path))


def test_sets_share_no_folder_of_extracted_archives(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    builder, folders = tfds.builder_cls("beans"), []
    monkeypatch.setattr(builder, "_split_generators", lambda self, manager: folders.append(manager._extract_dir) or {})
    with pytest.raises(ValueError):
        registry.datasets.build("tfds(name='beans')", data_dir=str(tmp_path))
    assert folders == [tmp_path / "downloads" / "extracted" / "beans"]


def test_a_wrong_file_put_by_hand_is_named(tmp_path, no_network):
    manual = tmp_path / "downloads" / "manual" / "kmnist"
    manual.mkdir(parents=True)
    (manual / ARCHIVES[0]).write_bytes(b"no archive")
    with pytest.raises(ValueError, match=rf"^{manual / ARCHIVES[0]} has a wrong checksum: .*; replace or remove it$"):
        registry.datasets.build("tfds(name='kmnist')", data_dir=str(tmp_path))


def test_an_unknown_set_teaches(tmp_path):
    with pytest.raises(ValueError, match=r"no dataset 'mnits'; did you mean 'mnist'"):
        registry.datasets.build("tfds(name='mnits')", data_dir=str(tmp_path))


NO_NAMES = (
    "",
    ":",
    "/etc",
    "..",
    "*",
    "mnist/",
    "mnist:",
    "mnist:1.x",
    "mnist\n",
    "a/b/c",
    "a:b:c",
    "mnist/a=b",
    "mnist/a=b=c",
)


@pytest.mark.parametrize(
    "name", [*NO_NAMES, "mnist/data_dir=x", "huggingface:foo", "kaggle:mnist", "ns:name", "a" * 300]
)
def test_a_name_of_odd_form_teaches(name, tmp_path):
    with pytest.raises(ValueError) as error:
        registry.datasets.build(f"tfds(name={name!r})", data_dir=str(tmp_path))
    assert str(error.value).startswith(
        f"tfds: name={name!r}; expected a dataset of TensorFlow Datasets, e.g. 'emnist', "
    )


def test_a_version_that_is_not_there_is_told_of_those_that_are(tmp_path):
    message = r"cannot prepare 'mnist:1.0.0': Dataset mnist cannot be loaded at version 1.0.0, only: 3.0.1.$"
    with pytest.raises(ValueError, match=message):
        registry.datasets.build("tfds(name='mnist:1.0.0')", data_dir=str(tmp_path))


@pytest.mark.parametrize("name", ["imdb_reviews", "wider_face", "duke_ultrasound", "tf_flowers"])
def test_what_is_no_classification_or_has_no_size_is_refused_before_the_download(name, tmp_path, no_network):
    with pytest.raises(ValueError, match=r"one class each|declares no \(image, label\) pair|vary in size; set one"):
        registry.datasets.build(f"tfds(name='{name}')", data_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_set_without_a_list_of_archives_says_what_it_cannot_reach(tmp_path, monkeypatch, no_network):
    import tensorflow_datasets as tfds

    def split_generators(self, manager):
        return manager.download("http://beans.example/archive.zip")

    monkeypatch.setattr(tfds.builder_cls("beans"), "url_infos", None)
    monkeypatch.setattr(tfds.builder_cls("beans"), "_split_generators", split_generators)
    with pytest.raises(ConnectionError, match=r"cannot download 'beans' from its source \(ProxyError\): connect to"):
        registry.datasets.build("tfds(name='beans')", data_dir=str(tmp_path))


def test_preparing_says_nothing_on_stdout_and_shows_its_bars_on_a_terminal(tmp_path, monkeypatch, capfd):
    import tensorflow_datasets as tfds

    tfds.enable_progress_bar()
    prepared_cifar(monkeypatch, tmp_path, "cifar10")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    registry.datasets.build("cifar10", data_dir=str(tmp_path))
    out, err = capfd.readouterr()
    assert out == "" and "Generating splits" in err


def test_a_set_that_needs_tensorflow_names_the_extra(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def split_generators(self, manager):
        import tensorflow  # noqa: F401

    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr(tfds.builder_cls("beans"), "_split_generators", split_generators)
    with pytest.raises(ValueError, match=r"preparing 'beans' needs TensorFlow: run pip install -e '.\[tensorflow\]'"):
        registry.datasets.build("tfds(name='beans')", data_dir=str(tmp_path))


@pytest.fixture
def flowers(tmp_path, monkeypatch):
    """A set of many sizes with a validation split, prepared by a builder of its own."""
    import tensorflow_datasets as tfds

    def examples(count):
        for index in range(count):
            image = np.full((20 + index, 30, 3), 10 * index, np.uint8)
            yield index, {"image": tfds_prepare.png(image), "label": index % 3}

    def split_generators(self, manager):
        return {"train": examples(9), "validation": examples(6)}

    monkeypatch.setattr(tfds.builder_cls("tf_flowers"), "_split_generators", split_generators)
    return str(tmp_path)


def test_any_other_set_can_be_named(flowers):
    with pytest.raises(ValueError, match=r"vary in size; set one: tfds\(name='tf_flowers', image_size=…\)"):
        registry.datasets.build("tfds(name='tf_flowers')", data_dir=flowers)
    dataset = registry.datasets.build("tfds(name='tf_flowers', image_size=(8, 10), channels=1)", data_dir=flowers)
    assert dataset.train.read(np.arange(9)).shape == (9, 8, 10, 1)
    assert dataset.test is None and len(dataset.validation) == 6
    spec = "tfds(name='tf_flowers', image_size=8)"
    old = registry.datasets.build(upgrade_saved({"dataset": spec}, 3)["dataset"], data_dir=flowers)
    assert old.validation is None and len(old.test) == 6
    held_out = registry.datasets.build("tfds(name='tf_flowers', image_size=8, test_fraction=0.4)", data_dir=flowers)
    assert (len(held_out.train), len(held_out.validation), len(held_out.test)) == (6, 6, 3)
    assert len(dataset.classes) == 5
    means = dataset.train.read(np.arange(9)).mean(axis=(1, 2, 3))
    assert sorted(means.tolist()) == [10 * i for i in range(9)]


def test_the_newest_prepared_version_is_found(tmp_path):
    for version in ("1.9.0", "1.10.0", "incomplete.X_2.0.0"):
        (tmp_path / "thing" / version).mkdir(parents=True)
        (tmp_path / "thing" / version / "dataset_info.json").write_text("{}")
    assert sets.find_prepared(tmp_path, "thing").name == "1.10.0"
    assert sets.find_prepared(tmp_path, "thing:1.9.0").name == "1.9.0"
    assert sets.find_prepared(tmp_path, "nothing") is None
