"""Dataset reports: counts, sizes, unreadable files, duplicates."""

import json

import numpy as np
import pytest
from PIL import Image

import jaxvision as jv
from jaxvision.cli import run
from jaxvision.dataset_report import dataset_report, text
from jaxvision.reports import plots


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
    report = dataset_report(config, out=tmp_path / "report")
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
    assert "2 pairs, 1 of them across splits, 1 with different targets" in text(report)


def test_all_unreadable_files_are_listed_and_the_first_are_told(dirty, tmp_path):
    for index in range(7):
        (dirty / "test" / "dog" / f"bad{index}.jpg").write_bytes(b"no image")
    config = jv.Config(dataset=f"folder(path='{dirty}', image_size=32)", validation_fraction=0.0)
    report = dataset_report(config, out=tmp_path / "report")
    names = ["broken.jpg", *(f"bad{index}.jpg" for index in range(7))]
    assert [name in each for name, each in zip(names, report["unreadable"], strict=True)] == [True] * 8
    lines = text(report).splitlines()
    told = lines[lines.index("unreadable: 8 images") + 1 :][:6]
    assert "broken.jpg" in told[0] and "bad3.jpg" in told[4] and told[5] == "  and 3 more"


def test_one_pair_is_told_as_one(dirty, tmp_path):
    (dirty / "train" / "cat" / "same.png").unlink()
    config = jv.Config(dataset=f"folder(path='{dirty}', image_size=32)", validation_fraction=0.0)
    told = text(dataset_report(config, out=tmp_path / "report"))
    assert "near-duplicates: 1 pair, 1 of them across splits" in told and "unreadable: 1 image\n" in told


def test_pairs_are_drawn_with_their_files_and_without_empty_columns(dirty, tmp_path, monkeypatch):
    (dirty / "train" / "cat" / "same.png").unlink()
    (dirty / "test" / "cat" / "copy.jpg").rename(dirty / "test" / "cat" / "the_copy_of_a_photograph.jpg")
    figures, make = [], plots.new_figure
    monkeypatch.setattr(plots, "new_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    config = jv.Config(dataset=f"folder(path='{dirty}', image_size=32)", validation_fraction=0.0)
    dataset_report(config, out=tmp_path / "report")
    captions = [axes.get_title() for axes in figures[-1].axes]
    assert captions == ["train\ncat\n0.png", "test\ncat\nthe_copy_o…ograph.jpg"]


def test_numbers_are_measured_and_drawn(dirty, tmp_path):
    scores = {f"train/{name}/{i}.png": (i + 6 * (name == "dog")) / 2 for name in ("cat", "dog") for i in range(6)}
    rows = [f"{file},{score},train" for file, score in scores.items()] + ["test/cat/0.png,7,test"]
    (dirty / "scores.csv").write_text("\n".join(["image,score,part", *rows]))
    spec = f"table(path='{dirty / 'scores.csv'}', target='score', split='part', image_size=16)"
    report = dataset_report(jv.Config(dataset=spec, validation_fraction=0.0), out=tmp_path / "report")
    assert report["splits"]["train"]["num_examples"] == 12 and "window" not in report["splits"]["train"]
    assert report["splits"]["train"]["targets"] == {
        "least": 0.0,
        "lower_quartile": 1.375,
        "median": 2.75,
        "upper_quartile": 4.125,
        "largest": 5.5,
        "mean": 2.75,
        "standard_deviation": pytest.approx((143 / 48) ** 0.5),  # n numbers a half apart vary by (n² - 1) / 48
    }
    lines = [line.split() for line in text(report).splitlines()]
    assert ["upper", "quartile", "4.125", "7"] in lines and ["all", "12", "1"] in lines
    assert _drawn(tmp_path / "report") == ["histogram.png", "samples.png"]


@pytest.mark.parametrize("target", ["difference", "level"])
def test_a_series_is_measured_and_drawn(tmp_path, capsys, target):
    rows = [f"day {day},{day**2}" for day in range(1, 21)]
    (tmp_path / "squares.csv").write_text("\n".join(["day,square", *rows]))
    spec = f"time_series(path='{tmp_path / 'squares.csv'}', column='square', window=1, season=4, target='{target}')"
    flags = [f"--dataset={spec}", "--validation_fraction=0.25", f"--out={tmp_path / 'out'}"]
    assert run("dataset_report", flags) == 0
    splits = json.loads((tmp_path / "out" / "report.json").read_text())["splits"]
    assert [split["span"] for split in splits.values()] == [
        ["day 5", "day 13"],
        ["day 14", "day 16"],
        ["day 17", "day 20"],
    ]
    assert splits["test"]["num_examples"] == 4 and splits["test"]["window"] == 1
    assert splits["test"]["targets"]["least"] == 17**2 and splits["test"]["targets"]["mean"] == 343.5
    assert "test: 4 windows of 1 step, followed by day 17 to day 20" in capsys.readouterr().out
    assert _drawn(tmp_path / "out") == ["series.png"]


def test_a_series_is_drawn_split_after_split(tmp_path, monkeypatch):
    figures, make = [], plots.new_figure
    monkeypatch.setattr(plots, "new_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    splits = {"train": np.array([1.0, 2.0, 4.0]), "test": np.array([8.0])}
    plots.series(splits, ["a", "b", "c", "d"], tmp_path / "series.png")
    (axes,) = figures[0].axes
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert drawn == {"train": ([0, 1, 2], [1, 2, 4]), "test": ([3], [8])}
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b", "c", "d"]


def _drawn(folder):
    return sorted(file.name for file in folder.glob("*.png"))


def test_a_clean_set_has_no_duplicates(tmp_path, capsys):
    assert run("dataset_report", ["--dataset=digits", f"--out={tmp_path / 'out'}"]) == 0
    told = capsys.readouterr().out
    assert "unreadable: none" in told and "across splits" in told and not told.startswith("Traceback")


FOREIGN = {  # what there is, and what is said of the folder out
    "out": "is a file",
    "out/notes.txt": "holds other things than a dataset_report",
    "out/report.json": "holds other things than a dataset_report",  # as evaluate writes one
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_earlier_report_is_left_alone(tmp_path, capsys, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"split": "test", "num_examples": 3}')
    assert run("dataset_report", ["--dataset=synthetic(num_examples=40)", f"--out={tmp_path / 'out'}"]) == 2
    told = f"jaxvision: {str(tmp_path / 'out')!r} {FOREIGN[name]}; give a new or empty folder as --out\n"
    assert capsys.readouterr().err == told
    assert (tmp_path / name).read_text() == '{"split": "test", "num_examples": 3}'


def test_an_earlier_report_is_replaced_with_all_its_pictures(dirty, tmp_path):
    dataset_report(jv.Config(dataset=f"folder(path='{dirty}', image_size=32)"), out=tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("kept")
    (tmp_path / "squares.csv").write_text("\n".join(["square", *(str(step**2) for step in range(30))]))
    spec = f"time_series(path='{tmp_path / 'squares.csv'}', column='square')"
    report = dataset_report(jv.Config(dataset=spec), out=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    names = ["mine.txt", "report.html", "report.json", "series.png"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == names


def test_a_report_without_data_is_told(capsys):
    assert run("dataset_report", []) == 2
    assert "--dataset" in capsys.readouterr().err


def test_other_warnings_are_still_heard(dirty, tmp_path, monkeypatch):
    (tmp_path / "no_folder").touch()
    monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path / "no_folder"))
    config = jv.Config(dataset=f"folder(path='{dirty}', image_size=8)", validation_fraction=0.0)
    with pytest.warns(UserWarning, match="cannot cache decoded images"):
        report = dataset_report(config, out=tmp_path / "report")
    assert len(report["unreadable"]) == 1
