"""The learning-rate range test: its schedule, its choice, and the run that uses it."""

import json

import numpy as np
import pytest

import jaxvision as jv
from jaxvision import data as datas
from jaxvision import range_test, registry
from jaxvision.cli import run

CONFIG = jv.Config(dataset="digits", model="mlp(hidden=(32,))", batch_size=64, steps=8, learning_rate="auto")


def test_the_rate_rises_exponentially_to_the_peak():
    schedule = registry.schedules.build("range_test(start=1e-4)", learning_rate=10.0, num_steps=5)
    np.testing.assert_allclose(
        [float(schedule(step)) for step in range(7)], [1e-3, 1e-2, 0.1, 1, 10, 10, 10], rtol=1e-5
    )


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_chosen_rate_trains_better_than_much_lower_and_higher_ones(optimizer, tmp_path):
    config = CONFIG.replace(optimizer=optimizer, steps=60)
    found = range_test.range_test(config, datas.open_dataset(config))
    lowest = int(np.argmin(found.smoothed))
    assert found.learning_rate == pytest.approx(found.rates[lowest] / 10, rel=0.05)
    assert 20 < len(found.losses) <= 100 and found.rates[0] == pytest.approx(1e-6)
    accuracies = []
    for factor in (0.01, 1, 100):
        trained = jv.train(
            config.replace(learning_rate=factor * found.learning_rate),
            execution=jv.Execution(on_nonfinite="skip"),
            workdir=tmp_path / str(factor),
        )
        assert trained.test is not None
        accuracies.append(trained.test["accuracy"])
    assert accuracies[1] > max(accuracies[0], accuracies[2]) + 0.1


def test_a_loss_that_never_falls_is_refused(monkeypatch):
    monkeypatch.setattr(range_test, "_losses", lambda setup, config: [1.0, 1.1, 1.5, 4.0])
    with pytest.raises(
        ValueError,
        match=r"no rate from 1e-06 to 10\.0 lowered the loss by a tenth in 100 steps of 64 examples, from 1 to 1: ",
    ):
        range_test.range_test(CONFIG, datas.open_dataset(CONFIG))


def test_a_run_uses_the_rate_and_keeps_it_when_it_goes_on(tmp_path, capsys):
    result = jv.train(CONFIG, workdir=tmp_path / "run")
    rate = json.loads((tmp_path / "run" / "config.json").read_text())["learning_rate"]
    assert json.loads((tmp_path / "run" / "range_test.json").read_text())["learning_rate"] == rate
    assert (tmp_path / "run" / "range_test.png").read_bytes()[:4] == b"\x89PNG"
    assert f"the learning rate is a tenth, {rate:.2g}" in capsys.readouterr().out
    assert result.history[0]["learning_rate"] <= rate
    jv.train(CONFIG.replace(steps=9), workdir=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["learning_rate"] == rate
    assert "range test" not in capsys.readouterr().out


def test_a_folder_with_other_files_stays_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="files that do not belong to a training run"):
        jv.train(CONFIG, workdir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_flag_takes_a_number_or_auto(capsys):
    assert run("train", ["--dataset=digits", "--learning_rate=automatic", "--steps=1"]) == 2
    assert "--learning_rate=automatic is not a number or auto or None; did you mean 'auto'?" in capsys.readouterr().err
