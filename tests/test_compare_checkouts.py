"""The comparison of two checkouts, on hand-made trees: every kind of difference is reported."""

import importlib.util
import json
import math
import sys

import numpy as np
import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("compare_checkouts", ROOT / "scripts" / "compare_checkouts.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def tree() -> dict:
    kernel = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    return {"params": {"head": {"kernel": kernel, "bias": np.zeros(3, np.float32)}}, "ema": None, "steps": [10, "ten"]}


def test_equal_trees_are_equal_bit_for_bit(script, tree):
    found = script.compare(script.flatten(tree, "model"), script.flatten(tree, "model"))
    assert found == (5, 0.0, [])
    assert str(found).endswith("equal bit for bit")


def test_one_ulp_is_a_failure_that_names_the_path(script, tree):
    arrays = script.flatten(tree, "model")
    found = script.compare(arrays, script.perturb(arrays, "model/params/head/kernel"))
    assert len(found.failures) == 1 and "model/params/head/kernel" in found.failures[0]
    assert 0 < found.largest < 1e-6


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ema": 0.5}, "differs by inf: model/ema ('None' in old, 0.5 in new)"),
        ({"steps": [10, "two"]}, "differs by inf: model/steps/1 ('ten' in old, 'two' in new)"),
        ({"steps": [10]}, "missing in new: model/steps/1"),
        ({"more": 1}, "only in new: model/more"),
        ({"steps": [11, "ten"]}, "differs by inf: model/steps/0 (10 in old, 11 in new)"),
    ],
)
def test_what_is_no_array_is_compared_too(script, tree, changed, message):
    found = script.compare(script.flatten(tree, "model"), script.flatten({**tree, **changed}, "model"), tolerance=1.0)
    assert found.failures == [message]


@pytest.mark.parametrize(
    "new",
    [
        np.ones(3, np.float64),
        np.ones((3, 1), np.float32),
        np.array([1, 1, np.nan], np.float32),
        np.array([1, 1, np.inf], np.float32),
    ],
)
def test_another_type_or_shape_or_no_number_is_beyond_any_tolerance(script, new):
    assert script.difference(np.ones(3, np.float32), new) == math.inf


def test_zeros_of_two_signs_are_not_the_same_bits(script):
    assert 0 < script.difference(np.zeros(2), -np.zeros(2)) < 1e-300
    assert script.difference(np.zeros(2), np.ones(2)) == math.inf


def test_a_tolerance_is_a_share_of_the_norm(script):
    old = {"a": np.array([3.0, 4.0])}
    assert script.compare(old, {"a": np.array([3.0, 4.0 + 4e-10])}, tolerance=1e-10).failures == []
    assert len(script.compare(old, {"a": np.array([3.0, 4.0 + 6e-10])}, tolerance=1e-10).failures) == 1


def test_nothing_at_all_is_a_failure(script):
    assert script.compare({}, {}).failures == ["there is nothing to compare"]


@pytest.mark.parametrize("tolerance", [0.0, 1e-10])
def test_the_self_check_sees_what_it_tampers_with(script, tree, tolerance, monkeypatch):
    arrays = script.flatten(tree, "model")
    assert script.check_itself(arrays, tolerance=tolerance) == []
    assert script.check_itself({}) == ["self-check: there are no parameters"]
    blind = script.Comparison(5, 0.0, [])
    monkeypatch.setattr(script, "compare", lambda *_, **__: blind)
    assert len(script.check_itself(arrays, tolerance=tolerance)) == 3


def test_times_are_left_out_of_rows(script, tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text(json.dumps({"step": 5, "loss": 0.5, "seconds": 1.0, "waiting": 0.1, "step_seconds": 2.0}) + "\n")
    assert sorted(script.read_rows(file)) == ["metrics/0/loss", "metrics/0/step"]


def test_the_newest_checkpoint_is_read_in_its_own_precision(script, tree, tmp_path):
    import orbax.checkpoint as ocp

    tree = {"params": tree["params"], "wide": np.arange(3) / 7, "ema": None}
    with ocp.PyTreeCheckpointer() as writer:
        writer.save(tmp_path / "9" / "model", {"params": np.ones(2)})
        writer.save(tmp_path / "10" / "model", tree)
    found = script.read_checkpoint(tmp_path)
    assert (
        script.compare(script.flatten({"model": tree, "checkpoint": {"step": 10}}, "x"), prefixed(found)).failures == []
    )


def prefixed(arrays):
    return {f"x/{path}": array for path, array in arrays.items()}


def test_the_cases_are_sound(script):
    names = [case.name for case in script.CASES]
    assert len(set(names)) == len(names) >= 16
    assert all(case.after in ("", *names) for case in script.CASES)
    for case in script.CASES:
        size = case.flags.get("batch_size", script.SHARED["batch_size"])
        assert case.tolerance or size & (size - 1) == 0, f"{case.name}: {size} is no power of two"
    with pytest.raises(ValueError, match="a tolerance and its cause"):
        script.Case("loose", {}, tolerance=0.1)


def test_cases_that_others_need_are_run_before_them(script):
    assert [case.name for case in script.select("freeze")] == ["start", "freeze"]
    assert [case.name for case in script.select("cn*,gan")] == ["cnn", "gan"]
    assert script.select("nothing") == []


def test_a_case_runs_with_its_own_flags_in_the_new_checkout(script, tmp_path, monkeypatch):
    said = {}

    def run(side, words, **_):
        said[side.name] = words
        raise RuntimeError(f"{side.name} ends with 1")

    monkeypatch.setattr(script.Side, "run", run)
    case = script.Case("focal", {"task": "old"}, {"task": "new"})
    (tmp_path / "a" / "scripts").mkdir(parents=True)
    (tmp_path / "a" / "scripts" / "launch.py").touch()
    sides = [script.Side(name, tmp_path / place, "python", tmp_path) for name, place in (("old", "a"), ("new", "b"))]
    found = script.compare_case(case, sides, self_check=False)
    assert found.failures == ["old ends with 1", "new ends with 1"]
    assert said["old"][0] == str(tmp_path / "a" / "scripts" / "launch.py") and "--task=old" in said["old"]
    assert said["new"][:3] == ["-m", "jaxvision", "launch"] and "--task=new" in said["new"]


def test_a_package_from_elsewhere_is_refused(script, tmp_path, monkeypatch):
    side = script.Side("old", tmp_path / "old", sys.executable, tmp_path)
    monkeypatch.setattr(script.Side, "run", lambda *_: f"{tmp_path}/old/jaxvision/__init__.py\n")
    side.require_own()
    monkeypatch.setattr(script.Side, "run", lambda *_: f"{tmp_path}/older/jaxvision/__init__.py\n")
    with pytest.raises(RuntimeError, match="not the package of"):
        side.require_own()


def test_facts_that_newer_reports_add_are_no_difference(script):
    old = {"report/report.json/accuracy": np.array(0.5)}
    assert not script.compare(old, {**old, "report/report.json/headline": np.array("accuracy")}).failures
    assert script.compare(old, {**old, "model/headline": np.array(1.0)}).failures == ["only in new: model/headline"]


def test_the_division_of_version_0_1_is_moved_in_a_copy(script, tmp_path):
    old = tmp_path / "old"
    (old / "jaxvision").mkdir(parents=True)
    step = old / "jaxvision" / "step.py"
    step.write_text("".join(script.DIVISION))
    copy = script.move_division(old, tmp_path / "copy")
    assert "sum() / count" not in (copy / "jaxvision" / "step.py").read_text()
    assert "sum() / count" in step.read_text()
    step.write_text("another step")
    with pytest.raises(ValueError, match=r"is not version 0\.1"):
        script.move_division(old, tmp_path / "other")


def test_the_names_of_version_0_1_are_mapped(script):
    old = {"metrics/0/made_accuracy": 0.5, "thresholds.json/views": "mirrored", "model/params/tags": 1.0}
    new = {"metrics/0/fake_accuracy": 0.5, "thresholds.json/fitted/0/tta": "flip", "model/params/tags": 1.0}
    renamed = script.rename({path: np.asarray(value) for path, value in old.items()})
    assert not script.compare(renamed, {path: np.asarray(value) for path, value in new.items()}).failures


def test_flags_are_those_of_the_new_checkout(script, tmp_path):
    side = script.Side("new", ROOT, sys.executable, tmp_path)
    case = script.Case("some", {"augment": "flip, crop(padding=2)", "views": "mirrored"})
    flags = script.upgraded_flags([case], side)["some"]
    assert flags["augmentations"] == "horizontal_flip, random_crop(padding=2)" and flags["tta"] == "flip"
    assert "augment" not in flags and flags["steps"] == script.SHARED["steps"]
