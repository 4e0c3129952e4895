"""Full disks, forks, links out of a workdir, runs in the same second, a sweep that stops in its first trial."""

import importlib
import os
import subprocess
import threading

import numpy as np
import pytest

import jaxvision as jv
from jaxvision import new_folder, new_workdir, storage
from jaxvision.distributed import forks
from jaxvision.weights import files as weight_files

sweep = importlib.import_module("jaxvision.sweep")  # the package binds the name to the function
IMAGES, LABELS = np.random.default_rng(0).integers(0, 255, (24, 8, 8, 3), dtype=np.uint8), np.arange(24) % 2
SMALL = jv.Config(model="mlp(hidden=(4,))", batch_size=4, steps=2, eval_every=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    return jv.train(SMALL, workdir=folder, dataset=(IMAGES, LABELS)).workdir


# ── full disks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def write(folder, num_values):
    tensors = {"weight": np.zeros(num_values, np.float32)}
    options = {"architecture": "x", "preprocessing": jv.Preprocessing((8, 8), 1, (0.5,), (0.5,)), "classes": ()}
    weight_files.write(folder, tensors, **options, num_outputs=2)


def test_an_export_that_does_not_fit_leaves_nothing_and_can_be_repeated(small_disk):
    with (
        pytest.raises(OSError, match="No space left on device; nothing was written") as raised,
        new_folder.new_folder(small_disk / "out") as folder,
    ):
        write(folder, 100_000)
    assert raised.value.filename == str(small_disk / "out") and not list(small_disk.iterdir())
    with new_folder.new_folder(small_disk / "out") as folder:
        write(folder, 1_000)
    assert sorted(path.name for path in (small_disk / "out").iterdir()) == ["config.json", "model.safetensors"]


def test_a_folder_that_a_killed_export_left_is_replaced(tmp_path):
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp" / "model.safetensors").write_bytes(b"half")
    (tmp_path / "out").mkdir()
    with new_folder.new_folder(tmp_path / "out") as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "new"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_export_that_fails_leaves_nothing(error, tmp_path):
    with pytest.raises(error), new_folder.new_folder(tmp_path / "out"):
        raise error
    assert not list(tmp_path.iterdir())


# ── links ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

LINKS = ("metrics.jsonl", "lock", ".config.json.tmp", "tensorboard", "checkpoints/7", "report/report.json", "samples")


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_training_does_not_write_through_links(name, kind, trained, tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    {"file": lambda: outside.write_text("mine"), "folder": outside.mkdir, "nothing": lambda: None}[kind]()
    workdir = tmp_path / "run"
    subprocess.run(["cp", "-r", trained, workdir], check=True)
    subprocess.run(["rm", "-rf", workdir / name], check=True)
    (workdir / name).symlink_to(outside)
    with pytest.raises(ValueError, match=r"is a link out of the folder, which is not followed for writing"):
        jv.train(SMALL.replace(steps=4), workdir=workdir, dataset=(IMAGES, LABELS))
    assert {"file": lambda: outside.read_text() == "mine", "folder": lambda: not list(outside.iterdir())}.get(
        kind, lambda: not outside.exists()
    )()


@pytest.mark.parametrize("name", ["report", "thresholds.json", ".thresholds.json.tmp", "report/report.json"])
def test_evaluation_does_not_write_through_links(name, trained, tmp_path):
    workdir = tmp_path / "run"
    subprocess.run(["cp", "-r", trained, workdir], check=True)
    if name == "report":
        subprocess.run(["rm", "-r", workdir / "report"], check=True)
    (workdir / name).unlink(missing_ok=True)
    (workdir / name).symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is a link out of the folder"):
        jv.evaluate(workdir, dataset=(IMAGES, LABELS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_links_within_a_workdir_and_to_it_are_followed(tmp_path):
    (tmp_path / "run" / "inner").mkdir(parents=True)
    (tmp_path / "run" / "link").symlink_to("inner")
    (tmp_path / "run" / "self").symlink_to(".")
    (tmp_path / "latest").symlink_to(tmp_path / "run")
    storage.refuse_links_out(tmp_path / "latest")
    (tmp_path / "run" / "inner" / "up").symlink_to("../..")
    with pytest.raises(ValueError, match="inner/up' is a link out"):
        storage.refuse_links_out(tmp_path / "latest")
    storage.refuse_links_out(tmp_path / "latest", skip=("inner",))


# ── forks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "use",
    [
        lambda loaded: jv.predict(loaded, IMAGES[:3]),
        lambda loaded: jv.load(loaded.workdir),
        lambda loaded: jv.train(SMALL, workdir=loaded.workdir, dataset=(IMAGES, LABELS)),
        lambda loaded: loaded.predict_step(loaded.params, loaded.model_state, {"inputs": IMAGES[:4]}),
    ],
)
def test_a_fork_after_loading_raises_in_place_of_a_hang(use, trained):
    loaded = jv.load(trained)
    jv.predict(loaded, IMAGES[:3])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            use(loaded)
            os.write(writing, b"no error")
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    alarm = threading.Timer(20, lambda: os.kill(child, 9))
    alarm.start()
    text = os.read(reading, 1000).decode()
    os.waitpid(child, 0)
    alarm.cancel()
    os.close(reading)
    assert text.startswith("RuntimeError: this process was forked after JAX started") and "spawn" in text
    assert not forks.is_forked


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_runs_of_the_same_second_have_different_workdirs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(new_workdir.time, "strftime", lambda text: "20260101-000000")
    names = {new_workdir.new_workdir(SMALL, prefix=prefix) for prefix in ("", "sweep-") for _ in range(50)}
    assert len(names) == 100 and all("20260101-000000" in name.name for name in names)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["lr=0.1,wd=0", "a, b", ",", "x,"])
def test_a_workdir_may_have_a_comma(name, trained, tmp_path, capsys):
    from jaxvision.cli.workdirs import split_workdirs

    (tmp_path / name).mkdir()
    assert split_workdirs([str(tmp_path / name)]) == [str(tmp_path / name)]


# ── sweeps ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_sweep_that_stops_in_its_first_trial_goes_on(stop, tmp_path, monkeypatch):
    space = {"learning_rate": (1e-3, 1e-2)}
    train = sweep.train

    def stopped(config, **options):
        train(config.replace(steps=1), **options)
        raise stop

    monkeypatch.setattr(sweep, "train", stopped)
    options = {"workdir": tmp_path / "sweep", "dataset": (IMAGES, LABELS)}
    with pytest.raises(stop):
        jv.sweep(SMALL, space, **options)
    monkeypatch.setattr(sweep, "train", train)
    with pytest.raises(ValueError, match="holds another sweep"):
        jv.sweep(SMALL.replace(steps=4), space, **options)
    assert len(jv.sweep(SMALL, space, **options).rows) == 2


def test_a_sweep_that_was_killed_before_its_first_file_goes_on(tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / storage.LOCK).touch()
    (tmp_path / "sweep" / ".sweep.json.tmp").write_text("{")
    assert sweep._read(tmp_path / "sweep", {}) == {}


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[" * 100_000,
        '{"asked": 3, "trials": []}',
        '{"asked": {}, "trials": 3}',
        '{"asked": {}, "trials": [3]}',
        '{"asked": {}, "trials": [{"trial": "a"}]}',
        '{"asked": {}, "trials": [{"trial": ["a"], "setting": {}}]}',
        '{"asked": {"tta": []}, "trials": []}',
        '{"asked": {"SPACE": 3}, "trials": []}',
        '{"asked": {}, "trials": [{"trial": "a", "setting": {}, "seed": 0, "value": "high", "seconds": 1}]}',
    ],
)
def test_a_damaged_sweep_file_is_named(content, tmp_path):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ValueError, match=r"sweep\.json is damaged"):
        sweep._read(tmp_path, {})
