"""Time series: windows and targets by hand, the split by time, baselines."""

import csv

import numpy as np
import pytest

import jaxvision as jv
from jaxvision import registry
from jaxvision.cli import run
from jaxvision.data import open_dataset
from jaxvision.datasets.time_series import read_series
from jaxvision.splits import holdout
from jaxvision.testing import check_dataset

LEVELS = np.array([3.0, 5, 4, 8, 9, 7, 12, 15, 11, 18, 20, 19])


@pytest.fixture
def file(tmp_path):
    rows = "".join(f"2020-{month + 1:02},{level}\n" for month, level in enumerate(LEVELS))
    (tmp_path / "sales.csv").write_text("month,sales\n" + rows)
    return tmp_path / "sales.csv"


def spec(file, **arguments):
    given = {"path": str(file), "column": "sales", "window": 3, "test_fraction": 0.25, **arguments}
    return f"time_series({', '.join(f'{name}={value!r}' for name, value in given.items())})"


@pytest.mark.parametrize("target", ["level", "difference"])
def test_windows_and_what_follows(file, target):
    data = check_dataset(spec(file, target=target))
    first = 3 if target == "level" else 4
    steps = np.arange(first, 12)
    assert len(data.test) == 3 and len(data.train) == len(steps) - 3
    for split, own in ((data.train, steps[:-3]), (data.test, steps[-3:])):
        inputs = split.read(np.arange(len(split)))[..., 0]
        for row, step, wanted in zip(inputs, own, split.targets, strict=True):
            before = LEVELS[step - 3 : step] if target == "level" else np.diff(LEVELS[step - 4 : step])
            np.testing.assert_array_equal(row, before)
            assert wanted == (LEVELS[step] if target == "level" else LEVELS[step] - LEVELS[step - 1])
        targets, predictions = split.in_original_units(split.targets)
        np.testing.assert_array_equal(targets, LEVELS[own])
        np.testing.assert_array_equal(predictions, LEVELS[own])
        np.testing.assert_array_equal(split.baselines["last value"], LEVELS[own - 1])
        assert list(split.names) == [f"2020-{step + 1:02}" for step in own]
    seen = data.train.read(np.arange(len(data.train)))
    assert data.preprocessing.mean[0] == pytest.approx(seen.mean()) and data.preprocessing.size == (3,)


def test_a_seasonal_baseline_and_the_split_by_time(file):
    data = check_dataset(spec(file, season=6))
    np.testing.assert_array_equal(data.test.baselines["value 6 steps before"], LEVELS[3:6])
    assert len(data.train) + len(data.test) == 6  # those that have a value a season before
    train, validation = holdout(data.train, 0.3, seed=0)
    assert list(train.names) + list(validation.names) == list(data.train.names)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"window": 12}, "has 12 steps, 3 of them test .*, too few for window=12; window=6 is the largest possible"),
        ({"window": 8, "target": "level"}, "too few for window=8; window=7 is the largest possible"),
        ({"season": 500}, "too few for season=500; season=7 is the largest possible"),
        ({"test_fraction": 0.9}, "11 of them test .*, too few for window=3; add steps, or lower test_fraction"),
        ({"test_fraction": 1.5}, "test_fraction=1.5; expected a fraction between 0 and 1"),
        ({"window": 0}, "window=0"),
        ({"column": "sale"}, "no column 'sale'; did you mean 'sales'"),
        ({"column": "month"}, "line 2: column 'month' has '2020-01', which is not a finite number"),
    ],
)
def test_bad_series_are_told(file, arguments, told):
    with pytest.raises(ValueError, match=told):
        registry.datasets.build(spec(file, **arguments))


@pytest.mark.parametrize("arguments", [{"window": 6}, {"window": 7, "target": "level"}, {"season": 7}])
def test_the_largest_window_and_season_are_possible(file, arguments):
    assert len(registry.datasets.build(spec(file, **arguments)).train) == 2


@pytest.mark.parametrize("target", ["level", "difference"])
def test_a_constant_series_is_refused(tmp_path, target):
    (tmp_path / "flat.csv").write_text("month,sales\n" + "".join(f"{month},5\n" for month in range(12)))
    with pytest.raises(ValueError, match=r"has only the number 5\.0 in train; expected values that vary"):
        registry.datasets.build(spec(tmp_path / "flat.csv", target=target))


@pytest.fixture(scope="module")
def wave(tmp_path_factory):
    """A growing wave as a table, and the folder of a run that learned it."""
    tmp_path = tmp_path_factory.mktemp("wave")
    steps = np.arange(120)
    levels = 100 + 2.0 * steps + 20 * np.sin(2 * np.pi * steps / 12)
    (tmp_path / "wave.csv").write_text("t,x\n" + "".join(f"{t},{x}\n" for t, x in zip(steps, levels, strict=True)))
    config = jv.Config(
        dataset=f"time_series(path='{tmp_path / 'wave.csv'}', column='x', window=12, season=12)",
        task="regression",
        model="lstm(hidden=(8,), dense=())",
        batch_size=16,
        epochs=60,
        learning_rate=2e-2,
    )
    return tmp_path / "wave.csv", jv.train(config, workdir=tmp_path / "run")


def test_a_series_is_learned_and_judged_in_its_own_units(wave):
    _, result = wave
    assert result.test["rmse"] < 0.5 * result.test["baseline"]["last value"]["rmse"]
    assert set(result.test["baseline"]) == {"last value", "value 12 steps before"}
    assert {p.name for p in (result.workdir / "report").iterdir()} >= {"forecast.png", "scatter.png", "curves.png"}


def test_predictions_are_written_in_the_units_of_the_series(wave):
    file, result = wave
    series = [line.split(",") for line in file.read_text().split()[1:]]
    levels = np.array([float(level) for _, level in series])
    with (result.workdir / "report" / "predictions.csv").open() as out:
        head, *rows = list(csv.reader(out))
    assert head == ["file", "truth", "prediction", "loss", "last value", "value 12 steps before"]
    assert [row[0] for row in rows] == [name for name, _ in series[-24:]]
    found = np.array([row[1:] for row in rows], float)
    for values, wanted in zip(found.T[[0, 3, 4]], (levels[-24:], levels[-25:-1], levels[-36:-12]), strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-6)
    rmse = np.sqrt(np.mean((found[:, 1] - found[:, 0]) ** 2))
    assert rmse == pytest.approx(result.test["rmse"], rel=1e-4)


def shortened(file, folder, *, steps):
    """Writes the table without its last steps."""
    lines = file.read_text().splitlines(keepends=True)
    (folder / "known.csv").write_text("".join(lines[:-steps]))
    return folder / "known.csv"


def test_the_next_value_is_that_of_the_evaluation(wave, tmp_path):
    file, result = wave
    with (result.workdir / "report" / "predictions.csv").open() as out:
        judged = list(csv.DictReader(out))
    known = shortened(file, tmp_path, steps=3)
    found = jv.predict(result.workdir, known)
    (row,) = found.rows()
    assert row["file"] == str(known) and row["after"] == judged[-4]["file"]
    assert row["value"] == pytest.approx(float(judged[-3]["prediction"]), rel=1e-6)
    levels, _ = read_series(str(known), "x")
    np.testing.assert_allclose(jv.predict(result.workdir, levels).predictions, found.predictions, rtol=1e-6)
    rows = np.lib.stride_tricks.sliding_window_view(read_series(str(file), "x")[0], 13)[-25:-1]
    many = jv.predict(result.workdir, rows, batch_size=7)
    np.testing.assert_allclose(many.predictions, [float(each["prediction"]) for each in judged], rtol=1e-6)
    assert "after" not in many.rows()[0] and many.labels == many.predictions.tolist()


def test_the_next_value_is_printed_and_what_has_none_is_told(wave, tmp_path, capsys):
    file, result = wave
    words = [f"--workdir={result.workdir}", str(file)]
    assert run("predict", [*words, "--format=csv"]) == 0
    head, row = capsys.readouterr().out.split()
    assert head == "file,after,prediction" and row.startswith(f"{file},119,")
    assert run("predict", [*words, "--quality_check"]) == 2
    assert "--quality_check needs images" in capsys.readouterr().err
    assert run("predict", [words[0], str(shortened(file, tmp_path, steps=108))]) == 2
    assert "known.csv' has 12 steps; expected its last 13 or more" in capsys.readouterr().err
    for inputs, told in ((np.zeros((2, 13, 1)), "shape"), (np.full(13, np.nan), "finite"), (np.zeros(12), "12 steps")):
        with pytest.raises(ValueError, match=told):
            jv.predict(result.workdir, inputs)


def test_levels_are_predicted_from_levels(file, tmp_path):
    config = jv.Config(
        dataset=spec(file, target="level"), task="regression", model="mlp(hidden=(4,))", batch_size=4, steps=2
    )
    result = jv.train(config, workdir=tmp_path / "run")
    with (result.workdir / "report" / "predictions.csv").open() as out:
        judged = list(csv.DictReader(out))
    found = jv.predict(result.workdir, LEVELS[:-1]).predictions
    assert found == pytest.approx([float(judged[-1]["prediction"])], rel=1e-5)


def test_what_is_for_images_is_refused(file, tmp_path, capsys):
    words = [
        f"--dataset={spec(file)}",
        "--task=regression",
        "--steps=1",
        "--batch_size=2",
        f"--workdir={tmp_path / 'run'}",
    ]
    assert run("launch", [*words, "--model=lstm(hidden=(4,))", "--augmentations=horizontal_flip"]) == 2
    assert "augmentations='horizontal_flip' needs images" in capsys.readouterr().err
    for model in ("resnet18", "mobilenet_v2"):
        assert run("launch", [*words, f"--model={model}"]) == 2
        assert "--model=lstm" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_windows_are_scaled_by_what_precedes_validation(file):
    config = jv.Config(dataset=spec(file, target="level"), validation_fraction=0.3)
    data = open_dataset(config)
    seen = data.train.read(np.arange(len(data.train)))
    assert data.preprocessing.mean[0] == pytest.approx(seen.mean())
    assert data.preprocessing.std[0] == pytest.approx(seen.std())
