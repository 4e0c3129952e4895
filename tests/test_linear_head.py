"""Heads that are fitted by logistic regression, and runs that begin with one."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

import jaxvision as jv
from jaxvision import fitted_head, linear_head
from jaxvision.config import Config
from jaxvision.linear_head import LinearHead


def examples(num_classes, *, seed=0, count=60):
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % num_classes
    features = rng.normal(size=(count, 5)) * [1, 10, 0.1, 3, 1] + targets[:, None] * 0.7 + 4
    features[:, 4] = 2.0  # a feature without information
    return features.astype(np.float32), targets


@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_head_is_scikit_learns_logistic_regression(num_classes):
    train, other = examples(num_classes), examples(num_classes, seed=1)
    mean = train[0].mean(axis=0, dtype=np.float64)
    scale = np.sqrt(((train[0] - mean) ** 2).mean())
    theirs = LogisticRegression(C=0.1, max_iter=10_000, tol=1e-8).fit((train[0] - mean) / scale, train[1])
    probabilities = theirs.predict_proba((other[0] - mean) / scale)
    head = linear_head.fit(train, num_classes, strengths=[0.1])
    logits = other[0].astype(np.float64) @ head.kernel + head.bias
    ours = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ours, probabilities, atol=1e-6)
    assert linear_head.log_loss(head, other) == pytest.approx(log_loss(other[1], probabilities), abs=1e-6)
    stronger = linear_head.fit(train, num_classes, strengths=[0.001])
    assert np.abs(stronger.kernel).max() < np.abs(head.kernel).max()


def test_the_strength_is_that_of_the_lowest_loss_on_validation():
    train, validation = examples(3), examples(3, seed=1)
    losses = {
        strength: linear_head.log_loss(linear_head.fit(train, 3, strengths=[strength]), validation)
        for strength in linear_head.STRENGTHS
    }
    chosen = linear_head.fit(train, 3, validation=validation)
    assert chosen.strength == min(losses, key=losses.__getitem__)
    shuffled = validation[0], np.random.default_rng(0).permutation(validation[1])
    assert linear_head.fit(train, 3, validation=shuffled).strength < chosen.strength


def test_few_validation_examples_do_not_choose_the_strength():
    train, many, few = examples(3), examples(3, seed=1, count=120), examples(3, seed=1, count=30)
    crossed = linear_head.fit(train, 3)
    assert linear_head.fit_and_choose(train, few, 3).strength == crossed.strength
    misleading = many[0], np.random.default_rng(0).permutation(many[1])
    assert linear_head.fit_and_choose(train, misleading, 3).strength < crossed.strength
    with pytest.raises(ValueError, match="no example of class 3 among 60"):
        linear_head.fit_and_choose(train, many, 4)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A tiny network that was trained on other classes."""
    folder = tmp_path_factory.mktemp("pretrained")
    config = Config(model="cnn(channels=(8, 8), dense=())", dataset="synthetic(num_examples=200, num_classes=3)")
    jv.train(config.replace(steps=20, batch_size=20), workdir=folder / "run")
    return str(folder / "run")


CONFIG = Config(
    model="cnn(channels=(8, 8), dense=())",
    dataset="synthetic(num_examples=200, num_classes=4)",
    steps=4,
    eval_every=2,
    batch_size=20,
    learning_rate=1e-4,
    validation_fraction=0.3,
)


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_begins_with_the_fitted_head_as_checkpoint_0(pretrained, tmp_path, capsys):
    config = CONFIG.replace(head_init="probe", init_from=pretrained)
    result = jv.train(config, execution=jv.Execution(max_to_keep=3), workdir=tmp_path / "run")
    said = capsys.readouterr().out
    assert "the head is a logistic regression on" in said and "step 0/4" in said
    first = rows(tmp_path / "run")[0]
    assert (first["step"], first["split"]) == (0, "validation")
    assert result.history[0] == first
    report = jv.evaluate(tmp_path / "run", checkpoint="0", split="validation")
    assert report["loss"] == pytest.approx(first["loss"], abs=1e-6)
    new = jv.train(config.replace(head_init="new"), workdir=tmp_path / "new").history
    assert first["loss"] < next(row for row in new if row["split"] == "validation")["loss"]


def test_a_run_with_a_fitted_head_resumes_bit_for_bit(pretrained, tmp_path):
    config = CONFIG.replace(head_init="probe", init_from=pretrained, schedule="constant")
    whole = jv.train(config, workdir=tmp_path / "whole").history
    jv.train(config.replace(steps=2), workdir=tmp_path / "cut")
    found = jv.train(config, workdir=tmp_path / "cut").history
    timed = ("seconds", "data_wait_fraction")
    values = [[{k: v for k, v in row.items() if k not in timed} for row in each] for each in (whole, found)]
    assert values[0] == values[1] and found[-1]["step"] == 4


def test_without_validation_checkpoint_0_has_no_evaluation(pretrained, tmp_path):
    config = CONFIG.replace(head_init="probe", init_from=pretrained, validation_fraction=0.0)
    jv.train(config.replace(steps=2), workdir=tmp_path / "run")
    found = jv.train(config, workdir=tmp_path / "run").history
    assert [row["step"] for row in found] == [2, 4] and {row["split"] for row in found} == {"train"}


def test_a_head_that_cannot_be_fitted_is_refused(pretrained, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"head_init='probe' fits the head to pretrained features: set init_from"):
        Config(head_init="probe")
    tags = CONFIG.replace(
        head_init="probe", init_from=pretrained, dataset="synthetic(num_examples=200, num_classes=2)", task="binary"
    )
    with pytest.raises(ValueError, match=r"--task=binary has 1 outputs and 2 classes: remove --head_init"):
        jv.train(tags, workdir=tmp_path / "run")
    monkeypatch.setattr(
        fitted_head.linear_head, "fit_and_choose", lambda *given: LinearHead(np.ones((3, 4)), np.ones(4), 1)
    )
    with pytest.raises(ValueError, match=r"one linear layer on the pooled features, which 'cnn"):
        jv.train(CONFIG.replace(head_init="probe", init_from=pretrained), workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
