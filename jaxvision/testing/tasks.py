"""Does a task, or a loss, keep its contract?"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import registry, specs
from jaxvision.engine.inference import metrics_of
from jaxvision.interfaces import Model, Outputs, Split, Task
from jaxvision.splits import target_stats
from jaxvision.testing.trees import finite


def check_task(spec: str, *, num_classes: int = 2) -> None:
    """Check that values are one for each example, that scores and decisions agree with them, and the baseline."""
    metadata = registry.tasks.entry(specs.parse(spec).name).metadata
    kind = metadata.get("targets", "multiclass")
    split = Split.of(np.zeros((6, 4, 4, 1), np.float32), TARGETS[kind], kind=kind)
    context = {"num_classes": num_classes, "targets": target_stats(split, num_classes)}
    task: Task = registry.tasks.build(spec, **context)
    named = metadata.get("model", "mlp(hidden=(8,))")
    model: Model = registry.models.build(named, output_size=task.output_size, input_size=(4, 4, 1))
    inputs = jax.random.uniform(jax.random.key(1), (6, 4, 4, 1))
    params, state = model.init(jax.random.key(0), inputs)
    batch = {"inputs": inputs, "targets": jnp.asarray(split.targets), "mask": jnp.ones(6)}
    values, _ = task.loss(model, params, state, batch, train=False, key=None)
    assert all(value.shape == (6,) for value in values.values()), "values are not one for each example"
    assert "loss" in values, "there is no loss among the values"
    predictions = np.asarray(task.predict(model, params, state, batch))
    outputs = Outputs(predictions, np.asarray(values["loss"]))
    if task.logits is not None:
        outputs = outputs._replace(
            logits=_check_logits(np.asarray(task.logits(model, params, state, batch)), predictions)
        )
    if task.fit_thresholds is not None:
        task = registry.tasks.build(spec, **context, thresholds=task.fit_thresholds(split.targets, predictions))
        assert task.fit_thresholds is None, "the task fits thresholds again, although it has them"
    score = metrics_of(task, split, outputs)
    assert all(type(value) is float for value in score.values()), "a metric of score is not a float"
    if task.monitor is not None:
        named = task.monitor.name
        assert named in {**values, **score}, f"monitor is {named!r}, of {', '.join({**values, **score})}"
    classes = tuple(f"class {index}" for index in range(num_classes))
    report = {name: value for name, value in metrics_of(task, split, outputs, classes).items() if name not in score}
    assert isinstance(report, dict), "the report is not a dict"
    known = {**values, **score, **report}
    assert task.headline is None or task.headline in known, f"headline is {task.headline!r}, of {', '.join(known)}"
    predicted_labels = task.predict_labels(predictions)
    assert len(predicted_labels) == 6, "decisions are not one for each prediction"
    if predictions.ndim <= 2:  # images are not described
        described = task.describe(predictions[0], predicted_labels[0], classes=classes, top=2)
        assert isinstance(described, dict), "describe did not return a dict"
    if task.baseline is not None:
        _, prediction = task.baseline(split.targets)
        assert prediction.shape == predictions.shape[1:], "the baseline predicts another shape than the task"
        assert set(task.score(split.targets, np.broadcast_to(prediction, predictions.shape))) <= {*score, *values}
    if metadata.get("targets") == "multiclass":
        _check_classes(task, model, params, state, batch, predictions, num_classes)


def _check_logits(logits: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Check that the logits are the log odds of the predictions: of each, or of the last of two classes."""
    ranked = predictions if predictions.shape == logits.shape else predictions[:, 1]
    assert np.allclose(1 / (1 + np.exp(-logits)), ranked, atol=1e-5), "the logits are not log odds of the predictions"
    return logits


TARGETS = {  # of six examples
    "multiclass": np.array([0, 1, 1, 0, 1, 1], np.int32),
    "multilabel": np.array([[0, 1], [1, 1], [1, 0], [0, 0], [1, 1], [0, 1]], np.float32),
    "continuous": np.array([0.5, -1.0, 2.0, 3.5, 0.0, 1.0], np.float32),
}


def _check_classes(task: Task, model: Model, params, state, batch, predictions, num_classes: int) -> None:
    """Check that hard and soft targets agree, that probabilities are such, that decisions give the accuracy."""
    values, _ = task.loss(model, params, state, batch, train=False, key=None)
    soft = {**batch, "targets": jax.nn.one_hot(batch["targets"], num_classes)}
    for name, value in task.loss(model, params, state, soft, train=False, key=None)[0].items():
        assert jnp.allclose(value, values[name], atol=1e-5), f"{name} of soft targets differs from that of hard ones"
    assert np.allclose(predictions.sum(axis=1), 1, atol=1e-5), "probabilities do not sum to 1"
    correct = task.predict_labels(predictions) == np.asarray(batch["targets"])
    assert np.array_equal(correct.astype(np.float32), np.asarray(values["accuracy"])), (
        "accuracy is not that of the decisions"
    )


def check_loss(spec: str, *, num_classes: int = 3) -> None:
    """Check a loss for each activation that it supports, with and without statistics of the training targets.

    It returns a finite number for each example, which depends only on that example and falls as an output moves towards
    its target. Its gradients are finite, also for large logits.
    """
    only = registry.losses.entry(specs.parse(spec).name).metadata.get("activation")
    hard = TARGETS["multiclass"] % num_classes
    wanted = {"softmax": np.eye(num_classes, dtype=np.float32)[hard], "sigmoid": TARGETS["multilabel"]}
    targets = {"softmax": hard, "sigmoid": TARGETS["multilabel"]}
    for activation in [only] if only else wanted:
        soft = jnp.asarray(wanted[activation])
        split = Split.of(
            np.zeros((6, 4, 4, 1), np.float32),
            targets[activation],
            kind="multiclass" if activation == "softmax" else "multilabel",
        )
        for known in (None, target_stats(split, soft.shape[1])):
            context = {"activation": activation, "num_classes": soft.shape[1], "targets": known}
            _check_loss(registry.losses.build(spec, **context), soft)


def _check_loss(loss: Callable[[jax.Array, jax.Array], jax.Array], soft: jax.Array) -> None:
    logits = jax.random.normal(jax.random.key(0), soft.shape)
    found = loss(logits, soft)
    assert found.shape == (len(soft),), (
        f"losses have shape {found.shape}, expected one for each example, {(len(soft),)}"
    )
    assert jnp.allclose(loss(logits[:2], soft[:2]), found[:2], atol=1e-5), "a loss depends on the other examples"
    gradient = jax.grad(lambda logits: loss(logits, soft).sum())
    for outputs in (logits, 40 * (2 * soft - 1), 40 * (1 - 2 * soft), 0.9 * logits):
        assert finite((loss(outputs, soft), gradient(outputs))), "the loss or its gradient is not finite"
    right, wrong = (loss(sign * 3 * (2 * soft - 1), soft) for sign in (1, -1))
    assert bool((right < wrong).all()), "the loss of right answers is not below that of wrong ones"
