"""Ensembles, test-time augmentation and early stopping."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvision as jv
from jaxvision import registry
from jaxvision.cli import run
from jaxvision.engine.tta import with_test_time_augmentation
from jaxvision.interfaces import Model
from jaxvision.splits import holdout
from jaxvision.tasks import metrics

CONFIG = jv.Config(
    model="mlp(hidden=(8,))", dataset="synthetic(num_examples=150, image_size=8, noise=2.0)", steps=20, eval_every=10,
    batch_size=20, learning_rate=1e-2, validation_fraction=0.2,
)  # fmt: skip


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    for seed in range(3):
        jv.train(CONFIG.replace(seed=seed), workdir=folder / f"{seed}")
    return [folder / f"{seed}" for seed in range(3)]


def test_an_ensemble_judges_the_mean_of_what_its_members_predict(members):
    report = jv.ensemble(members)
    data = registry.datasets.build(CONFIG.dataset)
    images = data.test.read(np.arange(len(data.test)))
    mean = np.mean([jv.predict(each, images).probabilities for each in members], axis=0)
    assert report["confusion_matrix"] == confusion(data.test.targets, mean.argmax(axis=1))
    assert [*report["members"]] == [str(each) for each in members]
    single = [jv.evaluate(each)["macro"]["recall"] for each in members]
    assert [each["macro_recall"] for each in report["members"].values()] == pytest.approx(single)
    assert (members[0] / "report_ensemble" / "confusion_matrix.png").exists()


def confusion(targets, decided):
    found = np.zeros((targets.max() + 1,) * 2, int)
    np.add.at(found, (targets, decided), 1)
    return found.tolist()


def test_what_makes_no_ensemble_is_told(members, tmp_path, capsys):
    def told(*workdirs):
        assert run("evaluate", [f"--workdir={','.join(map(str, workdirs))}"]) == 2
        return capsys.readouterr().err

    assert "two or more different workdirs" in told(members[0], members[0])
    jv.train(CONFIG.replace(dataset="digits", steps=1), workdir=tmp_path / "digits")
    assert "digits' has the classes 0, 1, 2 and 7 more, and" in told(members[0], tmp_path / "digits")
    two = CONFIG.replace(dataset="synthetic(num_classes=2, image_size=8)", steps=1)
    for task in ("multiclass", "binary"):
        jv.train(two.replace(task=task), workdir=tmp_path / task)
    assert "binary' has the task 'binary', and" in told(tmp_path / "multiclass", tmp_path / "binary")
    jv.train(CONFIG.replace(dataset=CONFIG.dataset.replace("150", "180"), steps=1), workdir=tmp_path / "more")
    assert "other examples" in told(members[0], tmp_path / "more")
    jv.train(CONFIG.replace(split_seed=1, steps=1), workdir=tmp_path / "split")  # of the same targets in the same order
    assert "other examples" in told(members[0], tmp_path / "split")


def test_members_may_have_learned_by_other_losses(members, tmp_path):
    jv.train(CONFIG.replace(task="multiclass(loss=focal(gamma=2.0))"), workdir=tmp_path / "focal")
    report = jv.ensemble([members[0], tmp_path / "focal"])
    assert len(report["members"]) == 2 and 0 < report["macro_recall"] <= 1


def test_thresholds_of_an_ensemble_are_chosen_for_its_mean(tmp_path):
    config = CONFIG.replace(
        task="binary(threshold=('recall', 0.9))", dataset=CONFIG.dataset.replace("noise", "num_classes=2, noise")
    )
    workdirs = [tmp_path / f"{seed}" for seed in range(2)]
    for seed, workdir in enumerate(workdirs):
        jv.train(config.replace(seed=seed), workdir=workdir)
    report = jv.ensemble(workdirs)
    data = registry.datasets.build(config.dataset)
    _, validation = holdout(data.train, 0.2, seed=0)
    images = validation.read(np.arange(len(validation)))
    mean = np.mean([jv.predict(each, images).probabilities for each in workdirs], axis=0)[:, 1]
    wanted = metrics.best_threshold(validation.targets, mean, what="recall", target=0.9)
    assert report["threshold"] == pytest.approx(wanted, rel=1e-4)
    assert (mean[validation.targets == 1] >= report["threshold"]).mean() >= 0.9


def model_of(weights):
    def apply(params, state, inputs, *, train, key):
        return (inputs * weights).sum(axis=(1, 2, 3))[:, None], state

    return Model(lambda key, inputs: ({}, {}), apply)


def test_views_average_what_the_versions_of_an_image_give():
    rng = np.random.default_rng(0)
    weights, inputs = rng.normal(size=(6, 6, 1)), jnp.asarray(rng.random((3, 6, 6, 1)))
    model = model_of(jnp.asarray(weights))

    def outputs(tta, *, train=False):
        return np.asarray(
            with_test_time_augmentation(model, tta).apply({}, {}, inputs, train=train, key=jax.random.key(0))[0]
        )[:, 0]

    def plain(images):
        return (np.asarray(images) * weights).sum(axis=(1, 2, 3))

    def both(images):
        return (plain(images) + plain(np.asarray(images)[:, :, ::-1])) / 2

    padded = np.pad(np.asarray(inputs), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    shifted = (both(padded[:, :6, :6]) + both(padded[:, 2:, 2:])) / 2
    np.testing.assert_allclose(outputs("none"), plain(inputs), rtol=1e-5)
    np.testing.assert_allclose(outputs("flip"), both(inputs), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs("flip_shift"), (both(inputs) + shifted) / 2, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs("flip", train=True), plain(inputs), rtol=1e-5)


def test_training_ends_early_and_stays_ended(tmp_path, capsys):
    config = CONFIG.replace(steps=40, eval_every=2, patience=2, learning_rate=1e-9)
    result = jv.train(config, workdir=tmp_path / "run")
    assert [row["step"] for row in result.history if row["split"] == "validation"] == [2, 4, 6]
    assert "early stopping at step 6" in capsys.readouterr().out
    again = jv.train(config, workdir=tmp_path / "run")
    assert again.history == result.history and "training is already finished, at step 6" in capsys.readouterr().out


def test_an_end_that_a_stop_cut_short_is_the_same_end(tmp_path, monkeypatch):
    train = importlib.import_module("jaxvision.train")  # the name in the package is the function's
    config = CONFIG.replace(steps=40, eval_every=2, patience=2, learning_rate=1e-9)
    evaluated = train._evaluate_and_log

    def stopped(session, state, *rest):
        if int(state.step) == 6:
            raise KeyboardInterrupt
        return evaluated(session, state, *rest)

    monkeypatch.setattr(train, "_evaluate_and_log", stopped)
    with pytest.raises(KeyboardInterrupt):
        jv.train(config, workdir=tmp_path / "run")
    monkeypatch.setattr(train, "_evaluate_and_log", evaluated)
    result = jv.train(config, workdir=tmp_path / "run")
    assert [row["step"] for row in result.history if row["split"] == "validation"] == [2, 4, 6]


def test_thresholds_of_other_views_are_not_taken(tmp_path):
    from jaxvision import threshold_file

    threshold_file.save(tmp_path, 7, "none", (0.25,))
    assert threshold_file.load(tmp_path, 7, "none") == (0.25,)
    assert threshold_file.load(tmp_path, 7, "flip") is None and threshold_file.load(tmp_path, 8, "none") is None


def test_patience_without_what_it_watches_is_told(tmp_path, capsys):
    words = [f"--workdir={tmp_path / 'run'}", "--dataset=digits", "--patience=3", "--validation_fraction=0"]
    assert run("launch", words) == 2
    assert "patience=3" in capsys.readouterr().err and not (tmp_path / "run").exists()
