"""Sweeps: trials, no repeated training, no use of the test split, and a best command that reproduces its trial."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image

import jaxvision as jv
from jaxvision import cli, registry
from jaxvision import search_space as space
from jaxvision.cli.experiments import load_experiment
from jaxvision.data import open_dataset, splits_of
from jaxvision.distributed import mesh as meshes
from jaxvision.engine import logs
from jaxvision.folds import concatenate, fold
from jaxvision.ranking import rank
from jaxvision.reports import plots
from jaxvision.trials import Search, plan

CONFIG = jv.Config(
    dataset="synthetic(num_examples=240, num_classes=3, image_size=4)",
    model="mlp(hidden=(8,))",
    batch_size=24,
    steps=6,
    eval_every=3,
)
SEARCH_SPACE = {"learning_rate": (1e-4, 1e-3, 1e-2)}
FILE = f"import jaxvision as jv\nCONFIG = jv.{CONFIG!r}\n"


@pytest.fixture(autouse=True)
def _in_a_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_pictures(monkeypatch):
    """Evaluation draws none: they take long."""
    monkeypatch.setattr("jaxvision.reports.files.plots", MagicMock())


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A grid that has been tried; not to be changed."""
    return jv.sweep(CONFIG, SEARCH_SPACE, workdir=tmp_path_factory.mktemp("swept") / "grid")


def trials(workdir):
    return json.loads((workdir / "sweep.json").read_text())["trials"]


# ── what is tried ──


def test_a_grid_is_all_combinations_in_order():
    found = plan(
        CONFIG, Search({"learning_rate": (1e-4, 1e-2), "augmentations": ("", "horizontal_flip"), "batch_size": [10]})
    )
    wanted = [(rate, augment, 10) for rate in (1e-4, 1e-2) for augment in ("", "horizontal_flip")]
    assert [tuple(trial.setting.values()) for trial in found] == wanted
    assert [(t.config.learning_rate, t.config.augmentations, t.config.batch_size) for t in found] == wanted
    assert [trial.name for trial in found] == ["0000-seed0", "0001-seed0", "0002-seed0", "0003-seed0"]


def test_seeds_and_folds_are_tried_with_each_setting():
    found = plan(CONFIG.replace(seed=5), Search({"augmentations": ("", "horizontal_flip")}, seeds=2, folds=3))
    assert [(t.config.augmentations, t.config.seed, t.config.fold) for t in found] == [
        (augment, seed, fold)
        for augment in ("", "horizontal_flip")
        for seed in (5, 6)
        for fold in ("1/3", "2/3", "3/3")
    ]
    assert len({trial.name for trial in found}) == 12 and found[1].name == "0000-seed5-fold2"
    of_space = plan(CONFIG, Search({"augmentations": ("", "horizontal_flip"), "seed": (3, 9)}))
    assert [(t.setting, t.config.seed) for t in of_space[:2]] == [
        ({"augmentations": ""}, 3),
        ({"augmentations": ""}, 9),
    ]


def test_random_settings_are_in_range_and_repeatable():
    wide = {
        "learning_rate": jv.LogUniform(1e-5, 1e-1),
        "batch_size": jv.Uniform(8, 64),
        "augmentations": ("", "horizontal_flip"),
    }
    drawn = space.draw(wide, 200, seed=0)
    assert drawn == space.draw(wide, 200, seed=0) and drawn[:7] == space.draw(wide, 7, seed=0)
    assert drawn != space.draw(wide, 200, seed=1)
    rates = np.array([each["learning_rate"] for each in drawn])
    assert rates.min() >= 1e-5 and rates.max() <= 1e-1
    assert 0.3 < np.mean(rates < 1e-3) < 0.7  # by logarithm, its middle
    sizes = {each["batch_size"] for each in drawn}
    assert {type(size) for size in sizes} == {int} and 8 <= min(sizes) < 14 and 58 < max(sizes) <= 64
    assert {each["augmentations"] for each in drawn} == {"", "horizontal_flip"}
    assert len({repr(each) for each in space.draw(SEARCH_SPACE, 3, seed=0)}) == 3


@pytest.mark.parametrize(
    ("content", "flags", "why"),
    [
        ("", [], "has no SEARCH_SPACE = {field"),
        ("SEARCH_SPACE = ()", [], "SEARCH_SPACE=() is not {field: (value, …), …}"),
        (
            "SEARCH_SPACE = {'learning_rat': (1e-3,)}",
            [],
            "'learning_rat', which is not a field of Config; did you mean 'learning_",
        ),
        (
            "SEARCH_SPACE = {'augmentations': 'horizontal_flip'}",
            [],
            "augmentations='horizontal_flip'; expected a tuple, e.g. ('horizontal_flip',), or jaxvision.Uni",
        ),
        ("SEARCH_SPACE = {'learning_rate': ()}", [], "learning_rate=(); expected a tuple"),
        ("SEARCH_SPACE = {'epochs': (1, 2, 1)}", [], "lists a value twice"),
        ("SEARCH_SPACE = {'learning_rate': (1e-3, -1.0)}", [], "learning_rate=-1.0 must be above 0"),
        ("SEARCH_SPACE = {'batch_size': (8, 'x')}", [], "batch_size='x' is not a whole number"),
        ("SEARCH_SPACE = {'model': ('mlp', 'mpl')}", [], "unknown model 'mpl'; did you mean 'mlp'"),
        (
            "SEARCH_SPACE = {'augmentations': ('', 'random_crop(pading=2)')}",
            [],
            "no argument 'pading'; did you mean 'padding'",
        ),
        ("SEARCH_SPACE = {'fold': ('1/2', '2/2')}", [], "use --folds=5 to evaluate on all folds"),
        (
            "SEARCH_SPACE = {'seed': (0, 1)}",
            ["--seeds=2"],
            "seeds=2; expected 1 or more, or values for seed in SEARCH_SPACE",
        ),
        (
            "SEARCH_SPACE = {'learning_rate': jv.Uniform(1e-3, 1e-1)}",
            [],
            "SEARCH_SPACE has a distribution for learning_rate; use --search=random",
        ),
        ("SEARCH_SPACE = {'learning_rate': jv.LogUniform(0, 1)}", [], "low must be above 0 and below high"),
        (
            "SEARCH_SPACE = {'epochs': jv.Uniform(1, 2)}",
            ["--search=random", "--num_trials=3"],
            "only 2 configurations",
        ),
        (
            "SEARCH_SPACE = {'epochs': (1, 2)}",
            ["--search=random"],
            "num_trials=None; expected a number with --search=random",
        ),
        ("SEARCH_SPACE = {'epochs': (1, 2)}", ["--num_trials=2"], "and none with --search=grid"),
        ("SEARCH_SPACE = {'epochs': (1, 2)}", ["--fold=1/2"], "unknown flag --fold; did you mean --folds?"),
    ],
)
def test_what_cannot_be_swept_is_told_in_one_line(content, flags, why, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(FILE + content)
    assert cli.run("sweep", ["--experiment=mine", "--workdir=swept", *flags]) == 2
    said = capsys.readouterr().err
    assert why in said and said.count("\n") == 1 and not (tmp_path / "swept").exists()


def test_every_experiments_space_can_be_swept(root):
    found = [load_experiment(str(path)) for path in sorted((root / "experiments").glob("*.py"))]
    spaces = [each for each in found if each.space is not None]
    assert spaces
    for each in spaces:
        assert len(plan(each.config, Search(each.space))) > 1


# ── folds ──


def test_folds_hold_each_example_out_once_and_each_class_alike():
    targets = np.repeat(np.arange(4), [25, 10, 5, 1]).astype(np.int32)
    whole = jv.Split.of(np.arange(41), targets, kind="multiclass")
    cuts = [fold(whole, number, 5, seed=3) for number in range(1, 6)]
    held = [part.read(np.arange(len(part))) for _, part in cuts]
    assert sorted(np.concatenate(held)) == list(range(41))
    for rest, part in cuts:
        assert sorted([*rest.read(np.arange(len(rest))), *part.read(np.arange(len(part)))]) == list(range(41))
        assert np.bincount(part.targets, minlength=4)[:3].tolist() == [5, 2, 1]
    assert not np.array_equal(held[0], fold(whole, 1, 5, seed=4)[1].read(np.arange(8)))


def test_folds_part_no_group_and_keep_order():
    numbers = np.linspace(0, 1, 24, dtype=np.float32)
    grouped = jv.Split(lambda i: i, numbers, kind="continuous", groups=np.arange(24) // 3 * 7)
    held = []
    for number in (1, 2, 3):
        rest, part = fold(grouped, number, 3, seed=0)
        assert not set(rest.groups) & set(part.groups) and len(rest) + len(part) == 24
        held += part.targets.tolist()
    assert sorted(held) == numbers.tolist()
    with pytest.raises(ValueError, match="cannot split 24 examples into 9 folds; expected 2 to 8 folds"):
        fold(grouped, 1, 9, seed=0)
    ordered = jv.Split(lambda i: i, numbers, kind="continuous", ordered=True)
    cuts = [fold(ordered, number, 3, seed=0) for number in (1, 2, 3)]
    for rest, part in cuts:
        assert rest.targets.max() < part.targets.min() and len(part) == 6
    assert np.concatenate([part.targets for _, part in cuts]).tolist() == numbers[6:].tolist()


def test_folds_are_of_train_and_validation_together_and_never_of_test():
    images = np.arange(60, dtype=np.uint8)[:, None, None].repeat(2, 1)
    labels = np.arange(60) % 2
    parts = {"train": slice(0, 30), "validation": slice(30, 42), "test": slice(42, 60)}
    data = {name: (images[part], labels[part]) for name, part in parts.items()}
    held = []
    for number in (1, 2, 3):
        found = open_dataset(CONFIG.replace(fold=f"{number}/3"), dataset=data)
        seen = {name: split.read(np.arange(len(split)))[:, 0, 0, 0] for name, split in splits_of(found).items()}
        for name, split in splits_of(found).items():
            assert np.array_equal(seen[name] % 2, split.targets)
        assert sorted([*seen["train"], *seen["validation"]]) == list(range(42))
        held += seen["validation"].tolist()
        assert seen["test"].tolist() == list(range(42, 60))
    assert sorted(held) == list(range(42))


def test_two_splits_are_joined_in_the_order_asked_for():
    def split(read, size, value):
        further = {"offsets": np.full(size, value), "baselines": {"a": np.full(size, value)}}
        return jv.Split(read, np.arange(size), kind="multiclass", groups=np.full(size, value), **further)

    both = concatenate(split(lambda i: i * 10, 4, 0), split(lambda i: -i, 3, 1))
    assert both.read(np.array([5, 0, 6, 3, 4])).tolist() == [-1, 0, -2, 30, 0]
    assert both.read(np.array([6])).tolist() == [-2] and both.targets.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert both.groups.tolist() == both.offsets.tolist() == [0] * 4 + [1] * 3 and len(both.baselines["a"]) == 7


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "a/b", "1/2/3"])
def test_a_fold_that_cannot_be(fold):
    with pytest.raises(ValueError, match=r"must be a fold and the number of folds, as in 2/5"):
        jv.Config(fold=fold)


def test_trials_on_folds_can_be_evaluated(tmp_path, no_pictures):
    found = jv.sweep(CONFIG, {"learning_rate": (1e-2,)}, folds=2, workdir=tmp_path / "a")
    rows = trials(found.workdir)
    report = jv.evaluate(found.workdir / rows[1]["trial"], split="validation")
    assert report["accuracy"] == pytest.approx(rows[1]["value"])
    assert rows[1]["fold"] == "2/2" and report["num_examples"] == 96  # half of all but the fifth that is test
    mean = np.mean([row["value"] for row in rows])
    assert found.rows[0]["value"] == pytest.approx(mean) and found.rows[0]["deviation"] is not None
    assert found.best == CONFIG.replace(learning_rate=1e-2)


# ── the run of a sweep ──


def test_the_best_checkpoints_are_ranked(swept):
    rows = trials(swept.workdir)
    assert len(rows) == len(swept.rows) == 3
    for row in rows:
        history = logs.read_rows(swept.workdir / row["trial"] / "metrics.jsonl")
        assert row["value"] == max(each["accuracy"] for each in history if each["split"] == "validation")
        assert row["steps"] == 6 and row["step"] in (3, 6)
        assert jv.load(swept.workdir / row["trial"]).step == row["step"]
    values = [row["value"] for row in swept.rows]
    assert values == sorted(values, reverse=True)
    assert swept.best == CONFIG.replace(**swept.rows[0]["setting"])
    with Image.open(swept.workdir / "sweep.png") as picture:
        assert picture.width > 400 and len(picture.getcolors(1 << 20)) > 20


def test_ended_trials_are_not_run_again(swept, tmp_path, monkeypatch, capsys):
    workdir = tmp_path / "again"
    shutil.copytree(swept.workdir, workdir)
    shutil.rmtree(workdir / "0002-seed0")  # that is how a trial is run anew
    trained = []
    train = jv.sweep.__globals__["train"]
    monkeypatch.setitem(
        jv.sweep.__globals__, "train", lambda *a, **k: trained.append(k["workdir"].name) or train(*a, **k)
    )
    again = jv.sweep(CONFIG, SEARCH_SPACE, workdir=workdir)
    assert trained == ["0002-seed0"] and "3 trials, 2 of them ended before" in capsys.readouterr().out
    assert [{**row, "seconds": 0} for row in again.rows] == [{**row, "seconds": 0} for row in swept.rows]
    more = jv.sweep(CONFIG, SEARCH_SPACE, workdir=workdir, seeds=2)
    assert trained[1:] == [f"000{index}-seed1" for index in range(3)]
    assert sorted(row["trials"] for row in more.rows)[0] == ["0000-seed0", "0000-seed1"]


def test_a_signal_ends_the_sweep_which_goes_on_where_it_stood(swept, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(f"{FILE}SEARCH_SPACE = {SEARCH_SPACE!r}")
    put, calls = meshes.put_batch, []

    def interrupting(batch, mesh):
        calls.append(len(batch["mask"]))
        if calls.count(24) == 6 + 4:  # the fourth step of the second trial
            signal.raise_signal(signal.SIGTERM)
        return put(batch, mesh)

    monkeypatch.setattr("jaxvision.distributed.compilation.put_batch", interrupting)
    assert cli.run("sweep", ["--experiment=mine"]) == 128 + signal.SIGTERM
    said = capsys.readouterr().err.strip()
    command = shlex.split(said.split("to resume: ")[1])
    assert command[:3] == ["jaxvision", "sweep", "--experiment=mine"] and "stopped and saved at step 4 of 6" in said
    monkeypatch.setattr("jaxvision.distributed.compilation.put_batch", put)
    assert cli.run("sweep", command[2:]) == 0
    said = capsys.readouterr().out
    assert "3 trials, 1 of them ended before" in said and "0001-seed0: resumes at step 4 of 6 steps" in said
    (workdir,) = (tmp_path / "workdirs").glob("sweep-synthetic-mlp-*")
    assert [row["value"] for row in trials(workdir)] == [row["value"] for row in trials(swept.workdir)]


def test_the_test_split_has_no_say(swept, tmp_path, monkeypatch):
    opened = registry.datasets.build

    def other_tests(*args, **context):
        data = opened(*args, **context)
        return data._replace(test=jv.Split(data.test.read, np.roll(data.test.targets, 1), kind="multiclass"))

    monkeypatch.setattr(registry.datasets, "build", other_tests)
    monkeypatch.setitem(jv.train.__globals__, "evaluate_on", lambda *a, **k: pytest.fail("the test split was judged"))
    other = jv.sweep(CONFIG, SEARCH_SPACE, workdir=tmp_path / "other")
    assert [row["value"] for row in other.rows] == [row["value"] for row in swept.rows]
    assert not list(other.workdir.glob("*/report*"))


def test_the_best_command_does_what_the_trial_did_and_tests(swept, tmp_path, capsys, no_pictures):
    (tmp_path / "my file.py").write_text(f"{FILE.replace('steps=6', 'steps=9')}SEARCH_SPACE = {SEARCH_SPACE!r}")
    flags = ["--experiment=my file.py", "--steps=6", "--workdir=a"]
    assert cli.run("sweep", flags) == 0
    said = capsys.readouterr().out.splitlines()
    table = said[next(i for i, line in enumerate(said) if line.startswith("accuracy ")) :]
    assert table[0].split() == ["accuracy", "learning_rate", "steps", "seconds"]
    assert [line.split()[0] for line in table[1:4]] == [f"{row['value']:.4f}" for row in swept.rows]
    command = shlex.split(table[-1].removeprefix("best: "))
    assert command[:3] == ["jaxvision", "train", "--experiment=my file.py"] and "--steps=6" in command
    assert cli.run("launch", [*command[2:], "--workdir=best"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    report = jv.evaluate(tmp_path / "best", split="validation")
    assert report["accuracy"] == pytest.approx(swept.rows[0]["value"])


def test_failures_are_told_and_the_sweep_goes_on(tmp_path, monkeypatch, capsys):
    tried = {"batch_size": (5000, 24), "learning_rate": (1e-2, 1e30)}
    config = CONFIG.replace(optimizer="sgd")
    (tmp_path / "mine.py").write_text(f"{FILE.replace(repr(CONFIG), repr(config))}SEARCH_SPACE = {tried!r}")
    assert cli.run("sweep", ["--experiment=mine", "--workdir=a"]) == 0
    rows = {tuple(row["setting"].values()): row for row in trials(tmp_path / "a")}
    assert "use --batch_size=" in rows[5000, 1e-2]["error"] and "value" not in rows[5000, 1e-2]
    assert "training stopped, and earlier checkpoints are kept" in rows[24, 1e30]["error"]
    assert rows[24, 1e-2]["value"] > 0
    table = capsys.readouterr().out.splitlines()
    head = next(i for i, line in enumerate(table) if line.startswith("accuracy "))
    assert table[head].split()[-1] == "failed" and "one step takes 5000" in " ".join(table[head + 2 : head + 5])


def test_nothing_that_can_be_ranked(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(f"{FILE}SEARCH_SPACE = {{'batch_size': (5000, 6000)}}")
    assert cli.run("sweep", ["--experiment=mine", "--workdir=a"]) == 2
    assert "all 2 trials failed; the first: one step takes 5000" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no validation metric to rank trials by: give --validation_fraction"):
        jv.sweep(CONFIG.replace(validation_fraction=0.0), SEARCH_SPACE, workdir=tmp_path / "b")
    with pytest.raises(ValueError, match="cannot rank by both accuracy and rmse; run one sweep per task"):
        rank([{"name": name, "direction": "max"} for name in ("accuracy", "rmse")])


def test_a_folder_of_another_sweep_is_refused(swept, tmp_path, capsys):
    before = (swept.workdir / "sweep.json").read_bytes()
    for change, why in [
        (
            {"config": CONFIG.replace(batch_size=10)},
            "another sweep: batch_size 24 there, 10 here; use the same options",
        ),
        ({"space": {"learning_rate": (1e-4, 1e-3)}}, "another sweep: SEARCH_SPACE {'learning_rate'"),
        ({"folds": 2}, "another sweep: folds None there, 2 here"),
    ]:
        with pytest.raises(ValueError, match=why):
            jv.sweep(**{"config": CONFIG, "space": SEARCH_SPACE, **change}, workdir=swept.workdir)
    with pytest.raises(ValueError, match="holds other files than a sweep"):
        jv.sweep(CONFIG, SEARCH_SPACE, workdir=swept.workdir / "0000-seed0")
    assert (swept.workdir / "sweep.json").read_bytes() == before


def test_lower_can_be_better_and_failures_come_last():
    rows = [
        {
            "setting": {"epochs": epochs},
            "trial": str(epochs),
            "name": "rmse",
            "direction": "min",
            "steps": 1,
            "seconds": 1.0,
        }
        for epochs in (1, 1, 2, 2, 3, 3)
    ]
    for row, value in zip(rows, (3.0, 4.0, 1.0, 2.0, 0.1, None), strict=True):
        row |= {"value": value} if value is not None else {"error": "it diverged"}
    found = rank(rows)
    assert [row["setting"]["epochs"] for row in found] == [2, 1, 3]
    assert found[0]["value"] == 1.5 and found[0]["deviation"] == pytest.approx(0.5**0.5) and found[0]["seconds"] == 2
    assert found[2]["error"] == "1 of 2: it diverged" and found[2]["value"] == 0.1


def test_numbers_that_span_decades_are_drawn_by_logarithm(monkeypatch, tmp_path):
    figures = []
    make = plots.new_figure
    monkeypatch.setattr(plots, "new_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    settings = [
        {"learning_rate": 1e-4 * 10**i, "batch_size": 8 + i, "grad_clip_norm": None if i else 1.0, "keep": 2}
        for i in range(3)
    ]
    plots.choices(settings, [0.9, 0.8, 0.7], [0.1, None, None], "accuracy", tmp_path / "a.png")
    panels = figures[0].axes
    assert [axes.get_xlabel() for axes in panels] == ["learning rate", "batch size", "grad clip norm"]
    assert [axes.get_xscale() for axes in panels] == ["log", "linear", "linear"]
    assert [tick.get_text() for tick in panels[0].get_xticklabels()] == ["0.0001", "0.001", "0.01"]
    assert [tick.get_text() for tick in panels[2].get_xticklabels()] == ["1.0", "None"]


def test_the_module_is_a_command(root):
    words = [sys.executable, "-m", "jaxvision", "sweep", "--help"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and "--num_trials" in done.stdout and "--folds" in done.stdout
