"""Which checkpoint of a run counts: the best on validation, or the last where validation is small."""

import json
import shutil

import pytest

import jaxvision as jv
from jaxvision import run as runs
from jaxvision import workdir as workdirs
from jaxvision.config import Config
from jaxvision.interfaces import Monitor
from jaxvision.reports import chosen_evaluation

SMALL = Config(
    model="cnn(channels=(4,), dense=())",
    dataset="synthetic(num_examples=120, num_classes=3, image_size=8, noise=2.0)",
    steps=8,
    eval_every=2,
    batch_size=16,
    learning_rate=0.03,
    validation_fraction=0.2,
)
KEEP = jv.Execution(max_to_keep=10)


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def rule_of(workdir):
    config, _, signature = workdirs.read(workdir)
    return runs.checkpoint_rule(config, signature)


def best_step(workdir):
    evaluations = [row for row in rows(workdir) if row["split"] == "validation"]
    return max(evaluations, key=lambda row: (row["accuracy"], row["step"]))["step"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run with few validation examples that is not best at its end."""
    for seed in range(10):
        workdir = tmp_path_factory.mktemp("small") / "run"
        result = jv.train(SMALL.replace(seed=seed), execution=KEEP, workdir=workdir)
        if best_step(workdir) < 8:
            return result
    raise AssertionError("all runs were best at their end")


def test_the_last_checkpoint_counts_where_validation_is_small(small, capsys):
    workdir = small.workdir
    assert rule_of(workdir) == "last"
    assert runs.load(workdir).step == 8 and runs.load(workdir, checkpoint="best").step == best_step(workdir)
    few = json.loads((workdir / "signature.json").read_text())["num_validation"]
    report = jv.evaluate(workdir)
    assert report["step"] == 8 and report["checkpoint"] == f"last; {few} validation examples would be few to choose by"
    best = jv.evaluate(workdir, checkpoint="best")
    assert best["checkpoint"] == f"highest accuracy on {few} validation examples, which are few to choose by"


def test_training_warns_of_few_validation_examples(tmp_path, capsys):
    jv.train(SMALL.replace(steps=2), workdir=tmp_path / "few")
    assert "validation examples are few: one is" in capsys.readouterr().out
    many = SMALL.replace(dataset=SMALL.dataset.replace("120", "800"), steps=2)
    jv.train(many, workdir=tmp_path / "many")
    assert "are few" not in capsys.readouterr().out
    assert rule_of(tmp_path / "many") == "best"


def test_the_rule_can_be_set_and_early_stopping_keeps_the_best(tmp_path):
    rules = {}
    for name, changes in {"best": {"checkpoint_rule": "best"}, "stopped": {"patience": 3}}.items():
        jv.train(SMALL.replace(steps=2, **changes), workdir=tmp_path / name)
        rules[name] = rule_of(tmp_path / name)
    assert rules == {"best": "best", "stopped": "best"}


def test_a_run_of_an_older_version_keeps_the_best_also_when_it_goes_on(tmp_path):
    jv.train(SMALL, workdir=tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text())
    content["version"] = 4
    del content["checkpoint_rule"], content["digest"]
    path.write_text(json.dumps(content))
    assert rule_of(tmp_path / "run") == "best"
    assert runs.load(tmp_path / "run").step == best_step(tmp_path / "run")
    jv.train(SMALL.replace(steps=10), workdir=tmp_path / "run")
    assert rule_of(tmp_path / "run") == "best"


def test_the_report_on_other_data_states_the_validation_examples_of_training(small):
    few = json.loads((small.workdir / "signature.json").read_text())["num_validation"]
    report = jv.evaluate(small.workdir, dataset=SMALL.dataset.replace("120", "1500"), checkpoint="best", split="all")
    assert report["checkpoint"].startswith(f"highest accuracy on {few} validation examples, which are few")


def test_a_sweep_of_an_older_version_keeps_the_best(tmp_path):
    space = {"learning_rate": [0.01, 0.03]}
    jv.sweep(SMALL.replace(checkpoint_rule="best"), space, workdir=tmp_path / "sweep")
    file = tmp_path / "sweep" / "sweep.json"
    content = json.loads(file.read_text())
    del content["asked"]["checkpoint_rule"], content["digest"]
    missing = content["trials"][1]["trial"]
    expected = content["trials"].pop(1)["value"]
    file.write_text(json.dumps(content))
    shutil.rmtree(tmp_path / "sweep" / missing)
    again = jv.sweep(SMALL, space, workdir=tmp_path / "sweep")
    assert rule_of(tmp_path / "sweep" / missing) == "best"
    assert expected in [row["value"] for row in again.rows]


def test_trials_are_ranked_by_the_checkpoint_that_counts():
    history = [{"split": "validation", "step": step, "accuracy": value} for step, value in ((1, 0.9), (2, 0.7))]
    history.append({"split": "train", "step": 2, "accuracy": 1.0})
    assert chosen_evaluation(history, Monitor("accuracy", "max"), "best") == (0.9, 1)
    assert chosen_evaluation(history, Monitor("accuracy", "max"), "last") == (0.7, 2)
