"""A table of predictions as CSV: a row for each file, in constant memory, resumed after an interruption."""

import csv
import io
import itertools
import json
import os
import resource
import shutil
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxvision as jv
from jaxvision import cli, image_files, prediction_file, prediction_rows

HEAD = ["file", "prediction", "probability_dark", "probability_light", "error"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two tiny runs that differ by their seed."""
    rng = np.random.default_rng(0)
    images = np.concatenate([rng.integers(low, low + 90, (8, 8, 8, 3)) for low in (0, 160)]).astype(np.uint8)
    data = {"train": (images, np.repeat(["dark", "light"], 8))}
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        config = jv.Config(model="mlp(hidden=(4,))", steps=2, batch_size=8, seed=seed)
        jv.train(config, workdir=folder / str(seed), dataset=data)
    return [folder / "0", folder / "1"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Ten images in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for index in range(10):
        Image.new("RGB", (9, 9), (25 * index,) * 3).save(f"photos/{index}.png")
    return [f"photos/{index}.png" for index in range(10)]


def predict(workdir, *words):
    return cli.run("predict", [f"--workdir={workdir}", "--batch_size=4", "--out=x.csv", *words])


def rows_of(file="x.csv"):
    with open(file, newline="", encoding="utf-8", errors="surrogateescape") as out:
        return list(csv.reader(out))


def test_a_file_name_with_a_line_ending_stays_in_its_row(trained, files):
    Path(files[2]).rename(odd := "photos/2\rx.png")
    assert predict(trained[0], "photos") == 0
    head, *rows = rows_of()
    assert sorted(row[0] for row in rows) == sorted([*files[:2], odd, *files[3:]])
    assert all(len(row) == len(head) for row in rows)
    whole = Path("x.csv").read_bytes()
    assert predict(trained[0], "photos") == 0 and Path("x.csv").read_bytes() == whole


def test_the_table_has_every_class_in_order(trained, files, capsys):
    assert predict(trained[0], "photos") == 0
    head, *rows = rows_of()
    assert head == HEAD and [row[0] for row in rows] == files
    found = jv.predict(trained[0], files, batch_size=4)
    assert [row[1] for row in rows] == found.labels
    assert np.array_equal(np.array([row[2:4] for row in rows], np.float32), found.probabilities)
    capsys.readouterr()
    assert cli.run("predict", [f"--workdir={trained[0]}", "--batch_size=4", "--format=csv", "photos"]) == 0
    assert capsys.readouterr().out == Path("x.csv").read_text()


def test_the_table_is_utf8_on_a_terminal_of_ascii(trained, files, monkeypatch):
    shutil.copy(files[0], "Grün.png")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.run("predict", [f"--workdir={trained[0]}", "--format=csv", "Grün.png"]) == 0
    assert "\nGrün.png,".encode() in stream.buffer.getvalue()


def test_a_file_of_the_user_beside_the_table_is_kept(trained, files, capsys):
    Path("x.csv.json").write_text('{"notes": 1}')
    assert predict(trained[0], "photos") == 2
    assert "x.csv.json" in capsys.readouterr().err and Path("x.csv.json").read_text() == '{"notes": 1}'


def test_the_limit_on_pixels_is_that_of_the_flag(trained, files, capsys):
    Image.new("RGB", (30, 30)).save("photos/3.png")
    assert predict(trained[0], "--max_image_pixels=100", "photos") == 2
    assert "at most 100 are read" in capsys.readouterr().err
    rows = rows_of()[1:]
    assert [row[0] for row in rows if row[-1]] == ["photos/3.png"] and len(rows) == 10
    assert predict(trained[0], "--max_image_pixels=100", "--quality_check", "--out=y.csv", "photos") == 2
    assert predict(trained[0], "--out=z.csv", "photos") == 0


def test_an_ensemble_has_the_mean(trained, files):
    assert predict(trained[0], f"--workdir={trained[1]}", "photos") == 0
    found = jv.predict(trained, files, batch_size=4).probabilities
    np.testing.assert_allclose(np.array([row[2:4] for row in rows_of()[1:]], np.float32), found, rtol=1e-6)


@pytest.mark.parametrize("keep", [1, 30, 200, 330, -1])
def test_an_interrupted_table_goes_on_where_it_stopped(keep, trained, files, capsys):
    assert predict(trained[0], "photos") == 0
    whole = Path("x.csv").read_bytes()
    Path("x.csv").write_bytes(whole[:keep])
    record = json.loads(Path("x.csv.json").read_text())
    Path("x.csv.json").write_text(json.dumps({name: record[name] for name in ("model", "columns")}))
    capsys.readouterr()
    assert predict(trained[0], "photos") == 0
    assert Path("x.csv").read_bytes() == whole and json.loads(Path("x.csv.json").read_text()) == record
    assert (", 10 rows" in capsys.readouterr().out.replace(":", ",")) and list(Path().glob("*.tmp")) == []


def test_the_rows_before_an_interruption_are_not_predicted_again(trained, files, monkeypatch, capsys):
    decoded, read = [], image_files.read_image

    def stop_at_seven(file, *arguments, **options):
        if str(file).endswith("7.png") and not decoded[8:]:
            raise KeyboardInterrupt
        decoded.append(str(file))
        return read(file, *arguments, **options)

    monkeypatch.setattr(image_files, "read_image", stop_at_seven)
    assert predict(trained[0], "photos") == 130
    assert "the same command goes on after them" in capsys.readouterr().err
    assert 1 < len(rows_of()) < 10 and "num_rows" not in json.loads(Path("x.csv.json").read_text())
    done = len(rows_of()) - 1
    decoded[:] = []
    monkeypatch.setattr(
        image_files, "read_image", lambda file, *a, **o: decoded.append(str(file)) or read(file, *a, **o)
    )
    assert predict(trained[0], "photos") == 0
    assert sorted(decoded) == files[done:] and [row[0] for row in rows_of()[1:]] == files
    assert f"10 rows; {done} were there before" in capsys.readouterr().out


def refused(capsys, *words):
    before = Path("x.csv").read_bytes()
    capsys.readouterr()
    assert predict(*words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and Path("x.csv").read_bytes() == before
    return error


def test_what_another_command_wrote_is_refused(trained, files, capsys):
    assert predict(trained[0], "photos") == 0
    assert "has predictions of another model" in refused(capsys, trained[1], "photos")
    assert "has predictions of another model" in refused(capsys, trained[0], "--tta=flip", "photos")
    assert "has other columns" in refused(capsys, trained[0], "--quality_check", "photos")
    Path("x.csv").write_text("\n".join(Path("x.csv").read_text().splitlines()[:5]) + "\n")
    assert "line 2 of 'x.csv' is for 'photos/0.png'" in refused(capsys, trained[0], files[3], *files)
    assert "have 'none' there" in refused(capsys, trained[0], *files[:2])
    os.remove("x.csv.json")
    assert "no 'x.csv.json' that states which model wrote it" in refused(capsys, trained[0], "photos")
    Path("x.csv").write_text("name,age\nAda,36\n")
    assert "has other columns" in refused(capsys, trained[0], "photos")
    Path("x.csv").write_text(",".join(HEAD) + "\nphotos/0.png,dark\n")
    Path("x.csv.json").write_text("[]")
    assert "x.csv.json is damaged" in refused(capsys, trained[0], "photos")


def test_a_damaged_line_is_named(trained, files, capsys):
    assert predict(trained[0], "photos") == 0
    lines = Path("x.csv").read_text().splitlines()
    Path("x.csv").write_text("\n".join([*lines[:2], "photos/1.png,dark", *lines[3:6]]) + "\n")
    assert "line 3 of 'x.csv' is damaged" in refused(capsys, trained[0], "photos")


def test_a_finished_table_is_written_again(trained, files):
    assert predict(trained[0], "photos") == 0
    before = rows_of()
    Image.new("RGB", (9, 9), (250, 0, 250)).save(files[0])
    assert predict(trained[0], "photos") == 0
    assert rows_of()[1] != before[1] and rows_of()[2:] == before[2:]


def test_an_unreadable_file_keeps_its_row_and_odd_names_survive(trained, files, capsys):
    odd = os.fsdecode(b'photos/1"a,\n\xe9.png')
    Image.new("RGB", (9, 9)).save(odd)
    Path("photos/2.png").write_text("no image")
    assert predict(trained[0], "photos") == 2
    assert "cannot read the image 'photos/2.png'" in capsys.readouterr().err
    assert predict(trained[0], "--on_bad_image=skip", "photos") == 0
    assert "skipped 1 unreadable image: " in capsys.readouterr().err
    whole = Path("x.csv").read_bytes()
    named = {row[0]: row for row in rows_of()[1:]}
    assert named["photos/2.png"][1:4] == ["", "", ""] and "not an image" in named["photos/2.png"][4]
    assert odd in named and len(named) == 11 and all(len(row) == 5 for row in named.values())
    for keep in range(0, len(whole), 37):
        Path("x.csv").write_bytes(whole[:keep])
        assert predict(trained[0], "--on_bad_image=skip", "photos") == 0
        assert Path("x.csv").read_bytes() == whole
        assert "skipped 1 unreadable image:" in capsys.readouterr().err


def test_only_one_process_writes_a_table(trained, files, capsys):
    import fcntl

    with open("x.csv", "a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "another process writes 'x.csv'" in refused(capsys, trained[0], "photos")


def test_a_device_is_written_without_a_record(trained, files):
    assert cli.run("predict", [f"--workdir={trained[0]}", "--format=csv", "--out=/dev/null", "photos"]) == 0
    assert not Path("/dev/null.json").exists()


def stream(trained, monkeypatch, folder, count):
    """Write the table of so many files that exist by name alone; return the growth of memory in bytes."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr(image_files, "read_image", lambda file, preprocessing, **_: pixels)
    table = prediction_rows.table_of([jv.load(trained[0])], batch_size=1024)
    names = (f"photos/{index:07}.png" for index in itertools.count())
    prediction_file.write(table, itertools.islice(names, 4096), folder / "warm.csv")
    tracemalloc.start()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    written = prediction_file.write(table, itertools.islice(names, count), folder / f"{count}.csv")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert written.num_rows == count
    return peak, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident)


def test_memory_does_not_grow_with_the_number_of_files(trained, monkeypatch, tmp_path):
    few, many = (stream(trained, monkeypatch, tmp_path, count)[0] for count in (4096, 16384))
    assert many < 1.5 * few + 2**20


@pytest.mark.slow
def test_a_million_files_need_no_more_memory_than_a_few(trained, monkeypatch, tmp_path):
    few, _ = stream(trained, monkeypatch, tmp_path, 8192)
    many, resident = stream(trained, monkeypatch, tmp_path, 1_000_000)
    assert many < 1.5 * few + 2**20 and resident < 100 * 2**20
    with open(tmp_path / "1000000.csv", "rb") as file:
        assert sum(1 for _ in file) == 1_000_001
