"""One figure, one definition: macro averages, ranking by logits, thresholds between scores, ties, one image."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, top_k_accuracy_score

import jaxvision as jv
from jaxvision import registry
from jaxvision.engine.inference import metrics_of
from jaxvision.ensemble_outputs import combine
from jaxvision.generative_metrics import frechet_distance, generative_metrics
from jaxvision.interfaces import Model, Outputs, Split
from jaxvision.reports import Report, text
from jaxvision.tasks import metrics


def fixed(outputs):
    """A model that answers the same whatever it sees."""
    return Model(lambda key, inputs: ({}, {}), lambda params, state, inputs, *, train, key: (jnp.array(outputs), state))


def outputs_of(task, logits):
    """What evaluation keeps of a model that answers those logits."""
    logits = np.asarray(logits, np.float32)
    batch = {"inputs": jnp.zeros((len(logits), 1))}
    predictions, ranks = (np.asarray(f(fixed(logits), {}, {}, batch)) for f in (task.predict, task.logits))
    return Outputs(predictions, np.zeros(len(logits)), ranks)


def split_of(targets, kind):
    return Split.of(np.zeros((len(targets), 1, 1, 1), np.uint8), np.asarray(targets), kind=kind)


def colored(labels):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 30, (len(labels), 8, 8, 3)).astype(np.uint8)
    images[np.arange(len(labels)), :, :, labels] += 200
    return images, np.array(["cat", "dog", "eel"])[labels]


@pytest.fixture(scope="module")
def lacking(tmp_path_factory):
    """A run whose test split lacks a class, and its workdir."""
    workdir = tmp_path_factory.mktemp("lacking") / "run"
    config = jv.Config(model="mlp(hidden=(8,))", batch_size=8, steps=30, learning_rate=3e-3)
    data = {"train": colored(np.arange(45) % 3), "test": colored(np.arange(20) % 2)}
    return jv.train(config, workdir=workdir, dataset=data).test, workdir


def test_a_class_without_examples_is_left_out_of_every_macro_average(lacking):
    report, workdir = lacking
    assert report["macro"]["recall"] == pytest.approx(report["macro_recall"], abs=1e-12)
    assert report["absent_classes"] == ["eel"] and report["per_class"]["eel"] == {"num_examples": 0}
    of_classes = [report["per_class"][name] for name in ("cat", "dog")]
    for metric in ("precision", "recall", "f1"):
        assert report["macro"][metric] == pytest.approx(np.mean([each[metric] for each in of_classes]))
    told = text(report)
    assert "macro averages are over the 2 of 3 classes that test has; without examples: eel" in told
    assert f"{report['macro']['recall']:.4f}" in told
    assert "without examples: eel" in Report(report)._repr_html_()
    assert json.loads((workdir / "report" / "report.json").read_text())["absent_classes"] == ["eel"]


def test_an_absent_class_that_is_predicted_changes_no_recall():
    targets, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 2])
    report = metrics.classification(targets, predicted, np.full((4, 3), 1 / 3), classes=("a", "b", "c"))
    assert report["macro"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}
    assert report["macro"]["recall"] == metrics.recalls(targets, predicted)["macro_recall"]


def test_macro_averages_are_equal_where_every_class_occurs_and_none_is_absent():
    rng = np.random.default_rng(1)
    targets, predicted = rng.integers(0, 4, 100), rng.integers(0, 4, 100)
    report = metrics.classification(targets, predicted, np.full((100, 4), 0.25), classes=tuple("abcd"))
    assert report["macro"]["recall"] == pytest.approx(metrics.recalls(targets, predicted)["macro_recall"])
    assert "absent_classes" not in report


def test_macro_averages_of_labels_leave_out_the_same_labels():
    targets = np.array([[1, 0, 0], [1, 1, 0]], np.float32)
    predicted = np.array([[1, 0, 1], [1, 1, 0]], bool)
    report = metrics.multilabel(targets, predicted, predicted * 0.5 + 0.2, classes=tuple("abc"))
    assert report["macro"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0} and report["absent_classes"] == ["c"]
    assert report["micro"]["precision"] == pytest.approx(3 / 4)
    assert metrics.mean_average_precision(targets, predicted * 0.5 + 0.2) == 1.0


def test_labels_are_ranked_by_their_logits():
    logits, labels = np.array([30, 25, 20, 18, -30], np.float32), np.array([1, 1, 0, 0, 0], np.float32)
    task = registry.tasks.build("multilabel(threshold=0.5)", num_classes=1)
    found = metrics_of(task, split_of(labels[:, None], "multilabel"), outputs_of(task, logits[:, None]), ("x",))
    assert found["per_class"]["x"]["auroc"] == roc_auc_score(labels, logits) == 1
    assert found["per_class"]["x"]["average_precision"] == average_precision_score(labels, logits) == 1
    assert found["mean_average_precision"] == 1
    direct = metrics.multilabel(
        labels[:, None], logits[:, None] > 0, np.ones((5, 1), np.float32), classes=["x"], logits=logits[:, None]
    )
    assert direct["per_class"]["x"]["auroc"] == 1


@pytest.mark.parametrize(
    "logits", [[-104, -110, 105, 120, 300], [-3e4, -2e4, 1e4, 2e4, 3e4], [-200, 0, 88, 89, np.inf]]
)
def test_a_sigmoid_is_ranked_by_its_logits(logits):
    labels = np.array([0, 1, 0, 1, 1], np.int32)
    task = registry.tasks.build("binary", num_classes=2)
    outputs = outputs_of(task, np.array(logits)[:, None])
    found = metrics_of(task, split_of(labels, "multiclass"), outputs, ("no", "yes"))
    ranks = np.nan_to_num(np.array(logits, np.float64))
    assert found["auroc"] == roc_auc_score(labels, ranks)
    assert found["average_precision"] == average_precision_score(labels, ranks)


def test_a_score_that_names_no_logits_receives_none():
    task = registry.tasks.build("multilabel(threshold=0.5)", num_classes=1)
    task = task._replace(score=lambda targets, predictions: {"sum": float(predictions.sum())})
    outputs = outputs_of(task, [[0.0], [0.0]])
    assert metrics_of(task, split_of(np.ones((2, 1), np.float32), "multilabel"), outputs) == {"sum": 1.0}


def test_an_ensemble_of_confident_members_is_ranked_by_mean_log_odds():
    task = registry.tasks.build("multilabel(threshold=0.5)", num_classes=1)
    labels = split_of(np.array([[1], [0], [0]], np.float32), "multilabel")
    members = [outputs_of(task, [[40], [39], [-120]]), outputs_of(task, [[50], [45], [-130]])]
    both = combine(members, task, labels)
    wanted = [-np.logaddexp(-40, -50) + np.log(2), -np.logaddexp(-39, -45) + np.log(2)]
    np.testing.assert_allclose(both.logits[:2, 0], wanted, rtol=1e-12)
    assert (
        both.predictions.tolist() == [[1], [1], [0]] and metrics_of(task, labels, both)["mean_average_precision"] == 1
    )
    np.testing.assert_allclose(both.loss, np.logaddexp(0, both.logits[:, 0] * [-1, 1, 1]), rtol=1e-6)


def test_the_loss_of_an_ensemble_is_that_of_its_prediction():
    one, other = np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([[0.5, 0.5], [0.1, 0.9]])
    classes = split_of(np.array([0, 1]), "multiclass")
    task = registry.tasks.build("multiclass", num_classes=2)
    members = [Outputs(p, -np.log(p[[0, 1], [0, 1]])) for p in (one, other)]
    np.testing.assert_allclose(combine(members, task, classes).loss, -np.log([0.7, 0.7]))
    numbers = split_of(np.array([0.0, 1.0], np.float32), "continuous")
    members = [Outputs(np.array([1.0, 1.0], np.float32), np.array([1.0, 0.0], np.float32))] * 1
    members.append(Outputs(np.array([-1.0, 2.0], np.float32), np.array([1.0, 1.0], np.float32)))
    mean = combine(members, registry.tasks.build("regression"), numbers)
    np.testing.assert_allclose(mean.loss, [0, 0.25], atol=1e-6)


@pytest.mark.parametrize("aim", [("precision", 0.9), ("recall", 0.99), "f1"])
@pytest.mark.parametrize("scores", [[0.99999994, 0.9999999], [3e-45, 1e-45], [0.5, 0.49999997], [1e-30, 9.9999994e-31]])
def test_a_threshold_between_neighboring_scores_separates_them(aim, scores):
    scores, targets = np.array(scores, np.float32)[:, None], np.array([[1], [0]], np.float32)
    spec = f"multilabel(threshold={aim!r})"
    chosen = registry.tasks.build(spec, num_classes=1).fit_thresholds(targets, scores)
    stored = tuple(json.loads(json.dumps(chosen)))
    task = registry.tasks.build(spec, num_classes=1, thresholds=stored)
    assert task.predict_labels(scores).ravel().tolist() == [True, False]
    pairs = np.concatenate([1 - scores, scores], axis=1)
    binary = registry.tasks.build(f"binary(threshold={aim!r})", num_classes=2, thresholds=stored)
    assert binary.predict_labels(pairs).tolist() == [1, 0]
    assert binary.score(targets[:, 0].astype(int), pairs) == {"accuracy": 1.0, "macro_recall": 1.0}


def test_a_threshold_between_neighbors_in_float64_is_the_upper_one():
    upper = np.nextafter(0.3, 1)
    assert metrics.best_threshold(np.array([1, 0]), np.array([upper, 0.3]), what="f1") == upper
    assert metrics.best_threshold(np.array([1, 0]), np.array([0.3, np.nextafter(0.3, 0)]), what="f1") == 0.3


@pytest.mark.parametrize("spec", ["binary", "multilabel"])
def test_the_accuracy_of_the_loss_decides_as_the_labels_do(spec):
    logits = np.linspace(0.8472977, 0.8472980, 41, dtype=np.float32)[:, None]  # around the log odds of 0.7
    task = registry.tasks.build(f"{spec}(threshold=0.7)", num_classes=2 if spec == "binary" else 1)
    targets = jnp.ones(41, jnp.int32) if spec == "binary" else jnp.ones((41, 1))
    batch = {"inputs": jnp.zeros((41, 1)), "targets": targets, "mask": jnp.ones(41)}
    values, _ = task.loss(fixed(logits), {}, {}, batch, train=False, key=None)
    labels = task.predict_labels(outputs_of(task, logits).predictions)
    np.testing.assert_array_equal(np.asarray(values["accuracy"]), labels.reshape(41).astype(np.float32))
    assert 0 < labels.mean() < 1


@pytest.mark.parametrize("seed", range(3))
def test_ties_among_the_best_five_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    logits, targets = rng.integers(0, 3, (60, 9)).astype(np.float32), rng.integers(0, 9, 60)
    task = registry.tasks.build("multiclass", num_classes=9)
    batch = {"inputs": jnp.zeros((60, 1)), "targets": jnp.asarray(targets), "mask": jnp.ones(60)}
    values, _ = task.loss(fixed(logits), {}, {}, batch, train=False, key=None)
    wanted = top_k_accuracy_score(targets, logits, k=5, labels=np.arange(9))
    assert float(values["top_5_accuracy"].mean()) == pytest.approx(wanted)


def test_equal_logits_are_no_hit_for_the_first_classes():
    task = registry.tasks.build("multiclass", num_classes=10)
    batch = {"inputs": jnp.zeros((10, 1)), "targets": jnp.arange(10), "mask": jnp.ones(10)}
    values, _ = task.loss(fixed(np.zeros((10, 10), np.float32)), {}, {}, batch, train=False, key=None)
    assert values["top_5_accuracy"].tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize("counts", [(1, 5), (5, 1), (1, 1), (0, 5)])
def test_the_frechet_distance_of_one_image_is_refused(counts):
    one, other = (np.random.default_rng(0).normal(size=(count, 3)) for count in counts)
    with pytest.raises(ValueError, match=f"needs two images or more .* there are {counts[0]} and {counts[1]}"):
        frechet_distance(one, other)


def test_the_frechet_distance_of_a_test_split_of_one_is_refused_before_the_classifier_is_loaded(tmp_path):
    real = split_of(np.zeros(1, np.int32), "multiclass")
    with pytest.raises(ValueError, match="needs two images or more"):
        generative_metrics(np.zeros((1, 4, 4, 1)), real, real, tmp_path / "nothing")
    assert frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]])) == 9


def test_confidence_on_the_edge_of_a_bin_belongs_to_the_lower_bin():
    confidence = np.array([0.2, 0.19, 1.0], np.float32)  # 0.2 is 3 / 15
    assert metrics.calibration_error(np.array([0, 1, 1]), confidence) == pytest.approx(abs(1 - 0.39) / 3, abs=1e-7)


def test_every_report_has_its_predictions(lacking):
    report, workdir = lacking
    with (workdir / "report" / "predictions.csv").open() as file:
        head, *rows = csv.reader(file)
    assert head == ["file", "truth", "prediction", "loss", "probability_cat", "probability_dog", "probability_eel"]
    assert [row[:2] for row in rows[:3]] == [["0", "cat"], ["1", "dog"], ["2", "cat"]] and len(rows) == 20
    assert np.mean([row[1] == row[2] for row in rows]) == pytest.approx(report["accuracy"])
    assert np.mean([float(row[3]) for row in rows]) == pytest.approx(report["loss"], rel=1e-5)
    probabilities = np.array([row[4:] for row in rows], np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    of_truth = probabilities[np.arange(20), np.arange(20) % 2]
    np.testing.assert_allclose(-np.log(of_truth), [float(row[3]) for row in rows], rtol=1e-4, atol=1e-6)
