"""Split off a holdout, and compute the statistics of targets and images that a run stores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jaxvision import failures
from jaxvision.interfaces import Preprocessing, Split, TargetStats

FEW = 100  # examples: with fewer, what is best on validation is so mostly by chance


def holdout(split: Split, fraction: float, *, seed: int) -> tuple[Split, Split]:
    """Split off a holdout: return (rest, holdout).

    Multiclass examples are stratified, so that classes with 2 or more of them appear in both. If examples have groups,
    a random fraction of the groups is held out; if they are ordered, the last examples. Raises ValueError if `fraction`
    is not between 0 and 1, or if one of the two would be empty.
    """
    if not 0 < fraction < 1:
        raise ValueError(failures.no_fraction(fraction))
    chosen = _in_share(split, fraction, np.random.default_rng(seed))
    if not chosen.any() or chosen.all():
        raise ValueError(failures.no_holdout(len(split), by_groups=split.groups is not None))
    return split.select(np.flatnonzero(~chosen)), split.select(np.flatnonzero(chosen))


def _in_share(split: Split, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return a mask [N] of the examples in the holdout."""
    size = len(split)
    chosen = np.zeros(size, bool)
    if split.ordered:
        chosen[size - max(round(fraction * size), 1) :] = True
    elif split.groups is not None:
        groups = rng.permutation(np.unique(split.groups))
        chosen = np.isin(split.groups, groups[: max(round(fraction * len(groups)), 1)])
    else:
        strata = split.targets if split.kind == "multiclass" else np.zeros(size, int)
        for stratum in np.unique(strata):
            members = rng.permutation(np.flatnonzero(strata == stratum))
            num_chosen = min(max(round(fraction * len(members)), 1), len(members) - 1)
            chosen[members[:num_chosen]] = True
    return chosen


def target_stats(split: Split, num_classes: int) -> TargetStats:
    """Count the examples of each class or label, or compute mean and std of continuous targets."""
    if split.kind == "multiclass":
        counts = np.bincount(split.targets, minlength=num_classes)
        return TargetStats("multiclass", len(split), tuple(counts.tolist()))
    if split.kind == "multilabel":
        return TargetStats("multilabel", len(split), tuple(split.targets.sum(axis=0).astype(int).tolist()))
    values = split.targets.astype(np.float64)
    return TargetStats("continuous", len(split), mean=float(values.mean()), std=float(values.std()) or 1.0)


def with_statistics_of(preprocessing: Preprocessing, inputs: np.ndarray) -> Preprocessing:
    """Return preprocessing with the mean and std per channel of inputs [N, …, C]; constant channels get std 1."""
    values = inputs.astype(np.float64).reshape(-1, preprocessing.channels)
    std = tuple(float(value) or 1.0 for value in values.std(axis=0))
    return replace(preprocessing, mean=tuple(values.mean(axis=0).tolist()), std=std)


def statistics(images: np.ndarray, *, num_images: int = 10_000) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std (at least 0.001) of each channel in 0..1, to 4 digits.

    They are those of evenly spaced images of [N, H, W, C], from `num_images` to less than twice as many.
    """
    chosen = np.asarray(images[:: max(1, len(images) // num_images)])
    if chosen.dtype == np.uint8:  # histograms take a tenth of the time
        shares = np.stack(
            [np.bincount(channel.ravel(), minlength=256) / channel.size for channel in np.moveaxis(chosen, -1, 0)]
        )
        values = np.arange(256) / 255
        mean = shares @ values
        std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
    else:
        mean, std = chosen.mean(axis=(0, 1, 2), dtype=np.float64), chosen.std(axis=(0, 1, 2), dtype=np.float64)
    return tuple(float(m) for m in mean.round(4)), tuple(float(max(s, 1e-3)) for s in std.round(4))


def statistics_of(split: Split, *, num_images: int = 10_000) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of each channel of a split in 0..1, over at most `num_images` evenly spaced images."""
    return statistics(split.read(np.linspace(0, len(split) - 1, min(num_images, len(split)), dtype=int)))
