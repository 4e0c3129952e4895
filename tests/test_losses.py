"""Losses for imbalanced classes, labels and numbers: by hand, and against optax and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_tasks import LOGITS, fixed

from jaxvision import registry
from jaxvision.interfaces import Split
from jaxvision.splits import target_stats
from jaxvision.tasks import metrics
from jaxvision.upgrades import upgrade_task_spec

CLASSES = np.array([0] * 6 + [1] * 3 + [2], np.int32)  # ten examples


def split_of(inputs, values):
    kind = (
        "multilabel" if values.ndim == 2 else "multiclass" if np.issubdtype(values.dtype, np.integer) else "continuous"
    )
    return Split.of(inputs, values, kind=kind)


def targets_of(values, num_classes=3):
    return target_stats(split_of(np.zeros((len(values), 1)), values), num_classes)


def build(spec, values, num_classes=3, **context):
    return registry.tasks.build(spec, num_classes=num_classes, targets=targets_of(values, num_classes), **context)


def loss(task, outputs, targets, *, train=True):
    batch = {"inputs": jnp.zeros((len(targets), 1)), "targets": jnp.array(targets), "mask": jnp.ones(len(targets))}
    return np.asarray(task.loss(fixed(np.float32(outputs)), {}, {}, batch, train=train, key=None)[0]["loss"])


PLAIN = -np.asarray(jax.nn.log_softmax(jnp.array(LOGITS)))  # [2, 3]


@pytest.mark.parametrize(
    ("spec", "weights"),
    [
        ("multiclass(loss=cross_entropy(class_weights='balanced'))", 1 / np.array([6, 3, 1])),
        ("multiclass(loss=cross_entropy(class_weights=(1.0, 2.0, 5.0)))", np.array([1, 2, 5])),
        ("multiclass(loss=cross_entropy(class_weights='effective', beta=0.9))", 0.1 / (1 - 0.9 ** np.array([6, 3, 1]))),
        ("multiclass(loss=cross_entropy(class_weights='effective', beta=0.0))", np.ones(3)),
    ],
)
def test_class_weights_have_the_mean_1_over_train(spec, weights):
    scaled = weights * 10 / (weights * [6, 3, 1]).sum()
    assert (scaled[CLASSES]).mean() == pytest.approx(1)
    task = build(spec, CLASSES)
    np.testing.assert_allclose(
        loss(task, LOGITS, [0, 2]), [scaled[0] * PLAIN[0, 0], scaled[2] * PLAIN[1, 2]], rtol=1e-5
    )
    np.testing.assert_allclose(loss(task, LOGITS, [0, 2], train=False), [PLAIN[0, 0], PLAIN[1, 2]], rtol=1e-6)


def test_focal_loss_is_that_of_the_paper_and_of_optax():
    task = build("multiclass(loss=focal(gamma=2.0))", CLASSES)
    wanted = [(1 - np.exp(-PLAIN[0, 0])) ** 2 * PLAIN[0, 0], (1 - np.exp(-PLAIN[1, 1])) ** 2 * PLAIN[1, 1]]
    np.testing.assert_allclose(loss(task, LOGITS, [0, 1]), wanted, rtol=1e-5)
    task = build("binary(loss=focal(gamma=2.0))", CLASSES[:9], 2)
    logits = np.array([[1.5], [-0.5], [0.2]], np.float32)
    wanted = optax.sigmoid_focal_loss(jnp.array(logits[:, 0]), jnp.array([1.0, 0, 1]), gamma=2.0)
    np.testing.assert_allclose(loss(task, logits, [1, 0, 1]), wanted, rtol=1e-5)


def test_logit_adjustment_adds_the_logarithm_of_each_share():
    task = build("multiclass(loss=cross_entropy(logit_adjustment=1.0))", CLASSES)
    adjusted = LOGITS + np.log([0.6, 0.3, 0.1])
    wanted = -np.asarray(jax.nn.log_softmax(jnp.array(adjusted)))[[0, 1], [1, 2]]
    np.testing.assert_allclose(loss(task, LOGITS, [1, 2]), wanted, rtol=1e-5)
    np.testing.assert_allclose(loss(task, LOGITS, [1, 2], train=False), PLAIN[[0, 1], [1, 2]], rtol=1e-6)


def test_binary_weights_are_those_of_its_classes():
    task = build("binary(loss=cross_entropy(class_weights='balanced'))", np.array([0] * 9 + [1], np.int32), 2)
    logits = np.array([[0.7], [0.7]], np.float32)
    one, other = loss(task, logits, [0, 1])
    assert one == pytest.approx(10 / 18 * np.log1p(np.exp(0.7)), rel=1e-5)
    assert other == pytest.approx(10 / 2 * np.log1p(np.exp(-0.7)), rel=1e-5)


@pytest.mark.parametrize(
    "spec",
    [
        "multiclass(loss=cross_entropy(class_weights=(1.0, 2.0)))",
        "multiclass(loss=cross_entropy(class_weights=(1.0, 0.0, 1.0)))",
        "multiclass(loss=focal(gamma=-1.0))",
    ],
)
def test_impossible_weights_are_refused(spec):
    with pytest.raises(ValueError, match="expected"):
        build(spec, CLASSES)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("multiclass(loss=cross_entropy(positive_weight=2.0))", "positive_weight=2.0 does not fit this task"),
        ("binary(loss=cross_entropy(logit_adjustment=1.0))", "logit_adjustment=1.0 does not fit this task"),
        ("multilabel(loss=focal(class_weights='balanced'))", "class_weights='balanced' does not fit this task"),
        ("binary(loss=focal(class_weights=(1.0, 2.0), positive_weight=2.0))", "exclude each other; give only one"),
    ],
)
def test_options_of_other_outputs_are_refused(spec, told):
    values = TAGS if spec.startswith("multilabel") else CLASSES[:9]
    with pytest.raises(ValueError, match=told):
        build(spec, values, 2)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("multiclass", "multiclass"),
        ("multiclass(focal=0.0)", "multiclass"),
        ("multiclass(focal=2.0)", "multiclass(loss='focal(gamma=2.0)')"),
        (
            "multiclass(label_smoothing=0.1, focal=1.5, best='loss')",
            "multiclass(best='loss', loss='focal(gamma=1.5, label_smoothing=0.1)')",
        ),
        ("binary(threshold=('recall', 0.9))", "binary(threshold=('recall', 0.9))"),
        (
            "binary(class_weights='effective', beta=0.99)",
            """binary(loss="cross_entropy(class_weights='effective', beta=0.99)")""",
        ),
        ("multilabel(positive_weight=3.0)", "multilabel(loss='cross_entropy(positive_weight=3.0)')"),
        ("regression(loss='huber')", "regression(loss='huber')"),
        ("my_task(focal=2.0)", "my_task(focal=2.0)"),
    ],
)
def test_specs_of_the_first_version_are_rewritten(old, new):
    assert upgrade_task_spec(old) == new == upgrade_task_spec(new)
    if not old.startswith("my_task"):
        registry.tasks.check(new)


def test_a_spec_inside_a_spec_is_checked_with_it():
    for told, spec in {
        "unknown loss 'focl'; did you mean 'focal'?.*list losses": "multiclass(loss='focl(gamma=2)')",
        "loss 'focal' has no argument 'gama'; did you mean 'gamma'": "multilabel(loss=focal(gama=2))",
        "'activation' is set by the run": "binary(loss=focal(activation='softmax'))",
        r"has no argument 'focal'; write multiclass\(loss='focal\(gamma=2.0\)'\)": "multiclass(focal=2.0)",
        r"; write binary\(loss=\"cross_entropy\(class_weights='balanced'\)\"\)": "binary(class_weights='balanced')",
    }.items():
        with pytest.raises(ValueError, match=told):
            registry.tasks.check(spec)
    with pytest.raises(ValueError, match="unknown optimizer 'adm'"):
        registry.optimizers.check("partition(generator='adm')")


def test_a_loss_for_other_outputs_is_refused():
    @registry.losses.register("softmax_alone", activation="softmax")
    def softmax_alone():
        """Nothing."""
        return lambda logits, targets: logits.sum(axis=-1)

    try:
        build("multiclass(loss=softmax_alone)", CLASSES)
        with pytest.raises(ValueError, match=r"'softmax_alone' is for softmax outputs.*cross_entropy or focal"):
            build("binary(loss=softmax_alone)", CLASSES[:9], 2)
    finally:
        del registry.losses._entries["softmax_alone"]


TAGS = np.array([[1, 0], [1, 1], [0, 0], [1, 0]], np.float32)


def test_tags_by_hand():
    outputs = np.array([[1.0, -2.0], [0.5, 0.0], [-1.0, 3.0], [2.0, 2.0]], np.float32)
    task = build("multilabel(threshold=0.5)", TAGS, 2)
    p = 1 / (1 + np.exp(-outputs))
    wanted = -(TAGS * np.log(p) + (1 - TAGS) * np.log(1 - p)).mean(axis=1)
    np.testing.assert_allclose(loss(task, outputs, TAGS), wanted, rtol=1e-5)
    weighted = build("multilabel(threshold=0.5, loss=cross_entropy(positive_weight='balanced'))", TAGS, 2)
    positive = np.array([1 / 3, 3 / 1])  # absent over present
    wanted = -(TAGS * positive * np.log(p) + (1 - TAGS) * np.log(1 - p)).mean(axis=1)
    np.testing.assert_allclose(loss(weighted, outputs, TAGS), wanted, rtol=1e-5)


def test_thresholds_are_chosen_by_what_is_wanted():
    targets = np.array([0, 0, 1, 0, 1, 1, 0, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])

    def judged(what, target=0.0):
        predicted = scores >= metrics.best_threshold(targets, scores, what=what, target=target)
        hits = (predicted & (targets == 1)).sum()
        return hits / predicted.sum(), hits / targets.sum()

    assert judged("recall", 0.99)[1] == 1 and judged("recall", 0.99)[0] == 4 / 6  # from 0.3 on
    assert judged("precision", 0.75) == (3 / 4, 3 / 4)  # from 0.5 on
    assert judged("precision", 0.99) == (1, 1 / 4)
    precision, recall = judged("f1")
    assert 2 * precision * recall / (precision + recall) == pytest.approx(0.8)
    split = np.array([0.1, 0.2, 0.8, 0.9])  # which are told apart wholly, whatever the share that is enough
    for what in ("precision", "recall", "f1"):
        assert 0.2 < metrics.best_threshold(np.array([0, 0, 1, 1]), split, what=what, target=0.5) < 0.8
    assert metrics.best_threshold(np.zeros(3), np.array([0.1, 0.5, 0.9]), what="f1") == 0.5
    assert metrics.best_threshold(targets, np.full(8, 0.3), what="f1") == pytest.approx(0.15)


def test_tags_are_given_by_their_own_thresholds():
    task = build("multilabel(threshold=('recall', 0.9))", TAGS, 2)
    predictions = np.array([[0.9, 0.1], [0.2, 0.3], [0.1, 0.05], [0.8, 0.2]])
    with pytest.raises(ValueError, match="thresholds are not fitted yet"):
        task.predict_labels(predictions)
    thresholds = task.fit_thresholds(TAGS, predictions)
    assert thresholds == pytest.approx((0.15, 0.25))
    known = build("multilabel(threshold=('recall', 0.9))", TAGS, 2, thresholds=thresholds)
    np.testing.assert_array_equal(known.predict_labels(predictions), TAGS.astype(bool))
    report = known.report(TAGS, predictions, ("warm", "wool"))
    assert report["per_class"]["wool"]["threshold"] == pytest.approx(0.25) and report["micro"]["f1"] == 1
    described = known.describe(predictions[1], known.predict_labels(predictions)[1], classes=("warm", "wool"), top=1)
    assert [each["label"] for each in described["labels"]] == ["wool", "warm"]


def test_figures_of_tags_are_those_of_scikit_learn():
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(0)
    targets = (rng.random((50, 3)) < [0.5, 0.2, 0]).astype(np.float32)
    scores = rng.random((50, 3))
    score = build("multilabel(threshold=0.5)", targets).score(targets, scores)
    own = [average_precision_score(targets[:, i], scores[:, i]) for i in range(2)]
    assert score["mean_average_precision"] == pytest.approx(np.mean(own))
    report = metrics.multilabel(targets, scores >= 0.5, scores, classes=("a", "b", "c"))
    assert report["per_class"]["b"]["auroc"] == pytest.approx(roc_auc_score(targets[:, 1], scores[:, 1]))
    assert report["per_class"]["c"] == {"num_examples": 0}
    recalls = [((scores[:, i] >= 0.5) & (targets[:, i] > 0)).sum() / targets[:, i].sum() for i in range(2)]
    assert report["macro"]["recall"] == pytest.approx(np.mean(recalls))  # over those that occur, as the precisions
    found, given = ((scores >= 0.5) & (targets > 0)).sum(), (scores >= 0.5).sum()
    assert report["micro"]["precision"] == pytest.approx(found / given)  # of c too


NUMBERS = np.array([10.0, 20, 30, 60], np.float32)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("regression", lambda e: e**2),
        ("regression(loss='absolute')", np.abs),
        (
            "regression(loss='huber', delta=0.5)",
            lambda e: np.where(np.abs(e) <= 0.5, e**2 / 2, 0.5 * (np.abs(e) - 0.25)),
        ),
    ],
)
def test_numbers_are_learned_in_deviations_of_train(spec, wanted):
    task = build(spec, NUMBERS)
    outputs = np.array([[0.0], [1.0], [-0.3], [2.0]], np.float32)
    error = outputs[:, 0] - (NUMBERS - NUMBERS.mean()) / NUMBERS.std()
    np.testing.assert_allclose(loss(task, outputs, NUMBERS), wanted(error), rtol=1e-5)
    predictions = np.asarray(task.predict(fixed(outputs), {}, {}, {"inputs": jnp.zeros((4, 1))}))
    np.testing.assert_allclose(predictions, outputs[:, 0] * NUMBERS.std() + NUMBERS.mean(), rtol=1e-6)
    assert task.baseline(NUMBERS)[1] == NUMBERS.mean()


def test_figures_of_numbers():
    from sklearn.metrics import r2_score

    predictions = np.array([12.0, 18, 33, 50])
    found = metrics.regression(NUMBERS, predictions)
    assert found["rmse"] == pytest.approx(np.sqrt((4 + 4 + 9 + 100) / 4)) and found["mae"] == pytest.approx(17 / 4)
    assert found["r2"] == pytest.approx(r2_score(NUMBERS, predictions)) and found["spearman"] == pytest.approx(1)
    assert found["pearson"] == pytest.approx(np.corrcoef(NUMBERS, predictions)[0, 1])
    assert set(metrics.regression(NUMBERS, np.full(4, 5.0))) == {"rmse", "mae", "r2"}


@pytest.mark.parametrize(
    ("task", "values", "told"),
    [
        (
            "multiclass",
            NUMBERS,
            "needs multiclass targets, but the dataset .* has continuous targets: use --task=regression",
        ),
        (
            "regression",
            TAGS,
            "needs continuous targets, but the dataset .* has multilabel targets: use --task=multilabel",
        ),
        (
            "multilabel",
            CLASSES,
            "needs multilabel targets, but the dataset .* has multiclass targets: use --task=binary or",
        ),
    ],
)
def test_a_task_for_other_targets_is_refused(task, values, told):
    import jaxvision as jv
    from jaxvision import run as runs
    from jaxvision.interfaces import Dataset, Preprocessing

    split = split_of(np.zeros((len(values), 8, 8, 1), np.uint8), values)
    data = Dataset(split, None, split, ("a", "b", "c"), Preprocessing((8, 8), 1, (0.0,), (1.0,)))
    with pytest.raises(ValueError, match=told):
        runs.build(jv.Config(task=task, dataset="some"), data)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_gradients_are_finite_where_all_is_decided(gamma):
    logits = jnp.array([[40.0, 0.0], [0.0, 40.0]])
    focal = registry.losses.build(f"focal(gamma={gamma})", activation="softmax", num_classes=2)
    gradient = jax.grad(lambda x: focal(x, jnp.eye(2)).sum())(logits)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() < 1e-2


def test_the_most_frequent_class_is_predicted_whatever_the_threshold():
    targets = np.array([0] * 7 + [1] * 3, np.int32)
    task = build("binary(threshold=0.2)", targets, 2)
    name, prediction = task.baseline(targets)
    assert name == "most frequent class"
    assert task.score(targets, np.broadcast_to(prediction, (10, 2))) == {"accuracy": 0.7, "macro_recall": 0.5}


def test_a_single_tag_is_judged():
    targets, probabilities = np.array([[1], [0], [1], [0.0]]), np.array([[0.9], [0.8], [0.7], [0.1]])
    values = metrics.multilabel(targets, probabilities >= 0.5, probabilities, classes=["red"])
    assert values["per_class"]["red"]["precision"] == values["micro"]["precision"] == pytest.approx(2 / 3)
    assert values["per_class"]["red"]["recall"] == values["macro"]["recall"] == 1
