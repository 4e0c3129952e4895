"""The crash test: a short real one, and whether its comparison detects differences."""

import json
import shutil

import crash_test
import pytest

import jaxvision as jv
from jaxvision.cli.errors import run_command

CONFIG = jv.Config(
    dataset="synthetic(num_examples=107, num_classes=3, image_size=8)",
    model="mlp(hidden=(4,))",
    batch_size=20,
    eval_every=2,
    steps=4,
)


def test_a_run_killed_in_each_phase_ends_as_one_left_alone(tmp_path, capsys):
    flags = ["--steps=300", "--eval_every=50", "--kills=4", "--seed=3", f"--workdir={tmp_path / 'torture'}"]
    assert run_command(crash_test.main, flags, "scripts/crash_test.py") == 0, capsys.readouterr()
    shown = capsys.readouterr().out
    assert shown.count("\nkill ") == 4 and "\n4 kills: " in shown and "equals the undisturbed one" in shown
    assert all(f": in {phase}; " in shown for phase in ("steps", "save", "evaluation"))


def add_row(path):
    with (path / "metrics.jsonl").open("a") as file:
        file.write((path / "metrics.jsonl").read_text().splitlines()[-1] + "\n")


def drop_row(path):
    lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text("".join(lines[:1] + lines[2:]))


def change_report(path):
    file = path / "report" / "report.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "loss": 0.5}))


def lose_checkpoint(path):
    shutil.rmtree(path / "checkpoints" / "4")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (add_row, "line 5 of metrics.jsonl is null and "),
        (drop_row, "line 2 of metrics.jsonl is "),
        (change_report, "report.json differs"),
        (lose_checkpoint, "of the last checkpoint differs"),
    ],
)
def test_what_differs_is_told(tmp_path, change, told):
    whole = jv.train(CONFIG, workdir=tmp_path / "whole").workdir
    shutil.copytree(whole, tmp_path / "other")
    assert crash_test.difference(whole, tmp_path / "other") is None
    change(tmp_path / "other")
    found = crash_test.difference(whole, tmp_path / "other")
    assert found and told in found and "\n" not in found


def test_another_seed_differs_in_the_checkpoint(tmp_path):
    one, other = (jv.train(CONFIG.replace(seed=seed), workdir=tmp_path / str(seed)).workdir for seed in (0, 1))
    for name in ("metrics.jsonl", "report/report.json"):
        shutil.copy(one / name, other / name)
    assert crash_test.difference(one, other) == "['model']['params']['dense1']['bias'] of the last checkpoint differs"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--kill=3"], "unknown flag --kill; did you mean --kills?"),
        (["--kills=0"], "kills"),
        (["--kills=many"], "kills"),
        (["twice"], "accepts only flags"),
        (["--model=cnnn"], "did you mean 'cnn'"),
        (["--learning_rate=1e30", "--steps=20"], "try a lower --learning_rate"),
        (["--workdir=tests"], "'tests' is not empty"),
    ],
)
def test_bad_flags_are_told_in_one_line(tmp_path, root, monkeypatch, capsys, flags, told):
    monkeypatch.chdir(root)
    words = flags if "--workdir=tests" in flags else [*flags, f"--workdir={tmp_path / 'run'}"]
    assert run_command(crash_test.main, words, "scripts/crash_test.py") == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and told in shown


EXPERIMENT = """
import sys
import jaxvision as jv

if any(word.endswith("/killed") for word in sys.argv):
    raise RuntimeError("the disk is gone")
CONFIG = jv.Config(dataset="synthetic(num_examples=107, image_size=8)", model="mlp", batch_size=20, steps=4)
"""


def test_a_run_that_fails_is_told_with_its_last_lines(tmp_path, capsys):
    (tmp_path / "broken.py").write_text(EXPERIMENT)
    flags = [f"--experiment={tmp_path / 'broken.py'}", "--kills=1", f"--workdir={tmp_path / 'run'}"]
    assert run_command(crash_test.main, flags, "scripts/crash_test.py") == 1
    shown = capsys.readouterr().err
    assert "ended with status 1; its last lines" in shown and shown.endswith("RuntimeError: the disk is gone\n")
