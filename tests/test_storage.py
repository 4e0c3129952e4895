"""Files of a workdir: atomic writes, reports of damage, and other files left alone."""

import json
import os

import pytest
from etils import epath

from jaxvision import storage


def test_a_kill_while_writing_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "values.json"
    storage.write_json(file, {"a": 1})
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        storage.write_json(file, {"a": 2})
    assert storage.read_json(file) == {"a": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == [".values.json.tmp", "values.json"]
    assert storage.foreign_files(tmp_path, ("values.json",)) == []


@pytest.mark.parametrize("content", ["", '{"a": 1', "[1, 2]", '{"a": "x"}', "{}", b"\xff\xfe\xfd"])
def test_what_is_damaged_is_named(tmp_path, content):
    file = tmp_path / "values.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"values\.json is damaged: \w+Error: .*; write it again$"):
        storage.read_json(file, lambda values: int(values["a"]), repair="write it again")


def test_files_that_are_not_ours(tmp_path):
    assert storage.foreign_files(tmp_path / "none", ()) == []
    assert storage.foreign_files(tmp_path, ()) == []
    for name in ("lock", "a.json", ".a.json.tmp", "holiday.txt", ".hidden"):
        (tmp_path / name).touch()
    assert storage.foreign_files(tmp_path, (storage.LOCK, "a.json")) == [".hidden", "holiday.txt"]
    assert storage.foreign_files(tmp_path / "holiday.txt", ()) == ["holiday.txt"]


def test_a_remote_folder_is_written_read_and_not_locked(tmp_path):
    with epath.testing.mock_epath(  # a disk stands in for the store
        open=lambda original, path, mode: original(local(tmp_path, path), mode),
        exists=lambda original, path: original(local(tmp_path, path)),
        replace=lambda original, path, to: original(local(tmp_path, path), local(tmp_path, to)),
        isdir=lambda original, path: original(local(tmp_path, path)),
    ):
        file = storage.to_path("gs://bucket") / "values.json"
        storage.write_json(file, {"a": 1})
        assert str(file) == "gs://bucket/values.json" and storage.read_json(file) == {"a": 1}
        with pytest.warns(UserWarning, match="gs://bucket cannot be locked"), storage.locked(file.parent):
            pass
    assert json.loads((tmp_path / "values.json").read_text()) == {"a": 1}


def local(folder, path):
    return folder / os.fspath(path).rpartition("/")[2]


def test_a_folder_is_locked_for_one(tmp_path):
    with (
        storage.locked(tmp_path),
        pytest.raises(ValueError, match=rf"another run trains in .*: process {os.getpid()} on "),
        storage.locked(tmp_path),
    ):
        pass
    with storage.locked(tmp_path):
        pass
