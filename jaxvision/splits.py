"""A split -> others: a share held out; and what a run stores of a split's targets."""

from __future__ import annotations

import numpy as np

from jaxvision.interfaces import Split, Targets


def cut(split: Split, fraction: float, *, seed: int) -> tuple[Split, Split]:
    """Cut a share off: (the rest, the share), each class alike. A class of two examples or more is in both.

    Where examples have groups, a share of these is cut off; where they are ordered, the last of them.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"a share of {fraction} cannot be cut off; wanted one between 0 and 1 (test_fraction=…)")
    chosen = _in_share(split, fraction, np.random.default_rng(seed))
    if not chosen.any() or chosen.all():
        raise ValueError(
            f"no share can be cut off {len(split)} examples, as no class has two of them: for validation, "
            "--validation_fraction=0 leaves it out"
        )
    return split.take(np.flatnonzero(~chosen)), split.take(np.flatnonzero(chosen))


def _in_share(split: Split, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return of each example whether it is in the share."""
    size = len(split)
    chosen = np.zeros(size, bool)
    if split.ordered:
        chosen[size - max(round(fraction * size), 1) :] = True
    elif split.groups is not None:
        groups = rng.permutation(np.unique(split.groups))
        chosen = np.isin(split.groups, groups[: max(round(fraction * len(groups)), 1)])
    else:
        strata = split.targets if split.kind == "classes" else np.zeros(size, int)
        for stratum in np.unique(strata):
            members = rng.permutation(np.flatnonzero(strata == stratum))
            num_chosen = min(max(round(fraction * len(members)), 1), len(members) - 1)
            chosen[members[:num_chosen]] = True
    return chosen


def measure_targets(split: Split, num_classes: int) -> Targets:
    """Count the examples of each class or with each tag, or measure the numbers."""
    if split.kind == "classes":
        counts = np.bincount(split.targets, minlength=num_classes)
        return Targets("classes", len(split), tuple(counts.tolist()))
    if split.kind == "tags":
        return Targets("tags", len(split), tuple(split.targets.sum(axis=0).astype(int).tolist()))
    values = split.targets.astype(np.float64)
    return Targets("numbers", len(split), mean=float(values.mean()), std=float(values.std()) or 1.0)


def statistics(images: np.ndarray, *, num_images: int = 10_000) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel in 0..1, over images [N, H, W, C] evenly spread up to a number."""
    chosen = np.asarray(images[:: max(1, len(images) // num_images)])
    if chosen.dtype == np.uint8:  # from their histograms, which takes a tenth of the time
        shares = np.stack([np.bincount(each.ravel(), minlength=256) / each.size for each in np.moveaxis(chosen, -1, 0)])
        values = np.arange(256) / 255
        mean = shares @ values
        std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
    else:
        mean, std = chosen.mean(axis=(0, 1, 2), dtype=np.float64), chosen.std(axis=(0, 1, 2), dtype=np.float64)
    return tuple(float(m) for m in mean.round(4)), tuple(float(max(s, 1e-3)) for s in std.round(4))


def statistics_of(split: Split, *, num_images: int = 10_000) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel of a split, over images evenly spread up to a number."""
    return statistics(split.read(np.linspace(0, len(split) - 1, min(num_images, len(split)), dtype=int)))
