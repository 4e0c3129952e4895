"""Download and prepare datasets of TensorFlow Datasets.

TensorFlow Datasets does the work: its builders, download manager, checksums and file format. Readers that need
TensorFlow only to open files are replaced; the output is the same.
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import numpy as np

from jaxvision.datasets.tfds_download import bounded
from jaxvision.specs import nearest

MNIST_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
Examples = Iterator[tuple[int, dict[str, Any]]]


def png(image: np.ndarray) -> io.BytesIO:
    """Return an image [H, W, C] as a PNG file in memory.

    TensorFlow Datasets needs TensorFlow to encode arrays, but stores files as they are.
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, "png")
    file.seek(0)
    return file


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of bytes: two zeros, the type 8, the number of axes, their sizes, the values."""
    content = gzip.decompress(Path(path).read_bytes())
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an IDX file of bytes")
    shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def mnist_examples(images: Path, labels: Path) -> Examples:
    """Yield the examples of a split of MNIST or a drop-in variant, with the keys and order of TensorFlow Datasets."""
    for index, (image, label) in enumerate(zip(read_idx(images), read_idx(labels), strict=True)):
        yield index, {"image": png(image[..., None]), "label": int(label)}


def _mnist_splits(builder: Any, manager: Any) -> dict[str, Examples]:
    urls = {split: [urljoin(builder.URL, name) for name in names] for split, names in MNIST_FILES.items()}
    return {split: mnist_examples(*paths) for split, paths in manager.download(urls).items()}


def cifar_examples(content: bytes, label_keys: list[str], prefix: str) -> Examples:
    """Yield the examples of CIFAR's binary records: one byte per label, then 32x32 bytes per color channel."""
    records = np.frombuffer(content, np.uint8).reshape(-1, len(label_keys) + 3 * 32 * 32)
    for index, record in enumerate(records):
        image = record[len(label_keys) :].reshape(3, 32, 32).transpose(1, 2, 0)
        labels = dict(zip(label_keys, map(int, record), strict=False))
        yield index, {"id": f"{prefix}{index:05d}", "image": png(np.ascontiguousarray(image)), **labels}


def _cifar_splits(builder: Any, manager: Any) -> dict[str, Examples]:
    info = builder._cifar_info
    with tarfile.open(manager.download(info.url)) as archive:

        def read(name: str) -> bytes:
            member = archive.extractfile(info.prefix + name)
            assert member is not None, f"{info.url} holds no {name}"
            return member.read()

        for key, file in zip(info.label_keys, info.label_files, strict=True):
            builder.info.features[key].names = read(file).decode().split()
        content = {
            "train": b"".join(map(read, info.train_files)),
            "test": b"".join(map(read, info.test_files)),
        }
    return {split: cifar_examples(data, info.label_keys, f"{split}_") for split, data in content.items()}


READERS: dict[str, Callable[[Any, Any], dict[str, Examples]]] = {
    "mnist": _mnist_splits,
    "fashion_mnist": _mnist_splits,
    "kmnist": _mnist_splits,
    "cifar10": _cifar_splits,
    "cifar100": _cifar_splits,
}


def _builder(name: str, root: Path) -> Any:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.registered import DatasetNotFoundError

    try:
        return tfds.builder(name, data_dir=str(root), file_format="array_record")
    except DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        raise ValueError(
            f"TensorFlow Datasets has no dataset {name!r}{nearest(name, known)}; it has {len(known)} datasets, see "
            "tensorflow.org/datasets/catalog"
        ) from None
    except (ImportError, AssertionError, ValueError, OSError) as error:
        raise _explained(error, name) from None


def prepare(name: str, root: Path, check: Callable[[Any], Any]) -> Path:
    """Download a dataset and prepare it below `root`; return its folder. Checksums are those of TensorFlow Datasets.

    Before the download, `check` is called with the dataset's info and may raise. Raises ConnectionError within seconds
    if the source cannot be reached; ValueError if the dataset does not exist, an archive has a wrong checksum, or
    TensorFlow is needed.
    """
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    builder = _builder(name, root)
    check(builder.info)
    if builder.name in READERS:
        builder._split_generators = lambda manager, **_: READERS[builder.name](builder, manager)
    try:
        _download(builder, root / "downloads")
    except (ImportError, AssertionError) as error:
        raise _explained(error, name) from error
    return Path(builder.data_dir)


def _download(builder: Any, downloads: Path) -> None:
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    manual = (
        downloads / "manual" / builder.name
    )  # one per dataset, because archives of several datasets share file names
    extracted = downloads / "extracted" / builder.name
    config = tfds.download.DownloadConfig(manual_dir=str(manual), extract_dir=str(extracted))
    try:
        with bounded():
            builder.download_and_prepare(
                file_format="array_record", download_dir=str(downloads), download_config=config
            )
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise ConnectionError(_advice(builder, manual, error)) from None
    except NonMatchingChecksumError as error:
        raise _unlike_the_original(error, manual) from None


def _advice(builder: Any, manual: Path, error: Exception) -> str:
    """Return the error message for an unreachable source, with the ways to fix it."""
    infos = builder.url_infos or {}  # None for a dataset without a list of archives
    files = sorted(info.filename for info in infos.values() if info.filename)
    hosts = sorted({urlsplit(url).hostname or url for url in infos})
    manual_fix = f", or put {', '.join(files)} into {manual}" if files else ""
    return (
        f"cannot download {builder.name!r} from {' or '.join(hosts) or 'its source'} ({type(error).__name__}): connect "
        f"to the network{manual_fix}, or set --data_dir to the folder of a prepared dataset"
    )


def _unlike_the_original(error: Exception, manual: Path) -> ValueError:
    """Return the error for an archive with a wrong checksum, with the place for the right one."""
    url, _, rest = str(error).removeprefix("Artifact ").partition(", downloaded to ")
    path = Path(rest.partition(", has wrong checksum")[0])
    if path.parent == manual:
        return ValueError(
            f"{path} has a wrong checksum: it is damaged or not the original, {url}; replace or remove it"
        )
    return ValueError(
        f"the download of {url} has a wrong checksum: it is damaged or not the original; try again, or put the "
        f"original {path.name} into {manual}"
    )


def _explained(error: BaseException, name: str) -> ValueError:
    """Return a one-line error for a dataset that cannot be prepared here."""
    text, cause = "", error
    while cause is not None:
        text, cause = f"{text} {cause}", cause.__cause__ or cause.__context__
    if isinstance(error, ImportError) and "tensorflow" in text.lower():
        return ValueError(
            f"preparing {name!r} needs TensorFlow: run pip install -e '.[tensorflow]' once in the clone of jaxvision; "
            "prepared datasets are read without it"
        )
    reason = " ".join(str(error).rpartition('}": ')[-1].split())  # without the builder's arguments
    return ValueError(f"TensorFlow Datasets cannot prepare {name!r}: {reason[:300]}")
