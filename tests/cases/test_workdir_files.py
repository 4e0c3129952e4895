"""Damage to the files of a workdir: flipped digits, other types, cut or broken lines. No wrong number, no traceback."""

import json
import os
import re
import shutil

import numpy as np
import pytest

import jaxvision as jv
from jaxvision import hints, storage, threshold_file
from jaxvision.cli import run
from jaxvision.engine import logs

IMAGES = np.random.default_rng(0).integers(0, 255, (24, 8, 8, 3), dtype=np.uint8)
LABELS = np.eye(3, dtype=np.float32)[np.arange(24) % 3]
SPLIT = jv.Split.of(IMAGES, LABELS, kind="multilabel")
PREPROCESSING = jv.Preprocessing((8, 8), 3, (0.4, 0.4, 0.4), (0.3, 0.3, 0.3))
DATA = jv.Dataset(SPLIT, None, SPLIT.select(np.arange(9)), ("0", "1", "2"), PREPROCESSING)
CONFIG = jv.Config(
    model="mlp(hidden=(4,))",
    task="multilabel(threshold='f1')",
    batch_size=4,
    steps=4,
    eval_every=2,
    validation_fraction=0.25,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return jv.train(CONFIG, workdir=tmp_path_factory.mktemp("trained") / "run", dataset=DATA).workdir


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def edit(file, *, keep_digest=True, **changes):
    """Change fields of a JSON file, by paths as in preprocessing__mean, with or without its digest."""
    content = json.loads(file.read_text())
    for name, value in changes.items():
        *parents, last = name.split("__")
        target = content
        for parent in parents:
            target = target[int(parent) if parent.isdigit() else parent]
        target[last] = value
    if not keep_digest:
        del content["digest"]
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("signature.json", "0.4", "0.1"),
        ("signature.json", '"0"', '"7"'),
        ("signature.json", '"bilinear"', '"nearest"'),
        ("config.json", '"steps": 4', '"steps": 6'),
        ("config.json", "hidden=(4,)", "hidden=(8,)"),
        ("execution.json", '"flip', '"none'),
        ("execution.json", '"tta": "none"', '"tta": "flip"'),
        ("thresholds.json", "0.", "0.0"),
    ],
)
def test_a_flipped_digit_is_found(name, old, new, workdir):
    file = workdir / name
    content = file.read_text()
    if old not in content:
        pytest.skip("the file does not have this text")
    file.write_text(content.replace(old, new, 1))
    if name == "thresholds.json":
        with pytest.warns(UserWarning, match="damaged.*differs from its digest"), pytest.raises(ValueError):
            jv.predict(workdir, IMAGES[:2])
    else:
        with pytest.raises(ValueError, match=rf"{name} is damaged: .*differs from its digest; if you edited it"):
            jv.load(workdir)


def test_an_edit_is_accepted_without_the_digest(workdir):
    edit(workdir / "signature.json", keep_digest=False, classes=["x", "y", "z"])
    assert jv.load(workdir).run.signature.classes == ("x", "y", "z")


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocessing__mean": ["x", 0, 0]},
        {"preprocessing__mean": [0.5]},
        {"preprocessing__mean": [0.5, 0.5, float("nan")]},
        {"preprocessing__mean": [True, False, True]},
        {"preprocessing__std": [1.0, 1.0]},
        {"preprocessing__std": [0.2, 0.2, -0.2]},
        {"preprocessing__std": [0.2, 0.2, 0]},
        {"preprocessing__std": [1e999, 0.2, 0.2]},
        {"preprocessing__size": 8},
        {"preprocessing__size": ["a", 8]},
        {"preprocessing__size": [-1, 8]},
        {"preprocessing__size": [8, 8, 8]},
        {"preprocessing__size": [10**30, 8]},
        {"preprocessing__size": [True, 8]},
        {"preprocessing__channels": 3.0},
        {"preprocessing__channels": 0},
        {"preprocessing__interpolation": 3},
        {"preprocessing__interpolation": "cubic"},
        {"preprocessing__crop": "1"},
        {"preprocessing__crop": -1.0},
        {"preprocessing__crop": 1e-310},
        {"preprocessing__std": [1e-30, 0.2, 0.2]},
        {"preprocessing__mean": [1e18, 0.2, 0.2]},
        {"preprocessing__unknown": 1},
        {"preprocessing": None},
        {"preprocessing": []},
        {"targets__kind": ["multilabel"]},
        {"targets__kind": "labels"},
        {"targets__counts": [1, 2]},
        {"targets__counts": [-1, 2, 3]},
        {"targets__num_examples": 0},
        {"targets__std": 0.0},
        {"targets": 3},
        {"classes": "012"},
        {"classes": [0, 1, 2]},
        {"classes": ["0", "0", "2"]},
        {"classes": None},
        {"data": 3},
        {"data_dir": 3},
        {"plugins": "evil.py"},
        {"plugins": [3]},
        {"versions": ["jax"]},
        {"versions": {"jax": None}},
        {"further": {}},
    ],
    ids=str,
)
def test_values_of_another_type_or_range_in_the_signature_are_refused_by_name(changes, workdir, capsys):
    edit(workdir / "signature.json", keep_digest=False, **changes)
    assert run("predict", [f"--workdir={workdir}", "x.png"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "signature.json is damaged" in error, error


@pytest.mark.parametrize("name", ["signature.json", "config.json", "execution.json"])
@pytest.mark.parametrize(
    "content", ["", "[" * 100_000, '{"a":' * 50_000, "[1]", "3", "null", "{", "{}x", b"\xff\xfe", "NaN"]
)
def test_a_file_that_is_no_object_is_named(name, content, workdir, capsys):
    (workdir / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run("predict", [f"--workdir={workdir}", "x.png"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{name} is damaged" in error, error


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", {"model": 3}),
        ("config.json", {"learning_rate": "fast"}),
        ("config.json", {"learning_rate": float("nan")}),
        ("config.json", {"learning_rate": 1e999}),
        ("config.json", {"batch_size": True}),
        ("config.json", {"batch_size": -4}),
        ("config.json", {"ema": [0.9]}),
        ("config.json", {"further": 1}),
        ("config.json", {"fold": "9/3"}),
        ("config.json", {"version": 1, "views": ["one"]}),
        ("config.json", {"version": 2, "augmentations": "flip("}),
        ("execution.json", {"eval_batch_size": 0}),
        ("execution.json", {"tta": "rotate"}),
        ("execution.json", {"mesh": None}),
        ("execution.json", {"further": 1}),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_with_their_file(name, changes, workdir, capsys):
    edit(workdir / name, keep_digest=False, **changes)
    assert run("predict", [f"--workdir={workdir}", "x.png"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{name} is damaged" in error, error


@pytest.mark.parametrize("version", ["3", True, 3.0, None, [3], 99])
def test_a_version_of_another_type_is_refused(version, workdir):
    edit(workdir / "config.json", keep_digest=False, version=version)
    with pytest.raises(ValueError, match=r"config\.json has version .*: upgrade jaxvision"):
        jv.load(workdir)


@pytest.mark.parametrize(
    "content",
    [
        '{"fitted": 3}',
        '{"fitted": [3]}',
        '{"fitted": [{"step": 4, "tta": "none"}]}',
        '{"fitted": [{"step": "4", "tta": "none", "thresholds": [0.5, 0.5, 0.5]}]}',
        '{"fitted": [{"step": 4, "tta": "none", "thresholds": [0.5, NaN, 0.5]}]}',
        '{"fitted": [{"step": 4, "tta": "none", "thresholds": [[0.5], 0.5, 0.5]}]}',
        '{"fitted": [{"step": 4, "tta": "none", "thresholds": [0.5, 0.5]}]}',
        '{"fitted": [{"step": 4, "tta": ["none"], "thresholds": [0.5, 0.5, 0.5]}]}',
        "[" * 100_000,
    ],
)
def test_damaged_thresholds_warn_and_are_fitted_again_by_evaluate(content, workdir, trained):
    right = threshold_file.load(trained, jv.load(trained).step, "none")
    (workdir / "thresholds.json").write_text(content.replace('"step": 4', f'"step": {jv.load(trained).step}'))
    with pytest.warns(UserWarning, match=r"thresholds\.json is damaged.*jaxvision evaluate"):
        loaded = jv.load(workdir)
    with pytest.raises(ValueError, match=r"thresholds are not fitted yet.*jaxvision evaluate"):
        jv.predict(loaded, IMAGES[:2])
    if "[[" not in content:
        return
    with pytest.warns(UserWarning, match="damaged"):
        jv.evaluate(workdir, dataset=DATA)
    assert threshold_file.load(workdir, loaded.step, "none") == right


DAMAGED_LINES = (
    "[1]",
    "3",
    "{}",
    b"\xff",
    '{"step": 2, "epoch"',
    "[" * 100_000,
    '{"step": "2", "epoch": 1, "split": "train"}',
    '{"step": true, "epoch": 1, "split": "train"}',
    '{"step": 2, "epoch": 1, "split": "train", "loss": "low"}',
    '{"step": 2, "split": "train", "loss": 1}',
    '{"step": 2, "epoch": 1, "loss": 0.1}',
    '{"step": 1' + "0" * 400 + ', "epoch": 1, "split": "train"}',
    "",
)


@pytest.mark.parametrize("line", DAMAGED_LINES)
def test_a_damaged_line_of_metrics_costs_no_other(line, tmp_path):
    rows = [{"step": step, "epoch": step / 6, "split": "train", "loss": 0.5} for step in (2, 4, 6)]
    lines = [json.dumps(row).encode() for row in rows]
    lines.insert(1, line if isinstance(line, bytes) else line.encode())
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: ignores 1 damaged lines, the first is line 2"):
        assert logs.read_rows(tmp_path / "metrics.jsonl") == rows
    with pytest.warns(UserWarning, match="line 2"):
        logs.drop_rows(tmp_path / "metrics.jsonl", after=4)
    assert logs.read_rows(tmp_path / "metrics.jsonl") == rows[:2]


def test_a_last_line_that_a_kill_cut_short_and_numbers_that_are_not_finite_are_no_damage(tmp_path):
    row = {"step": 2, "epoch": 1.0, "split": "train", "loss": float("inf")}
    (tmp_path / "metrics.jsonl").write_text(f'{json.dumps(row)}\n{{"step": 4, "ep')
    assert logs.read_rows(tmp_path / "metrics.jsonl") == [row]


def test_a_run_goes_on_and_is_evaluated_with_damaged_metrics(workdir, capsys):
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "split": 3}\n')
    with pytest.warns(UserWarning, match="1 damaged line"):
        jv.evaluate(workdir, dataset=DATA)
    with pytest.warns(UserWarning, match="1 damaged line"):
        history = jv.train(CONFIG.replace(steps=6), workdir=workdir, dataset=DATA).history
    assert [row["step"] for row in history if row["split"] == "train"] == [2, 4, 6]


def test_a_digest_finds_every_other_value(tmp_path):
    values = {"a": [1, 2.5, None], "b": {"c": "x"}}
    storage.write_json(tmp_path / "values.json", values, has_digest=True)
    assert storage.read_json(tmp_path / "values.json") == values
    for name, value in (("a", [1, 2.5, 0]), ("a", [2.5, 1, None]), ("b", {"c": "y"}), ("d", 1)):
        edit(tmp_path / "values.json", **{name: value})
        with pytest.raises(ValueError, match="differs from its digest"):
            storage.read_json(tmp_path / "values.json")
        storage.write_json(tmp_path / "values.json", values, has_digest=True)


@pytest.mark.parametrize(
    ("size", "std"), [((-1, 8), (1.0,)), ((8, 0), (1.0,)), ((8, 8), (float("inf"),)), ((8, 8), ())]
)
def test_preprocessing_of_weights_or_workdirs_has_a_range(size, std):
    with pytest.raises(ValueError, match="expected"):
        jv.Preprocessing(size, 1, (0.0,), std)


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "manifest", "metadata"])
def test_why_a_checkpoint_cannot_be_read_is_short(damage, workdir):
    for step in (workdir / "checkpoints").iterdir():
        if damage == "manifest":
            os.truncate(step / "model" / "manifest.ocdbt", 20)
        elif damage == "metadata":
            (step / "model" / "_METADATA").write_text("{")
        for file in step.glob("model/**/d/*"):
            if damage in ("cut", "empty"):
                os.truncate(file, file.stat().st_size // 2 if damage == "cut" else 0)
            elif damage == "gone":
                file.unlink()
    with pytest.raises(ValueError, match="no checkpoint in") as caught:
        jv.load(workdir)
    for reason in str(caught.value).partition("can be read: ")[2].split("; "):
        assert re.fullmatch(r"that of step \d cannot be read: its files are missing, cut short or damaged", reason)


def test_why_a_checkpoint_cannot_be_read_names_the_reason_of_the_system():
    error = ValueError("Encountered error, see full TensorStore details")
    error.__cause__ = OSError('PERMISSION_DENIED: reading "x" [OS error 13: EACCES Permission denied]')
    assert hints.unreadable_checkpoint(error) == "Permission denied"
    assert hints.unreadable_checkpoint(ValueError("shapes (2,)\nand (3,)")) == "ValueError: shapes (2,) and (3,)"
