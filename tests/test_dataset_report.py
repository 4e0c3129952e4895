"""What is looked at before training: counts, sizes, unreadable files, what is there twice."""

import json

import numpy as np
import pytest
from PIL import Image

import jaxvision as jv
from jaxvision import pictures
from jaxvision.cli import run
from jaxvision.dataset_report import dataset_report, text


@pytest.fixture
def dirty(tmp_path):
    """Photographs by split and class, among them a copy across splits, one under another class, and a broken file."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                tiles = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8)
                Image.fromarray(tiles).resize((60, 48)).save(folder / f"{index}.png")
    photos = tmp_path / "photos"
    with Image.open(photos / "train" / "cat" / "0.png") as image:
        image.resize((90, 72)).save(photos / "test" / "cat" / "copy.jpg", quality=90)
    with Image.open(photos / "train" / "dog" / "1.png") as image:
        image.save(photos / "train" / "cat" / "same.png")
    (photos / "train" / "cat" / "broken.jpg").write_bytes(b"no image")
    return photos


def test_a_report_counts_and_finds(dirty, tmp_path):
    config = jv.Config(dataset=f"folder(path='{dirty}', image_size=32)", validation_fraction=0.0)
    report = dataset_report(config, folder=tmp_path / "report")
    assert report["splits"]["train"]["counts"] == {"cat": 7, "dog": 6}
    assert report["splits"]["test"]["sizes"] == {"least": [60, 48], "median": [60, 48], "largest": [90, 72]}
    assert report["splits"]["test"]["formats"] == {"PNG": 6, "JPEG": 1}
    assert len(report["unreadable"]) == 1 and "broken.jpg" in report["unreadable"][0]
    assert report["num_near_duplicates"] == 2 and report["num_leaks"] == 1 and report["num_of_other_targets"] == 1
    leak = next(pair for pair in report["near_duplicates"] if pair["splits"] == ["train", "test"])
    assert leak["one"].endswith("train/cat/0.png") and leak["other"].endswith("test/cat/copy.jpg")
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == report
    for name in ("counts", "samples", "near_duplicates"):
        with Image.open(tmp_path / "report" / f"{name}.png") as image:
            assert min(image.size) > 200
    assert "2 pairs, 1 of them across splits, 1 of other targets" in text(report)


def test_all_unreadable_files_are_listed_and_the_first_are_told(dirty, tmp_path):
    for index in range(7):
        (dirty / "test" / "dog" / f"bad{index}.jpg").write_bytes(b"no image")
    config = jv.Config(dataset=f"folder(path='{dirty}', image_size=32)", validation_fraction=0.0)
    report = dataset_report(config, folder=tmp_path / "report")
    names = ["broken.jpg", *(f"bad{index}.jpg" for index in range(7))]
    assert [name in each for name, each in zip(names, report["unreadable"], strict=True)] == [True] * 8
    lines = text(report).splitlines()
    told = lines[lines.index("unreadable: 8 images") + 1 :][:6]
    assert "broken.jpg" in told[0] and "bad3.jpg" in told[4] and told[5] == "  and 3 more"


def test_one_pair_is_told_as_one(dirty, tmp_path):
    (dirty / "train" / "cat" / "same.png").unlink()
    config = jv.Config(dataset=f"folder(path='{dirty}', image_size=32)", validation_fraction=0.0)
    told = text(dataset_report(config, folder=tmp_path / "report"))
    assert "near-duplicates: 1 pair, 1 of them across splits" in told and "unreadable: 1 image\n" in told


def test_pairs_are_drawn_with_their_files_and_without_empty_columns(dirty, tmp_path, monkeypatch):
    (dirty / "train" / "cat" / "same.png").unlink()
    (dirty / "test" / "cat" / "copy.jpg").rename(dirty / "test" / "cat" / "the_copy_of_a_photograph.jpg")
    figures, make = [], pictures._figure
    monkeypatch.setattr(pictures, "_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    config = jv.Config(dataset=f"folder(path='{dirty}', image_size=32)", validation_fraction=0.0)
    dataset_report(config, folder=tmp_path / "report")
    captions = [axes.get_title() for axes in figures[-1].axes]
    assert captions == ["train\ncat\n0.png", "test\ncat\nthe_copy_o…ograph.jpg"]


def test_a_clean_set_has_no_duplicates(tmp_path, capsys):
    assert run("dataset_report", ["--dataset=digits", f"--out={tmp_path / 'out'}"]) == 0
    told = capsys.readouterr().out
    assert "unreadable: none" in told and "across splits" in told and not told.startswith("Traceback")


def test_a_report_without_data_is_told(capsys):
    assert run("dataset_report", []) == 2
    assert "--dataset=" in capsys.readouterr().err
