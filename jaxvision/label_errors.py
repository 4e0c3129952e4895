"""Which labels are probably wrong, by confident learning on predictions of models that did not train on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxvision.calibration import checked


class LabelError(NamedTuple):
    """An example whose label is suspected.

    `given` and `suggested`, the most probable, are class indices; `self_confidence` is the probability of the first.
    """

    index: int
    given: int
    suggested: int
    self_confidence: float


def label_errors(probabilities: np.ndarray, targets: np.ndarray) -> list[LabelError]:
    """Return the examples whose labels are probably wrong, the most suspicious first.

    The method is confident learning (C. Northcutt, L. Jiang and I. Chuang, Confident Learning: Estimating Uncertainty
    in Dataset Labels, JAIR 70, 2021, sections 3.1 and 3.2): an example counts as one of class j if its probability of j
    is at least the mean of those that have the label j. From these counts follow how many labels i should be j. For
    each pair, that many examples are flagged, rounded up: those whose probability of j exceeds that of i the most
    (pruning by noise rate). An example whose label is also its most probable class is never flagged. They are ordered
    by self-confidence, the probability of the given label.

    Args:
        probabilities: Of the classes, [N, C]. They must be out of sample: of models that were not trained on the
            example, as in cross-validation. A model that has memorized a wrong label does not doubt it.
        targets: The given labels, class indices [N].

    Raises:
        ValueError: The shapes do not fit, there are no examples, or the rows of the probabilities do not sum to 1.

    >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
    >>> label_errors(probabilities, np.array([0, 0, 1, 1, 1]))
    [LabelError(index=4, given=1, suggested=0, self_confidence=0.05)]
    """
    probabilities, targets = checked(probabilities, targets)
    counts = noise_counts(probabilities, targets)
    flagged = np.zeros(len(targets), bool)
    for given in range(probabilities.shape[1]):
        members = np.flatnonzero(targets == given)
        for other in np.flatnonzero(counts[given]):
            if other != given:
                margins = probabilities[members, other] - probabilities[members, given]
                order = np.argsort(-margins, kind="stable")
                flagged[members[order[: int(np.ceil(counts[given, other] - 1e-9))]]] = True
    rows = np.arange(len(targets))
    confidences = probabilities[rows, targets]
    flagged &= confidences < probabilities.max(axis=1)
    suspects = np.flatnonzero(flagged)
    suspects = suspects[np.argsort(confidences[suspects], kind="stable")]
    suggested = probabilities.argmax(axis=1)
    return [LabelError(int(i), int(targets[i]), int(suggested[i]), float(confidences[i])) for i in suspects]


def noise_counts(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Estimate how many examples with the given class i are of class j, float64 [C, C].

    This is the confident joint (section 3.1, equations 1 to 3), without examples that are confidently of no class,
    with at least one on the diagonal, scaled so that the rows sum to the numbers of examples of the classes.
    """
    num_classes = probabilities.shape[1]
    counts = np.bincount(targets, minlength=num_classes)
    sums = np.bincount(targets, weights=probabilities[np.arange(len(targets)), targets], minlength=num_classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(
        probabilities >= thresholds - 1e-6, probabilities, -1.0
    )  # a mean in floats may be off a little
    is_confident = confident.max(axis=1) >= 0
    joint = np.zeros((num_classes, num_classes))
    np.add.at(joint, (targets[is_confident], confident.argmax(axis=1)[is_confident]), 1)
    joint[np.diag_indices(num_classes)] = np.maximum(joint.diagonal(), 1)
    return joint / joint.sum(axis=1, keepdims=True) * counts[:, None]
