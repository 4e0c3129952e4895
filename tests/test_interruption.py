"""Ctrl-C before the first step: one line that states what was written, and exit status 130."""

import os
import signal
import subprocess
import sys
import time

import pytest

import jaxvision as jv
from jaxvision import cli, interruption
from jaxvision import data as datas
from jaxvision.engine.checkpoint import Checkpoints

TINY = ["--dataset=synthetic(num_examples=60, num_classes=3, image_size=20)", "--model=mlp(hidden=(8,))", "--steps=3"]
TINY += ["--batch_size=20", "--workdir=run"]
NOTHING = "jaxvision: interrupted, nothing was written\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    yield
    signal.signal(signal.SIGINT, before)


def interrupting(function):
    def interrupted(*arguments, **options):
        signal.raise_signal(signal.SIGINT)
        return function(*arguments, **options)

    return interrupted


@pytest.mark.parametrize("delay", [0.15, 0.5])
def test_while_the_package_is_imported(delay, tmp_path):
    """The module that takes longest is replaced by one that sleeps, so that the signal arrives in the imports."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(20)")
    package = os.path.dirname(os.path.dirname(interruption.__file__))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), package])}
    words = [sys.executable, "-m", "jaxvision", "train", *TINY]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None and process.stdout.readline() == "importing\n"
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, NOTHING)


def test_a_library_keeps_its_handler():
    code = "import signal, jaxvision; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_while_the_data_are_opened(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(datas, "open_dataset", interrupting(datas.open_dataset))
    assert cli.run("train", TINY) == 130
    assert capsys.readouterr().err == NOTHING and not (tmp_path / "run").exists()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    config = jv.Config(dataset=TINY[0].partition("=")[2], model="mlp(hidden=(8,))", steps=1, batch_size=20)
    jv.train(config, workdir=tmp_path / "later")  # in the same process, as in a notebook


def test_between_the_settings_and_the_first_step(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(Checkpoints, "restore", interrupting(Checkpoints.restore))
    assert cli.run("train", TINY) == 130
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.endswith("are kept; to resume: jaxvision train --workdir=run\n")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert cli.run("train", ["--workdir=run"]) == 0
    assert "begins: 3 steps of 20 examples (" in capsys.readouterr().out


def test_one_that_a_callback_swallows_comes_again(monkeypatch, capsys, tmp_path):
    class Swallowing:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def opened(*_, **__):
        Swallowing()
        time.sleep(5)
        raise AssertionError("the signal was lost")

    monkeypatch.setattr(datas, "open_dataset", opened)
    assert cli.run("train", TINY) == 130
    assert capsys.readouterr().err == NOTHING and not (tmp_path / "run").exists()
