"""Classifiers on features: equal to scikit-learn's, and to big_vision's formula solved directly."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from jaxvision import feature_classifiers as classifiers
from jaxvision import linear_head


def examples(num_classes, *, shots=8, width=20, seed=0, distance=1.0):
    """Return features [N, D], targets and further features, from overlapping normal distributions."""
    rng = np.random.default_rng(seed)
    means = distance * rng.normal(size=(num_classes, width))
    targets = np.repeat(np.arange(num_classes), shots)
    features = (means[targets] + rng.normal(size=(len(targets), width))).astype(np.float32)
    queries = means[rng.integers(num_classes, size=200)] + 2 * rng.normal(size=(200, width))
    return features, targets, queries.astype(np.float32)


SHAPES = pytest.mark.parametrize(("num_classes", "width"), [(2, 5), (3, 50), (7, 10), (7, 300)])


@SHAPES
def test_the_nearest_mean_is_that_of_scikit_learn(num_classes, width):
    features, targets, queries = examples(num_classes, width=width)
    scores = classifiers.nearest_mean(features, targets, num_classes).predict(queries)
    theirs = NearestCentroid().fit(features, targets)
    assert np.array_equal(scores.argmax(axis=1), theirs.predict(queries))
    distances = ((queries[:, None].astype(float) - theirs.centroids_) ** 2).sum(axis=-1)
    np.testing.assert_allclose(scores, -distances, rtol=1e-5)


@SHAPES
@pytest.mark.parametrize("k", [1, 3, 10])
def test_nearest_neighbors_are_those_of_scikit_learn(num_classes, width, k):
    features, targets, queries = examples(num_classes, width=width)
    fitted = classifiers.nearest_neighbors(features, targets, num_classes, neighbors=[k])
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(features.astype(float), targets)
    assert fitted.chosen == {"k": k}
    np.testing.assert_allclose(fitted.predict(queries), theirs.predict_proba(queries.astype(float)), atol=1e-12)


@SHAPES
@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_logistic_regression_is_that_of_scikit_learn(num_classes, width, strength):
    features, targets, queries = examples(num_classes, width=width)
    fitted = classifiers.logistic_regression(features, targets, num_classes, strengths=[strength])
    mean = features.mean(axis=0, dtype=float)
    scale = np.sqrt(((features - mean) ** 2).mean())
    theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit((features - mean) / scale, targets)
    expected = theirs.predict_log_proba((queries - mean) / scale)
    np.testing.assert_allclose(fitted.predict(queries), expected, rtol=1e-5, atol=1e-5)


@SHAPES
@pytest.mark.parametrize("strength", [2.0**-10, 1.0, 2.0**10, 2.0**19])
def test_ridge_solves_the_equations_of_big_vision(num_classes, width, strength):
    features, targets, queries = examples(num_classes, width=width)
    fitted = classifiers.ridge(features, targets, num_classes, strengths=[strength])
    mean, std = features.mean(axis=0, dtype=float), features.std(axis=0, dtype=float) + 1e-5
    inputs, others = (np.hstack([(x - mean) / std, np.full((len(x), 1), 100.0)]) for x in (features, queries))
    outputs = np.where(np.arange(num_classes) == targets[:, None], 1.0, -1.0)
    solution = np.linalg.solve(inputs.T @ inputs + strength * np.eye(width + 1), inputs.T @ outputs)
    np.testing.assert_allclose(fitted.predict(queries), others @ solution, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("width", [5, 60])
def test_the_ridge_leaves_out_one_example_at_a_time(width):
    """Both shapes of the equations: the choice equals that of one fit for each example, with the whitening of all."""
    features, targets, _ = examples(3, width=width, shots=6, distance=0.5)
    mean, std = features.mean(axis=0, dtype=float), features.std(axis=0, dtype=float) + 1e-5
    inputs = np.hstack([(features - mean) / std, np.full((len(features), 1), 100.0)])
    outputs = np.where(np.arange(3) == targets[:, None], 1.0, -1.0)
    errors = []
    for strength in classifiers.RIDGE_STRENGTHS:
        squares = []
        for left_out in range(len(features)):
            x, y = np.delete(inputs, left_out, 0), np.delete(outputs, left_out, 0)
            solution = np.linalg.solve(x.T @ x + strength * np.eye(width + 1), x.T @ y)
            squares.append((outputs[left_out] - inputs[left_out] @ solution) ** 2)
        errors.append(np.mean(squares))
    best = classifiers.RIDGE_STRENGTHS[int(np.argmin(errors))]
    assert classifiers.ridge(features, targets, 3).chosen == {"l2": best}


def test_logistic_regression_chooses_by_cross_validation_with_scikit_learn_alone():
    features, targets, _ = examples(4, width=30, shots=10, distance=0.4)
    mean = features.mean(axis=0, dtype=float)
    inputs = (features - mean) / np.sqrt(((features - mean) ** 2).mean())
    fold = np.tile(np.arange(10) % 5, 4)
    losses = []
    for strength in linear_head.STRENGTHS:
        model = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000)
        log_probabilities = np.zeros((40, 4))
        for number in range(5):
            model.fit(inputs[fold != number], targets[fold != number])
            log_probabilities[fold == number] = model.predict_log_proba(inputs[fold == number])
        losses.append(-log_probabilities[np.arange(40), targets].mean())
    best = linear_head.STRENGTHS[int(np.argmin(losses))]
    assert classifiers.logistic_regression(features, targets, 4).chosen == {"C": best}


def test_neighbors_are_chosen_by_leaving_out_one_example():
    features, targets, _ = examples(3, shots=30, distance=0.3)
    counts = {}
    for k in classifiers.NEIGHBORS:
        model = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
        rows = [np.arange(len(targets)) != left_out for left_out in range(len(targets))]
        hits = [model.fit(features[row], targets[row]).predict(features[~row]) == targets[~row] for row in rows]
        counts[k] = int(np.sum(hits))
    best = max(counts, key=lambda k: (counts[k], -k))
    assert best > 1
    assert classifiers.nearest_neighbors(features, targets, 3).chosen == {"k": best}


@pytest.mark.parametrize("name", [name for name in classifiers.CLASSIFIERS if name != "nearest_mean"])
def test_validation_examples_choose_in_place_of_the_training_examples(name):
    """Examples without information want the strongest regularization, or the most neighbors; these do not."""
    features, targets, _ = examples(3, shots=20, distance=0.0)
    fit = classifiers.CLASSIFIERS[name]
    alone = fit(features, targets, 3).chosen
    chosen = fit(features, targets, 3, validation=(features, targets)).chosen
    weakest = {"knn": {"k": 1}, "logistic": {"C": max(linear_head.STRENGTHS)}, "ridge": {"l2": 2.0**-10}}[name]
    assert chosen == weakest != alone


@pytest.mark.parametrize("name", classifiers.CLASSIFIERS)
def test_classifiers_learn_what_there_is_and_nothing_from_noise(name):
    """The negative control: with shuffled targets, accuracy is that of chance, 1/4, within four standard errors."""
    features, targets, _ = examples(4, shots=25, distance=1.0)
    fit = classifiers.CLASSIFIERS[name]
    train, test = np.arange(100) % 2 == 0, np.arange(100) % 2 == 1

    def accuracy(targets):
        scores = fit(features[train], targets[train], 4).predict(features[test])
        assert scores.shape == (50, 4)
        return (scores.argmax(axis=1) == targets[test]).mean()

    assert accuracy(targets) > 0.8
    shuffled = [accuracy(np.random.default_rng(seed).permutation(targets)) for seed in range(4)]
    assert abs(np.mean(shuffled) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 200)


@pytest.mark.parametrize("name", classifiers.CLASSIFIERS)
@pytest.mark.parametrize("targets", [[0, 2], [0, 2, 2], [2, 2, 2, 0, 0, 0]])
def test_few_examples_and_absent_classes(name, targets):
    features = np.random.default_rng(0).normal(size=(len(targets), 6)).astype(np.float32)
    fitted = classifiers.CLASSIFIERS[name](features, np.array(targets), 4)
    scores = fitted.predict(features)
    assert not np.isnan(scores).any()
    assert not {1, 3} & {*scores.argmax(axis=1)}
    if len(targets) == 2:
        assert fitted.chosen in ({}, {"k": 1}, {"C": 1e-3}, {"l2": 2.0**10})
