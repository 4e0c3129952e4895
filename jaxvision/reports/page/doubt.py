"""How far a model's probabilities explain the labels: a temperature, and a fraction of labels that contradict it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

TEMPERATURES = (0.4, 8.0)  # that are searched
NUM_STEPS = 25  # of a search, twice
NOISES = np.concatenate([[0.0], np.geomspace(5e-4, 0.6, 60)])
MOST_VALUES = 2_000_000  # probabilities that are searched over; of more, evenly spaced examples
LIKELIHOOD_RATIO = 10.83  # of two nested models with one more parameter, exceeded by chance once in 1,000 (chi-squared)
LEAST_NOISE = 0.01  # fraction of labels below which noise does not matter
TINY = 1e-38


class Doubt(NamedTuple):
    """Labels as drawn from probabilities at a temperature, but for a fraction that is replaced by any other class.

    `probabilities` [N, C] are those of the labels under both, `clean` [N, C] at the temperature alone. `is_noisy`
    states that no temperature alone explains the labels.
    """

    temperature: float
    noise: float
    is_noisy: bool
    clean: np.ndarray
    probabilities: np.ndarray


def fit_doubt(probabilities: np.ndarray, targets: np.ndarray) -> Doubt:
    """Fit temperature and noise to the labels by maximum likelihood, on a grid.

    A model that is sure too often is explained by the temperature: its mistakes are among its less sure answers. Wrong
    labels are not, because they contradict its surest answers as often as others.
    """
    num_examples, num_classes = probabilities.shape
    most = max(MOST_VALUES // num_classes, 1)
    chosen = np.unique(np.linspace(0, num_examples - 1, min(num_examples, most), dtype=int))
    logs, labels = np.log(np.maximum(probabilities[chosen], TINY)), targets[chosen]
    low, high = np.log(TEMPERATURES)
    best, without = (-np.inf, 1.0, 0.0), -np.inf
    for _ in range(2):
        grid = np.linspace(low, high, NUM_STEPS)
        for step in grid:
            likelihoods = _likelihoods(logs, labels, float(np.exp(step)), num_classes)
            without = max(without, float(likelihoods[0]))
            place = int(likelihoods.argmax())
            best = max(best, (float(likelihoods[place]), float(np.exp(step)), float(NOISES[place])))
        width, middle = (high - low) / (NUM_STEPS - 1), np.log(best[1])
        low, high = middle - width, middle + width
    likelihood, temperature, noise = best
    is_noisy = 2 * (likelihood - without) > LIKELIHOOD_RATIO and noise >= LEAST_NOISE
    clean = _softmax(np.log(np.maximum(probabilities, TINY)) / temperature)
    return Doubt(temperature, noise, is_noisy, clean, _with_noise(clean, noise, num_classes))


def _likelihoods(logs: np.ndarray, labels: np.ndarray, temperature: float, num_classes: int) -> np.ndarray:
    """Return the logarithmic likelihood of the labels under each of NOISES."""
    of_label = _softmax(logs / temperature)[np.arange(len(labels)), labels]
    sums = [np.log(np.maximum(_with_noise(of_label, noise, num_classes), TINY)).sum() for noise in NOISES]
    return np.array(sums)


def _with_noise(probabilities: np.ndarray, noise: float, num_classes: int) -> np.ndarray:
    """Return the probabilities of labels if a fraction of them is replaced by any other class, all equally likely."""
    return (1 - noise) * probabilities + noise * (1 - probabilities) / max(num_classes - 1, 1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
