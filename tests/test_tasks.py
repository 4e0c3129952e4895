"""Losses by hand and against optax, and the effects of smoothing and thresholds."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import registry
from jaxvision.interfaces import Model

LOGITS = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 3.0]], np.float32)


def fixed(outputs):
    """A model that answers the same whatever it sees."""
    return Model(lambda key, inputs: ({}, {}), lambda params, state, inputs, *, train, key: (jnp.array(outputs), state))


def loss(spec, outputs, targets, *, train=False, num_classes=2):
    task = registry.tasks.build(spec, num_classes=num_classes)
    batch = {"inputs": jnp.zeros((len(targets), 1)), "targets": jnp.array(targets), "mask": jnp.ones(len(targets))}
    return task.loss(fixed(outputs), {}, {}, batch, train=train, key=None)[0]


def test_softmax_cross_entropy_by_hand():
    log_probabilities = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    values = loss("multiclass", LOGITS, [0, 1], num_classes=3)
    np.testing.assert_allclose(values["loss"], [-log_probabilities[0, 0], -log_probabilities[1, 1]], rtol=1e-6)
    np.testing.assert_array_equal(values["accuracy"], [1, 0])


def test_top_5_accuracy_from_six_classes_on_is_judged_by_logits():
    logits = np.array([[0.0, -120, -121, -122, -123, -124, -125]] * 3, np.float32)  # whose probabilities are 1, 0, 0 …
    values = loss("multiclass", logits, [1, 4, 5], num_classes=7)
    np.testing.assert_array_equal(values["top_5_accuracy"], [1, 1, 0])
    assert "top_5_accuracy" not in loss("multiclass", logits[:, :5], [1, 4, 2], num_classes=5)


def test_confident_answers_are_still_ranked():
    task = registry.tasks.build("binary", num_classes=2)
    logits = np.array([[18.0], [20], [25], [30], [35], [40]], np.float32)
    predictions = np.asarray(task.predict(fixed(logits), {}, {}, {"inputs": jnp.zeros((6, 1))}))
    assert task.report(np.array([0, 0, 0, 1, 1, 1]), predictions, ("no", "yes"))["auroc"] == 1


def test_label_smoothing_acts_in_training_alone():
    log_probabilities = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    smoothed = loss("multiclass(loss=cross_entropy(label_smoothing=0.3))", LOGITS, [0, 2], train=True, num_classes=3)[
        "loss"
    ]
    expected = [-(0.7 * row[t] + 0.3 * row.mean()) for row, t in zip(log_probabilities, [0, 2], strict=True)]
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6)
    plain = loss("multiclass", LOGITS, [0, 2], num_classes=3)["loss"]
    np.testing.assert_array_equal(
        loss("multiclass(loss=cross_entropy(label_smoothing=0.3))", LOGITS, [0, 2], num_classes=3)["loss"], plain
    )


def test_sigmoid_cross_entropy_by_hand():
    outputs = np.array([[1.0], [-2.0], [0.5]], np.float32)
    probability = 1 / (1 + np.exp(-outputs[:, 0]))
    values = loss("binary", outputs, [1, 0, 0])
    np.testing.assert_allclose(
        values["loss"], [-np.log(probability[0]), -np.log(1 - probability[1]), -np.log(1 - probability[2])], rtol=1e-6
    )
    np.testing.assert_array_equal(values["accuracy"], [1, 1, 0])
    smoothed = loss("binary(loss=cross_entropy(label_smoothing=0.2))", outputs, [1, 0, 0], train=True)["loss"]
    np.testing.assert_allclose(
        smoothed[0], -(0.9 * np.log(probability[0]) + 0.1 * np.log(1 - probability[0])), rtol=1e-6
    )


def test_threshold_moves_the_decision():
    outputs = np.array([[1.0], [-2.0], [0.5]], np.float32)  # probabilities 0.73, 0.12, 0.62
    np.testing.assert_array_equal(loss("binary(threshold=0.7)", outputs, [1, 1, 1])["accuracy"], [1, 0, 0])
    task = registry.tasks.build("binary(threshold=0.7)", num_classes=2)
    np.testing.assert_array_equal(task.predict_labels(np.array([[0.3, 0.7], [0.31, 0.69]])), [1, 0])


@pytest.mark.parametrize(
    "spec",
    [
        "multiclass(loss=cross_entropy(label_smoothing=1.0))",
        "binary(threshold=0.0)",
        "binary(loss=cross_entropy(label_smoothing=-1.0))",
    ],
)
def test_impossible_arguments_are_refused(spec):
    with pytest.raises(ValueError, match="expected"):
        registry.tasks.build(spec, num_classes=2)


def test_binary_of_three_classes_is_refused():
    with pytest.raises(ValueError, match=r"needs two classes; this dataset has 3: use --task=multiclass"):
        registry.tasks.build("binary", num_classes=3)


def test_what_is_not_a_number_is_never_among_the_five_best():
    import jax.numpy as jnp

    from jaxvision import registry
    from jaxvision.models.linen import Model

    task = registry.tasks.build("multiclass", num_classes=10)
    model = Model(lambda key, x: ({}, {}), lambda params, state, x, *, train, key: (x, state))
    batch = {"inputs": jnp.full((2, 10), jnp.nan), "targets": jnp.array([0, 9]), "mask": jnp.ones(2)}
    values, _ = task.loss(model, {}, {}, batch, train=False, key=None)
    assert values["top_5_accuracy"].tolist() == [0.0, 0.0]
