"""The benchmark: arithmetic by hand, contestants that do the same work, and reports of those that cannot."""

import json
import time
from contextlib import ExitStack
from pathlib import Path

import benchmark
import jax
import numpy as np
import optax
import pytest
from benchmarks import entrant, epochs, measure, ours, races, starts, table, works
from benchmarks.entrant import Entrant, entered
from benchmarks.table import Measured, Row
from benchmarks.works import Work, batch

from jaxvision import registry
from jaxvision.cli.errors import run_command

TINY = Work("cnn(channels=(2,), dense=(4,))", (8, 8, 3), 3, 4)
CNN, RESNET = Work("cnn", (32, 32, 3), 10, 4), Work("resnet18(stem='cifar')", (32, 32, 3), 10, 4)
ROW = Row("train cnn", 200.0, "PyTorch", 100.0, 2.0, "images/s", 0.1, 0.25)


@pytest.fixture
def tiny(tmp_path) -> str:
    """The file of the first weights of the tiny network."""
    ours.write_weights(TINY, tmp_path / "tiny.npz")
    return str(tmp_path / "tiny.npz")


# ── arithmetic and files ──────────────────────────────────────────────────────────────────────────────────────────────


def test_ratios_and_spreads_are_those_worked_out_by_hand():
    rates = {"ours": [90.0, 100.0, 120.0], "Keras": [40.0, 50.0, 45.0], "out": []}
    (row,) = measure.compared("train", "images/s", rates, more_is_better=True)
    assert row == Row("train", 100.0, "Keras", 45.0, 90 / 40, "images/s", 30 / 100, 10 / 45)  # 2.25, 2.0 and 2.67
    (row,) = measure.compared("start", "s", {"ours": [2.0], "PyTorch": [5.0]}, more_is_better=False)
    assert row.ratio == 2.5 and row.our_spread == 0


@pytest.mark.parametrize(("more_is_better", "best"), [(True, 70.0), (False, 60.0)])
def test_the_best_pytorch_has_a_row_of_its_own(more_is_better, best):
    found = {"ours": [100.0], "PyTorch": [60.0], "PyTorch compile": [70.0], "Keras": [200.0]}
    rows = {row.peer: row for row in measure.compared("w", "u", found, more_is_better=more_is_better)}
    assert list(rows) == ["PyTorch", "PyTorch compile", "Keras", "best PyTorch"]
    assert rows["best PyTorch"].theirs == best


def test_nothing_is_compared_with_a_contestant_of_ours_that_is_out():
    assert not list(measure.compared("w", "u", {"ours": [], "PyTorch": [1.0]}, more_is_better=True))


def test_json_rows_begin_with_what_machines_read(tmp_path):
    table.write_json(Measured([ROW], [], {}), str(tmp_path / "rows.json"))
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert list(row)[:6] == ["work", "ours", "peer", "theirs", "ratio", "unit"]
    assert row["ratio"] == 2.0 and row["peer"] == "PyTorch"


def test_markdown_goes_between_the_marks_and_leaves_the_rest(tmp_path):
    file, (begin, end) = tmp_path / "docs.md", table.MARKS
    file.write_text(f"before\n\n{begin}\nold\n{end}\n\nafter\n")
    for _ in range(2):
        table.write_markdown(Measured([ROW], ["a note"], {"torch": "9.9"}), str(file), command="jaxvision benchmark")
    text = file.read_text()
    assert text.startswith(f"before\n\n{begin}\n") and text.endswith(f"{end}\n\nafter\n")
    assert "old" not in text and text.count(begin) == text.count(end) == 1
    assert "| train cnn | 200.0 | PyTorch | 100.0 | 2.00 | images/s | 10%, 25% |" in text
    assert "- a note" in text and "torch 9.9" in text and "`jaxvision benchmark`" in text


def test_the_guide_has_the_marks(root):
    text = (root / "docs" / "benchmarks.md").read_text()
    assert text.count(table.MARKS[0]) == text.count(table.MARKS[1]) == 1
    table.check_files(str(root / "docs" / "benchmarks.md"), None)


def test_files_that_cannot_be_written_are_told_before_anything_is_measured(tmp_path):
    (tmp_path / "half.md").write_text(table.MARKS[0])
    (tmp_path / "turned.md").write_text("\n".join(reversed(table.MARKS)))
    for name in ("half.md", "turned.md"):
        with pytest.raises(ValueError, match="needs both marks in this order"):
            table.check_files(None, str(tmp_path / name))
    with pytest.raises(IsADirectoryError, match="use a file in it"):
        table.check_files(str(tmp_path), None)
    with pytest.raises(FileNotFoundError, match="no folder"):
        table.check_files(str(tmp_path / "absent" / "rows.json"), None)


# ── the same work ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("theirs", [2.001, float("nan"), float("inf")])
def test_a_contestant_that_computes_something_else_is_told(theirs):
    races.check({"ours": 2.0, "PyTorch": 2.0001, "Keras": None}, "loss", tolerance=1e-4)
    with pytest.raises(ValueError, match=r"Keras does not do the same work as ours: its loss"):
        races.check({"ours": 2.0, "PyTorch": 2.0, "Keras": theirs}, "loss", tolerance=1e-4)


def test_ours_gives_the_outputs_and_the_loss_of_the_model_and_learns(tiny):
    contestant = ours.Contestant(TINY, tiny, precision="f32")
    inputs, targets = batch(TINY)
    model = registry.models.build(TINY.model, output_size=3, input_size=(8, 8, 3))
    params, state = model.init(jax.random.key(0), inputs[:1])
    outputs, _ = model.apply(params, state, inputs, train=False, key=None)
    np.testing.assert_allclose(contestant.outputs(), outputs, rtol=1e-5, atol=1e-6)
    wanted = optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()
    first = contestant.loss()
    assert first == pytest.approx(float(wanted), rel=1e-5)
    contestant.train(50)
    contestant.answer(2)
    assert contestant.loss() < 0.9 * first


@pytest.mark.parametrize(
    ("name", "options"), [("peer_torch", {"variant": v}) for v in ("plain", "channels_last")] + [("peer_keras", {})]
)
@pytest.mark.parametrize("work", [CNN, pytest.param(RESNET, marks=pytest.mark.slow)], ids=["cnn", "resnet18"])
def test_peers_compute_and_learn_the_same_from_the_same_weights(name, options, work, tmp_path):
    missing = entrant.absent({"peer_torch": "PyTorch", "peer_keras": "Keras"}[name])
    if missing:
        pytest.skip(missing)
    file = tmp_path / "weights.npz"
    ours.write_weights(work, file)
    words = {"ours": words_of("ours", work, file), "theirs": words_of(name, work, file, **options)}
    with ExitStack() as stack:
        entrants = entered(stack, words)
        found = {}
        for each in entrants:
            found[each.name] = [each.ask("outputs"), each.ask("loss")]
            assert not each.failed, each.failed
        for place, what in enumerate(("outputs", "loss")):
            races.check({name: values[place] for name, values in found.items()}, what, tolerance=3e-5)
        if name == "peer_torch":
            entrants[1].ask("train", num_steps=1)  # of the others asking for the loss was a step already
        for each in entrants:
            each.ask("train", num_steps=2)
        losses = {"ours": entrants[0].ask("loss"), "theirs": entrants[1].ask("loss")}
        races.check(losses, "loss after three steps", tolerance=0.02)
        assert losses["ours"] != pytest.approx(found["ours"][1], rel=0.1)


def words_of(module, work, file, **options):
    told = {"work": list(work), "weights": str(file), "precision": "f32", **options}
    return ["benchmarks.contestant", module, json.dumps(told)]


def test_a_race_gives_rates_of_all_rounds_and_plausible_memory(tiny):
    raced = races.race(
        TINY, ["ours"], kinds=races.KINDS, weights=Path(tiny), precision="f32", num_rounds=2, seconds=0.05
    )
    assert {do: len(rates["ours"]) for do, rates in raced.rates.items()} == {"train": 2, "answer": 2}
    assert all(rate > 0 for rates in raced.rates.values() for rate in rates["ours"])
    assert 50 * 2**20 < raced.memory["ours"] < 8 * 2**30
    assert not raced.failed and raced.versions["jax"] == jax.__version__


def test_reading_ours_gives_batches_and_decodes_alone(photos):
    from benchmarks import read_ours

    for is_decoding in (False, True):
        contestant = read_ours.Contestant(str(photos), batch_size=8, is_decoding=is_decoding)
        contestant.skip()
        contestant.read(2)


# ── processes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_contestant_that_dies_is_told_by_its_last_line(tmp_path):
    with ExitStack() as stack:
        (dead,) = entered(stack, {"PyTorch": words_of("ours", TINY, tmp_path / "no.npz")})
        assert "FileNotFoundError" in dead.failed and "no.npz" in dead.failed
        assert dead.ask("train", num_steps=1) is None


def test_one_that_dies_in_the_middle_keeps_the_others_going(tiny):
    with ExitStack() as stack:
        dying, going = entered(stack, {name: words_of("ours", TINY, tiny) for name in ("a", "b")})
        assert dying.ask("sing") is None and "sing" in dying.failed
        rates = races.take_turns([dying, going], "train", 4, 1, 0.01)
        assert rates["a"] == [] and len(rates["b"]) == 1


def test_what_a_contestant_starts_ends_with_it(tmp_path):
    (tmp_path / "parent.py").write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])\n"
        "print(child.pid, flush=True)\ntime.sleep(100)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(KeyboardInterrupt), Entrant("one", ["parent"]) as one:
            child = one.ask("begin")
            assert is_running(child)
            raise KeyboardInterrupt
    for _ in range(50):
        if not is_running(child):
            break
        time.sleep(0.1)
    assert not is_running(child)


def is_running(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_start_that_fails_is_told_by_its_last_line(monkeypatch):
    with pytest.raises(ValueError, match=r"no_such_script failed: .*No module named"):
        starts._timed(["-m", "no_such_script"], 1, {})


@pytest.mark.parametrize(("name", "is_left"), [("PyTorch compile", True), ("Keras on JAX", True), ("ours", False)])
def test_what_importing_this_package_sets_is_not_for_peers(name, is_left, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert ("GLIBC_TUNABLES" in entrant.environment(name)) == is_left


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--only=epochs"], "unknown section 'epochs'; did you mean 'epoch'?"),
        (["--only="], "unknown section ''; the sections are train, answer"),
        (["--json=absent/rows.json"], "no folder 'absent'"),
        (["--json=/proc/rows.json"], "'/proc/rows.json' cannot be written"),
        (
            ["--only=epoch", "--data_dir=absent"],
            "compared: epoch of CIFAR-10: no prepared cifar10 in absent",
        ),
        (["--only=epoch", "--images=absent"], "no folder 'absent'; expected --images=…"),
        (["--only=epoch", "--images=~"], "folder '~' has no class folders"),
        (["much"], "accepts only flags"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_what_cannot_be_is_one_line_and_status_2(flags, said, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_command(benchmark.main, flags, "scripts/benchmark.py") == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("jaxvision: measuring")]
    assert len(told) == 1 and said in told[0]


def test_without_peers_the_extra_is_named_and_nothing_is_started(monkeypatch, capsys):
    monkeypatch.setattr(entrant.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(entrant.subprocess, "Popen", None)
    assert run_command(benchmark.main, ["--quick", "--only=train,answer,start"], "scripts/benchmark.py") == 2
    said = capsys.readouterr()
    assert "nothing could be compared" in said.err and "pip install 'jaxvision[bench]'" in said.err
    assert not said.out


@pytest.mark.slow
def test_an_epoch_of_prepared_data_is_compared_with_a_script(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from jaxvision.interfaces import Dataset, Preprocessing, Split

    rng = np.random.default_rng(0)
    split = Split.of(
        rng.integers(0, 256, (40, 32, 32, 3), np.uint8), rng.integers(0, 10, 40).astype(np.int32), kind="multiclass"
    )
    dataset = Dataset(split, None, split, tuple("0123456789"), Preprocessing((32, 32), 3, (0.5,) * 3, (0.2,) * 3))
    monkeypatch.setattr(epochs, "find_prepared", lambda place, name: place)
    monkeypatch.setattr(epochs.registry.datasets, "build", lambda spec, **context: dataset)
    monkeypatch.setattr(epochs, "_spec", lambda per_class: "synthetic(num_examples=60, num_classes=10, image_size=32)")
    found = epochs.cifar(tmp_path, None, variants=["channels_last"], per_class=None, batch_size=8, num_rounds=1)
    assert {name: len(rates) for name, rates in found.rates.items()} == {"ours": 1, "PyTorch channels_last": 1}, found
    assert "waiting for input: ours " in found.notes[0] and {"jax", "torch"} <= found.versions.keys()


@pytest.mark.slow
def test_the_loop_takes_turns_with_its_bare_step(tmp_path):
    starts.write_images(tmp_path / "images.npz")
    ours.write_weights(works.WORKS["cnn"], tmp_path / "weights.npz")
    rates, notes = starts.loop(tmp_path / "images.npz", tmp_path / "weights.npz", num_rounds=2, seconds=0.2)
    assert not notes and {name: len(each) for name, each in rates.items()} == {"ours": 2, "our bare step": 2}
    assert 0.1 < max(rates["ours"]) / max(rates["our bare step"]) < 10
