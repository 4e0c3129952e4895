"""The cache of decoded images: damage, replaced files, a full disk, folders that killed processes leave."""

import os
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from jaxvision import array_cache as cache
from jaxvision import registry
from jaxvision.datasets import files


def build(photos):
    return registry.datasets.build(f"folder(path='{photos}', image_size=8)")


def pixels(dataset):
    return dataset.train.read(np.arange(len(dataset.train)))


def entries():
    return sorted(path for path in (cache.cache_folder() / "arrays").iterdir())


def invert_the_end(file):
    content = file.read_bytes()
    file.write_bytes(content[:-64] + bytes(255 - byte for byte in content[-64:]))


def swap_two_rows(file):
    images = np.load(file)
    np.save(file, images[[1, 0, *range(2, len(images))]])


DAMAGE = {
    "cut short": lambda folder: os.truncate(folder / "images.npy", 500),
    "empty": lambda folder: os.truncate(folder / "images.npy", 0),
    "other pixels": lambda folder: invert_the_end(folder / "images.npy"),
    "two images swapped": lambda folder: swap_two_rows(folder / "images.npy"),
    "images deleted": lambda folder: (folder / "images.npy").unlink(),
    "errors deleted": lambda folder: (folder / "errors.npy").unlink(),
    "errors emptied": lambda folder: (folder / "errors.npy").write_bytes(b""),
    "checksums deleted": lambda folder: (folder / "checksums.json").unlink(),
    "checksums of another type": lambda folder: (folder / "checksums.json").write_text('{"images.npy": 3}'),
    "checksums nested deeply": lambda folder: (folder / "checksums.json").write_text("[" * 100_000),
    "a foreign array": lambda folder: np.save(folder / "other.npy", np.zeros(3)),
    "everything deleted": lambda folder: [file.unlink() for file in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_made_again_with_a_warning(damage, photos):
    before = pixels(build(photos))
    (folder,) = entries()
    damage(folder)
    with pytest.warns(UserWarning, match=r"the cached arrays in .* are damaged \(.*\) and are made again"):
        np.testing.assert_array_equal(pixels(build(photos)), before)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(pixels(build(photos)), before)
    assert entries() == [folder]


def test_a_damaged_entry_that_cannot_be_removed_is_not_used(photos, monkeypatch):
    before = pixels(build(photos))
    invert_the_end(entries()[0] / "images.npy")
    remove = shutil.rmtree
    kept = str(entries()[0])
    monkeypatch.setattr(shutil, "rmtree", lambda path, **options: str(path) == kept or remove(path, **options))
    with pytest.warns(UserWarning, match="damaged"), pytest.warns(UserWarning, match="cannot cache"):
        np.testing.assert_array_equal(pixels(build(photos)), before)


def replace_by_rename(file, other):
    shutil.copy(other, file.with_name("new"))
    os.utime(file.with_name("new"), ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    os.replace(file.with_name("new"), file)


def overwrite(file, other):
    times = file.stat()
    file.write_bytes(other.read_bytes())
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def exchange(file, other):
    os.rename(file, file.with_name("held"))
    os.rename(other, file)
    os.rename(file.with_name("held"), other)


@pytest.mark.parametrize("replace", [replace_by_rename, overwrite, exchange])
def test_a_replaced_file_of_the_same_size_and_time_is_decoded_again(replace, tmp_path):
    for name, level in (("a", 10), ("b", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(3):
            file = tmp_path / "photos" / name / f"{index}.bmp"
            Image.new("L", (8, 8), level + index).save(file)
            os.utime(file, ns=(10**18, 10**18))
    listed = [tmp_path / "photos" / "a" / "0.bmp", tmp_path / "photos" / "b" / "2.bmp"]
    images, _ = files._decoded(listed, build(tmp_path / "photos").preprocessing, "train", files.MAX_PIXELS)
    assert [int(image.max()) for image in images] == [10, 202]
    replace(*listed)
    images, _ = files._decoded(listed, build(tmp_path / "photos").preprocessing, "train", files.MAX_PIXELS)
    assert [int(image.max()) for image in images] == ([202, 10] if replace is exchange else [202, 202])


def test_a_cache_on_a_full_disk_warns_and_the_images_are_read(small_disk, monkeypatch):
    for name in "ab":
        (small_disk.parent / "large" / name).mkdir(parents=True)
        for index in range(10):
            Image.new("RGB", (64, 64), (index, 9, 9)).save(small_disk.parent / "large" / name / f"{index}.png")
    monkeypatch.setenv("JAXVISION_CACHE", str(small_disk))
    with pytest.warns(UserWarning, match="cannot cache decoded images: .*No space left.*set JAXVISION_CACHE"):
        dataset = registry.datasets.build(f"folder(path='{small_disk.parent / 'large'}', image_size=64)")
    assert sorted({int(value) for value in pixels(dataset)[..., 0].flat}) == list(range(10))
    assert not list((small_disk / "arrays").iterdir())


def test_two_full_disks_end_in_one_message(small_disk, monkeypatch):
    monkeypatch.setenv("JAXVISION_CACHE", str(small_disk))
    monkeypatch.setattr(cache.tempfile, "mkdtemp", lambda **_: _folder(small_disk / "temporary"))

    def make(folder):
        with cache.ArrayFile(folder / "images.npy", np.uint8, (100, 1000)) as rows:
            rows[0] = np.zeros(1000, np.uint8)

    with pytest.warns(UserWarning, match="cannot cache"), pytest.raises(OSError, match="No space left on device for"):
        cache.cached("thing", "key", make)


def _folder(path):
    path.mkdir()
    return str(path)


def test_a_write_that_does_not_fit_raises_and_does_not_kill(small_disk, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")  # as on systems that cannot reserve space
    with (
        pytest.raises(OSError, match="No space left"),
        cache.ArrayFile(small_disk / "rows.npy", np.uint8, (100, 1000)) as rows,
    ):
        for index in range(100):
            rows[index] = np.full(1000, index, np.uint8)


def test_rows_are_written_as_numpy_reads_them(tmp_path):
    with cache.ArrayFile(tmp_path / "rows.npy", np.float32, (4, 2, 3)) as rows:
        rows[2], rows[0] = np.arange(6).reshape(2, 3), 7
    loaded = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert loaded.dtype == np.float32 and loaded.shape == (4, 2, 3)
    np.testing.assert_array_equal(loaded.sum(axis=(1, 2)), [42, 0, 15, 0])


def test_folders_that_killed_processes_left_are_removed_and_those_in_use_are_not(photos):
    parent = cache.cache_folder() / "arrays"
    for name in (".folder-killed", ".folder-busy", ".folder-old", ".folder-starting"):
        (parent / name).mkdir(parents=True)
    (parent / ".folder-killed" / "lock").touch()
    (parent / ".folder-killed" / "images.npy").write_bytes(bytes(100))
    os.utime(parent / ".folder-old", (0, 0))
    with cache._in_use(parent / ".folder-busy"):
        build(photos)
        left = {path.name for path in parent.glob(".*")}
    assert left == {".folder-busy", ".folder-starting"}
    (entry,) = parent.glob("folder-*")
    assert sorted(path.name for path in entry.iterdir()) == ["checksums.json", "errors.npy", "images.npy"]


def test_arrays_without_a_cache_leave_no_folder(tmp_path, monkeypatch, photos):
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path / "temporary"))
    with pytest.warns(UserWarning, match="cannot cache"):
        dataset = build(photos)
    assert not list((tmp_path / "temporary").iterdir()) and len(pixels(dataset)) == 32
