"""Metrics compared with scikit-learn, PyTorch and torchmetrics: rows of (quantity, reference, largest difference).

`python scripts/numerics_metrics.py` prints them. Quantities whose reference is not installed are left out.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxvision import registry
from jaxvision.engine.inference import metrics_of
from jaxvision.generative_metrics import frechet_distance
from jaxvision.interfaces import Model, Outputs, Split
from jaxvision.tasks import metrics

NUM_EXAMPLES, NUM_CLASSES, NUM_SEEDS = 500, 8, 5
CLASSES = tuple(f"class {index}" for index in range(NUM_CLASSES))


class Row(NamedTuple):
    """A quantity, the library that it is compared with, and the largest absolute difference."""

    quantity: str
    reference: str
    difference: float


def _draw(seed: int, *, spread: float = 3.0, absent: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return classes [N], labels [N, C] and logits [N, C]; with `absent`, the last class has no example."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, NUM_CLASSES - absent, NUM_EXAMPLES)
    labels = (rng.random((NUM_EXAMPLES, NUM_CLASSES)) < 0.3).astype(np.float32)
    if absent:
        labels[:, -1] = 0
    logits = rng.normal(0, spread, (NUM_EXAMPLES, NUM_CLASSES)) + 2 * spread * (np.eye(NUM_CLASSES)[classes] - 0.3)
    return classes, labels, logits.astype(np.float32)


def _outputs(spec: str, logits: np.ndarray, *, num_classes: int) -> tuple[Any, Outputs]:
    """Return a task and what its evaluation keeps of logits."""
    task = registry.tasks.build(spec, num_classes=num_classes)
    model = Model(lambda key, inputs: ({}, {}), lambda params, state, x, *, train, key: (jnp.asarray(logits), state))
    batch = {"inputs": jnp.zeros((len(logits), 1))}
    ranks = None if task.logits is None else np.asarray(task.logits(model, {}, {}, batch))
    return task, Outputs(np.asarray(task.predict(model, {}, {}, batch)), np.zeros(len(logits)), ranks)


def _measure(spec: str, kind: Any, targets: np.ndarray, logits: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    task, outputs = _outputs(spec, logits, num_classes=len(classes))
    return metrics_of(task, Split.of(np.zeros((len(targets), 1)), targets, kind=kind), outputs, classes)


def _largest(compare: Callable[[int], Iterator[tuple[Any, Any]]]) -> float:
    """Return the largest difference of the pairs of ours and theirs over the seeds."""
    pairs = (pair for seed in range(NUM_SEEDS) for pair in compare(seed))
    return max(float(np.max(np.abs(np.asarray(ours, np.float64) - np.asarray(theirs)))) for ours, theirs in pairs)


def scikit_learn() -> list[Row]:
    """Compare with scikit-learn."""
    from sklearn import metrics as theirs

    def macro(seed: int):
        targets, _, logits = _draw(seed, absent=seed % 2 == 1)
        found = _measure("multiclass", "multiclass", targets, logits, CLASSES)
        predicted, occurring = logits.argmax(axis=1), np.unique(targets)
        for average in ("macro", "weighted"):
            options: dict[str, Any] = {"labels": occurring, "average": average, "zero_division": 0}
            wanted = theirs.precision_recall_fscore_support(targets, predicted, **options)
            yield list(found[average].values()), wanted[:3]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
            yield found["macro_recall"], theirs.balanced_accuracy_score(targets, predicted)
        yield found["accuracy"], theirs.accuracy_score(targets, predicted)

    def top_5(seed: int):
        targets, _, logits = _draw(seed)
        for scores in (logits, np.round(logits)):
            task, _ = _outputs("multiclass", scores, num_classes=NUM_CLASSES)
            model = Model(lambda k, x: ({}, {}), lambda p, s, x, *, train, key: (jnp.asarray(x), s))
            batch = {"inputs": scores, "targets": jnp.asarray(targets), "mask": jnp.ones(len(targets))}
            values, _ = task.loss(model, {}, {}, batch, train=False, key=None)
            yield values["top_5_accuracy"].mean(), theirs.top_k_accuracy_score(targets, scores, k=5)

    def labels(seed: int):
        _, targets, logits = _draw(seed, spread=30)
        found = _measure("multilabel(threshold=0.5)", "multilabel", targets, logits, CLASSES)
        yield found["mean_average_precision"], theirs.average_precision_score(targets, logits)
        ours = [each["auroc"] for each in found["per_class"].values()]
        yield ours, [theirs.roc_auc_score(*column) for column in zip(targets.T, logits.T, strict=True)]
        yield found["micro"]["f1"], theirs.f1_score(targets, logits >= 0, average="micro")
        yield found["macro"]["f1"], theirs.f1_score(targets, logits >= 0, average="macro")

    def binary(seed: int):
        targets, _, logits = _draw(seed, spread=100)
        is_second, scores = (targets >= 4).astype(int), logits[:, 4:5]
        found = _measure("binary", "multiclass", is_second, scores, ("no", "yes"))
        yield found["auroc"], theirs.roc_auc_score(is_second, scores[:, 0])
        yield found["average_precision"], theirs.average_precision_score(is_second, scores[:, 0])

    def numbers(seed: int):
        rng = np.random.default_rng(seed)
        targets = rng.normal(1e3, 5, NUM_EXAMPLES).astype(np.float32)
        predictions = (targets + rng.normal(0, 2, NUM_EXAMPLES)).astype(np.float32)
        found = metrics.regression(targets, predictions)
        pair = targets.astype(np.float64), predictions.astype(np.float64)
        yield found["rmse"], theirs.root_mean_squared_error(*pair)
        yield found["mae"], theirs.mean_absolute_error(*pair)
        yield found["r2"], theirs.r2_score(*pair)

    return [
        Row("accuracy; macro and weighted precision, recall, F1 with an absent class", "scikit-learn", _largest(macro)),
        Row("top-5 accuracy, with ties", "scikit-learn", _largest(top_5)),
        Row("multilabel AUROC, average precision, F1, logits up to 100", "scikit-learn", _largest(labels)),
        Row("binary AUROC and average precision, logits up to 400", "scikit-learn", _largest(binary)),
        Row("RMSE, MAE, R²", "scikit-learn", _largest(numbers)),
    ]


def pytorch() -> list[Row]:
    """Compare the losses of evaluation with PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]

    def loss_of(spec: str, kind: str, targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
        task, _ = _outputs(spec, logits, num_classes=2 if spec == "binary" else NUM_CLASSES)
        model = Model(lambda k, x: ({}, {}), lambda p, s, x, *, train, key: (jnp.asarray(x), s))
        batch = {"inputs": jnp.asarray(logits), "targets": jnp.asarray(targets), "mask": jnp.ones(len(targets))}
        return np.asarray(task.loss(model, {}, {}, batch, train=False, key=None)[0]["loss"])

    def losses(seed: int):
        targets, labels, logits = _draw(seed)
        rows, truth = torch.tensor(logits), torch.tensor(targets)
        yield (
            loss_of("multiclass", "multiclass", targets, logits),
            functional.cross_entropy(rows, truth, reduction="none"),
        )
        bce = functional.binary_cross_entropy_with_logits(rows, torch.tensor(labels), reduction="none")
        yield loss_of("multilabel(threshold=0.5)", "multilabel", labels, logits), bce.mean(dim=1)
        yield loss_of("binary", "multiclass", labels[:, 0].astype(int), logits[:, :1]), bce[:, 0]

    return [Row("losses of evaluation: multiclass, multilabel, binary", "PyTorch", _largest(losses))]


def torch_metrics() -> list[Row]:
    """Compare with torchmetrics."""
    import parity

    parity.import_torchvision()
    import torch  # pyright: ignore[reportMissingImports]
    import torchmetrics.functional.classification as theirs  # pyright: ignore[reportMissingImports]
    from torchmetrics.image.fid import _compute_fid  # pyright: ignore[reportMissingImports]

    def classes(seed: int):
        targets, _, logits = _draw(seed)
        found = _measure("multiclass", "multiclass", targets, logits, CLASSES)
        rows, truth = torch.tensor(logits), torch.tensor(targets)
        options: dict[str, Any] = {"num_classes": NUM_CLASSES, "average": "macro"}
        yield found["macro"]["recall"], theirs.multiclass_recall(rows, truth, **options)
        yield found["macro"]["precision"], theirs.multiclass_precision(rows, truth, **options)
        yield found["macro"]["f1"], theirs.multiclass_f1_score(rows, truth, **options)
        matrix = theirs.multiclass_confusion_matrix(rows, truth, num_classes=NUM_CLASSES)
        yield found["confusion_matrix"], matrix

    def calibration(seed: int):
        targets, _, logits = _draw(seed)
        found = _measure("multiclass", "multiclass", targets, logits, CLASSES)["expected_calibration_error"]
        rows, truth = torch.tensor(logits).softmax(dim=1), torch.tensor(targets)
        yield found, theirs.multiclass_calibration_error(rows, truth, num_classes=NUM_CLASSES, n_bins=15)

    def distance(seed: int):
        rng = np.random.default_rng(seed)
        one, other = rng.normal(0, 1, (200, 16)), rng.normal(0.5, 2, (300, 16))
        pairs = [(torch.tensor(each.mean(axis=0)), torch.tensor(np.cov(each, rowvar=False))) for each in (one, other)]
        yield frechet_distance(one, other), _compute_fid(*pairs[0], *pairs[1])

    return [
        Row("macro precision, recall, F1, confusion matrix", "torchmetrics", _largest(classes)),
        Row("expected calibration error, 15 bins", "torchmetrics", _largest(calibration)),
        Row("squared Fréchet distance", "torchmetrics", _largest(distance)),
    ]


LIBRARIES = {"sklearn": scikit_learn, "torch": pytorch, "torchmetrics": torch_metrics}


def rows() -> list[Row]:
    """Return the rows of all libraries that are installed."""
    return [row for name, compare in LIBRARIES.items() if importlib.util.find_spec(name) for row in compare()]


if __name__ == "__main__":
    for row in rows():
        print(f"{row.quantity:75} {row.reference:14} {row.difference:.2g}")
