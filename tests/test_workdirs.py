"""Workdirs of released versions: the same predictions, and resume."""

import json
import shutil

import numpy as np
import pytest
from conftest import SHARED

import jaxvision as jv
from jaxvision import run as runs
from jaxvision.cli import run
from jaxvision.config import Config, Execution

OLD = SHARED.parent / "workdirs" / "v0.1"
PREDICTING = ("digits_cnn", "folder_resnet", "tags", "series")

pytestmark = pytest.mark.skipif(not OLD.is_dir(), reason="there is no ../shared/workdirs beside the checkout")


def assert_alike(found, wanted):
    """Compares plain values: texts are equal, numbers agree to 1e-4."""
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for name in wanted:
            assert_alike(found[name], wanted[name])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_alike(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=1e-4, rel=1e-4)
    else:
        assert found == wanted


NAMES = {"tags": "labels", "tag": "label"}  # of predictions, since version 0.2


def renamed(value):
    """Return what an older version printed, under today's names."""
    if isinstance(value, dict):
        return {NAMES.get(name, name): renamed(each) for name, each in value.items()}
    return [renamed(each) for each in value] if isinstance(value, list) else value


@pytest.fixture
def workdirs(tmp_path, monkeypatch):
    shutil.copytree(OLD, tmp_path / "v0.1")
    monkeypatch.chdir(tmp_path / "v0.1")
    return tmp_path / "v0.1"


@pytest.mark.parametrize("name", PREDICTING)
def test_a_workdir_predicts_what_it_did(name, workdirs, capsys):
    wanted = json.loads((workdirs / f"expected-{name}.json").read_text())
    files = [row["file"] for row in wanted]
    wanted = [renamed(row) for row in wanted]
    assert run("predict", [f"--workdir={name}", "--format=json", "--top=10", *files]) == 0
    assert_alike(json.loads(capsys.readouterr().out), wanted)


def test_a_generator_of_then_still_makes_images(workdirs):
    trained = runs.load("gan")
    example = runs.example_inputs(trained.run, 4)
    made = trained.predict_step(trained.params, trained.model_state, {"inputs": np.zeros(example.shape, np.uint8)})
    assert made.shape == example.shape and bool(((made >= 0) & (made <= 1)).all())


def test_a_run_of_then_goes_on(workdirs, capsys):
    config = Config.load(workdirs / "digits_cnn" / "config.json").replace(steps=20)
    execution = Execution.load(workdirs / "digits_cnn" / "execution.json")
    assert execution.eval_batch_size == 8
    result = jv.train(config, execution=execution, workdir="digits_cnn")
    said = capsys.readouterr().out
    assert "resumes at step 12 of 20 steps" in said and "changed: steps 12 to 20" in said
    assert result.history[-1]["step"] == 20
    assert json.loads((workdirs / "digits_cnn" / "config.json").read_text())["version"] == 5
    assert json.loads((workdirs / "digits_cnn" / "execution.json").read_text())["eval_batch_size"] == 8


def test_settings_of_a_newer_version_are_refused(workdirs):
    file = workdirs / "digits_cnn" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 99}))
    with pytest.raises(ValueError, match="has version 99, but this jaxvision reads versions 1 to 5: upgrade jaxvision"):
        runs.load("digits_cnn")


def test_loss_options_of_then_are_read_as_losses(workdirs):
    file = workdirs / "digits_cnn" / "config.json"
    task = "multiclass(focal=2.0, label_smoothing=0.1)"
    file.write_text(json.dumps({**json.loads(file.read_text()), "task": task}))
    assert Config.load(file).task == "multiclass(loss='focal(gamma=2.0, label_smoothing=0.1)')"
    assert runs.load("digits_cnn").step == 12


def test_specs_that_differ_in_quotes_are_the_same(workdirs):
    file = workdirs / "digits_cnn" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "task": "multiclass(label_smoothing=0.2)"}))
    before = Config.load(file)
    assert not before.differences(before.replace(task="multiclass(loss=cross_entropy(label_smoothing=0.2))"))
    assert before.differences(before.replace(task="multiclass(loss=cross_entropy(label_smoothing=0.1))"))


def test_a_workdir_without_its_execution_is_refused(workdirs):
    config = Config.load(workdirs / "digits_cnn" / "config.json")
    config.save(workdirs / "digits_cnn" / "config.json")
    with pytest.raises(ValueError, match=r"has no execution.json.*copy it along"):
        runs.load("digits_cnn")
