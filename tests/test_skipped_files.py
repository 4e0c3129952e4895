"""Files that look like pictures and are not read are named with their number, and with what to do about them."""

import pytest

import jaxvision as jv
from jaxvision import cli
from jaxvision.image_files import SkippedFiles, find_images

TINY = ["--model=mlp(hidden=())", "--batch_size=8", "--steps=1", "--workdir=run"]
NAMED = "2 .heic (convert them to JPEG), 1 .mov (extract images from them)"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def of_a_phone(photos):
    for name in ("dark/a.HEIC", "light/b.heic", "light/c.mov", "dark/notes.txt", "dark/.hidden.heic"):
        (photos / name).write_bytes(b"no image")
    return photos


@pytest.mark.filterwarnings("always::UserWarning")
def test_train_predict_and_the_dataset_report_name_them(of_a_phone, capsys):
    dataset = "--dataset=folder(path='photos', image_size=8)"
    assert cli.run("train", [dataset, *TINY]) == 0
    assert f"skipped {NAMED}" in capsys.readouterr().err
    assert cli.run("predict", ["--workdir=run", "photos"]) == 0
    said = capsys.readouterr()
    assert said.err == f"jaxvision: warning: photos: skipped {NAMED}\n" and len(said.out.splitlines()) == 41
    assert cli.run("dataset_report", [dataset, "--out=report"]) == 0
    said = capsys.readouterr()
    assert f"skipped: {NAMED}" in said.out and said.err == ""


def test_a_folder_with_nothing_else_says_so(tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "a.heic").write_bytes(b"no image")
    with pytest.raises(FileNotFoundError, match=r"and it has 1 \.heic \(convert them to JPEG\)"):
        find_images(["photos/cat"])
    assert cli.run("train", ["--dataset=folder(path='photos')", *TINY]) == 2
    assert "and it has 2 .heic (convert them to JPEG)" in capsys.readouterr().err


def test_a_single_file_is_named_with_its_repair(of_a_phone):
    with pytest.warns(SkippedFiles, match="heic"):
        jv.train(
            jv.Config(dataset="folder(path='photos', image_size=8)", model="mlp(hidden=())", batch_size=8, steps=1),
            workdir="run",
        )
    with pytest.raises(ValueError, match=r"a\.HEIC': a \.HEIC file is not read; convert it to JPEG"):
        jv.predict("run", "photos/dark/a.HEIC")
