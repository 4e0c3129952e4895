"""Confident learning against cleanlab, and label suspects of a run and of a cross-validation."""

import json

import numpy as np
import pytest
import trust_figures
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

import jaxvision as jv
from jaxvision.cli.errors import run_command
from jaxvision.cli.main import run
from jaxvision.label_errors import noise_counts
from jaxvision.label_suspects import label_suspects


def flipped_digits(fraction=0.1, seed=0):
    """Return out-of-fold probabilities, labels with a fraction of them changed, and which ones."""
    pixels, right = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    flips = rng.random(len(right)) < fraction
    labels = np.where(flips, (right + rng.integers(1, 10, len(right))) % 10, right)
    model = LogisticRegression(C=0.01, max_iter=200)
    return cross_val_predict(model, pixels / 16, labels, cv=3, method="predict_proba"), labels, flips


def test_flipped_labels_are_found_most_suspicious_first():
    probabilities, labels, flips = flipped_digits()
    errors = jv.label_errors(probabilities, labels)
    indices = np.array([each.index for each in errors])
    assert flips[indices].mean() > 0.6 and flips[indices].sum() > 0.85 * flips.sum()
    assert all(each.given == labels[each.index] != each.suggested for each in errors)
    confidences = [each.self_confidence for each in errors]
    assert confidences == sorted(confidences)
    assert np.allclose(confidences, probabilities[indices, labels[indices]])
    assert [each.suggested for each in errors] == probabilities[indices].argmax(axis=1).tolist()


def average_precision(indices, flips):
    """Return the average precision of flagged examples in their order; flips that are not flagged count as missed."""
    hits = flips[np.asarray(indices)]
    return (np.cumsum(hits) / np.arange(1, len(hits) + 1) * hits).sum() / flips.sum()


def test_flags_are_those_of_cleanlab_but_for_rounding():
    pytest.importorskip("cleanlab", reason="cleanlab is not installed")
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues

    for fraction in (0.05, 0.2):
        probabilities, labels, flips = flipped_digits(fraction)
        theirs = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
        ours = [each.index for each in jv.label_errors(probabilities, labels)]
        assert set(theirs.tolist()) <= set(ours) and len(ours) <= 1.06 * len(theirs)  # theirs rounds to the nearest
        assert average_precision(ours, flips) >= average_precision(theirs, flips)
        counts = noise_counts(probabilities, labels)
        assert np.abs(counts - compute_confident_joint(labels, probabilities)).max() < 1


def test_the_confident_joint_by_hand():
    # the means of the own probabilities are 0.8 for class 0 and 0.6 for class 1
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1]])
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    # of class 0, the row with 0.5 is confidently of neither: 3 of 3 are right, scaled to 4
    assert np.allclose(noise_counts(probabilities, labels), [[4, 0], [1, 2]])
    assert [each.index for each in jv.label_errors(probabilities, labels)] == [6]


def test_sums_are_kept_and_nothing_is_flagged_where_all_fits():
    rng = np.random.default_rng(0)
    probabilities, labels = softmax(rng.normal(size=(300, 5)), axis=1), rng.integers(0, 5, 300)
    counts = noise_counts(probabilities, labels)
    assert np.allclose(counts.sum(axis=1), np.bincount(labels, minlength=5)) and (counts.diagonal() > 0).all()
    assert jv.label_errors(np.eye(3)[[0, 1, 2, 2]] * 0.7 + 0.1, np.array([0, 1, 2, 2])) == []
    absent = noise_counts(probabilities, np.minimum(labels, 3))  # class 4 has no example
    assert absent[4].tolist() == [0] * 5 and absent[:, 4].sum() == 0


def test_logits_are_refused():
    with pytest.raises(ValueError, match="softmax"):
        jv.label_errors(np.array([[3.0, -1.0]]), np.array([0]))


# ── of workdirs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def arrays(*, num_flipped=12):
    """Return images of four classes in which some labels are wrong, and the indices of these."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 4
    patterns = rng.random((4, 8, 8))
    images = np.clip(0.6 * patterns[labels] + 0.4 * rng.random((240, 8, 8)), 0, 1).astype(np.float32)
    flipped = rng.choice(240, num_flipped, replace=False)
    labels[flipped] = (labels[flipped] + 1) % 4
    return images, labels, set(flipped.tolist())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    images, labels, _ = arrays()
    folder = tmp_path_factory.mktemp("folds") / "sweep"
    config = jv.Config(model="mlp(hidden=(16,))", steps=60, batch_size=32, learning_rate=0.01)
    data = {"train": (images, labels), "test": (images[:8], labels[:8])}
    jv.sweep(config, {"batch_size": (32,)}, folds=3, workdir=folder, dataset=data)
    return folder, data


def test_folds_judge_each_example_by_the_run_that_held_it_out(sweep):
    folder, data = sweep
    found = label_suspects(folder, dataset=data)
    assert found["num_examples"] == 240 and "3 folds" in found["predictions"]
    named = {int(each["name"].removeprefix("train ")) for each in found["suspects"]}
    flipped = arrays()[2]
    assert len(named & flipped) >= 10 and len(named - flipped) <= 3
    _, labels, _ = arrays()
    assert all(each["given"] == str(labels[int(each["name"].split()[1])]) for each in found["suspects"])


def test_a_run_judges_its_validation_split(sweep):
    folder, data = sweep
    found = label_suspects(folder / "0000-seed0-fold1", dataset=data)
    assert found["num_examples"] == 80 and "fold 1/3" in found["predictions"]
    assert all(each["name"].startswith("validation ") for each in found["suspects"])


def test_dataset_report_lists_the_suspects_of_a_workdir(tmp_path, capsys):
    workdir = tmp_path / "run"
    dataset = "synthetic(num_classes=3, num_examples=300, image_size=8, noise=1.5)"
    jv.train(
        jv.Config(model="mlp(hidden=(8,))", dataset=dataset, validation_fraction=0.5, steps=20, batch_size=32),
        workdir=workdir,
    )
    words = [f"--dataset={dataset}", f"--workdir={workdir}", f"--out={tmp_path / 'report'}"]
    assert run("dataset_report", words) in (0, None)
    told = capsys.readouterr().out
    part = json.loads((tmp_path / "report" / "report.json").read_text())["label_suspects"]
    assert part["num_suspects"] == len(part["suspects"]) > 0
    assert f"label suspects: {part['num_suspects']} of 120 examples, by {workdir}, on validation" in told
    assert f"  {part['suspects'][0]['name']}: labeled {part['suspects'][0]['given']} (" in told
    assert run("dataset_report", ["--dataset=digits", *words[1:]]) == 2
    assert "was trained on" in capsys.readouterr().err


def test_runs_that_cannot_judge_labels_are_refused(sweep, tmp_path):
    jv.train(
        jv.Config(model="mlp(hidden=(8,))", dataset="synthetic", validation_fraction=0.0, steps=1), workdir=tmp_path
    )
    with pytest.raises(ValueError, match="no validation split"):
        label_suspects(tmp_path)
    folder = tmp_path / "sweep"
    jv.sweep(jv.Config(model="mlp(hidden=(8,))", dataset="synthetic", steps=1), {"seed": (0,)}, workdir=folder)
    with pytest.raises(ValueError, match="--folds=5"):
        label_suspects(folder)


# ── the script that measures ──────────────────────────────────────────────────────────────────────────────────────────


def test_labels_are_changed_by_the_rows_of_a_confusion_matrix():
    targets = np.repeat(np.arange(4), 5000)
    for matrix in (trust_figures.uniform(4, 0.3), trust_figures.paired(4, 0.2)):
        assert np.allclose(matrix.sum(axis=1), 1)
        labels = trust_figures.flipped(targets, matrix, seed=0)
        shares = np.stack([np.bincount(labels[targets == each], minlength=4) / 5000 for each in range(4)])
        assert np.abs(shares - matrix).max() < 0.02
    assert np.array_equal(trust_figures.flipped(targets, trust_figures.uniform(4, 0.0), seed=1), targets)


def test_the_script_prints_a_row_for_each_setting_and_the_figures_of_a_temperature(monkeypatch, capsys):
    monkeypatch.setattr(trust_figures, "FRACTIONS", (0.0, 0.1))
    monkeypatch.setattr(trust_figures, "cleanlab_errors", lambda probabilities, labels: None)
    pixels, right = load_digits(return_X_y=True)
    monkeypatch.setattr(trust_figures, "digits", lambda: (pixels[:600] / 16, right[:600]))
    assert not run_command(trust_figures.main, ["--part=labels", "--seeds=1"], trust_figures.NAME)
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[2].strip() for row in rows] == ["none", "uniform", "next class"]
    assert all(float(row[4]) > 0.7 for row in rows[1:])
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2000, 5))
    targets = np.array([rng.choice(5, p=row) for row in softmax(logits, axis=1)])
    halves = [(softmax(3 * logits[part], axis=1), targets[part]) for part in (slice(1000), slice(1000, None))]
    none, ours, *_ = trust_figures.temperature_rows(*halves)
    assert ours[1] == pytest.approx(3, rel=0.2) and ours[2] < none[2] / 2 and ours[-1] == none[-1]
