"""Check explanations: randomized layers, insertion and deletion of a trained run, and a planted patch.

`python scripts/explanation_checks.py --workdir=RUN` prints a table for each check. The run has images of 32 pixels;
the patch is planted into them for a network of its own. docs/results.md has the figures.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from scipy.ndimage import sobel
from scipy.stats import spearmanr
from script_flags import parse, require_no_words

import jaxvision as jv
from jaxvision import data, heat_maps, trees
from jaxvision import run as runs
from jaxvision.cli.errors import require, run_command

METHODS = (
    "grad_cam",
    "grad_cam_plus_plus",
    "layer_cam",
    "integrated_gradients(steps=16, max_steps=16)",
    "smooth_grad(samples=8)",
    "occlusion(window=8)",
)
PATCH, SIDE = 4, 32  # pixels
STEPS = 16  # of insertion and deletion


def edge_map(inputs: np.ndarray) -> np.ndarray:
    """Return the size of the gradient of the gray values by Sobel's operator, [N, H, W]: it knows no model."""
    gray = inputs.astype(float).mean(axis=-1)
    return np.hypot(sobel(gray, axis=1), sobel(gray, axis=2))


def center_prior(inputs: np.ndarray) -> np.ndarray:
    """Return a bump at the center of each image, [N, H, W], without a look at it."""
    y, x = (np.linspace(-1, 1, side) for side in inputs.shape[1:3])
    return np.broadcast_to(-np.hypot(*np.meshgrid(y, x, indexing="ij")), inputs.shape[:3])


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean rank correlation of maps [N, ...] of the same images; 0 for a map without variation."""
    pairs = zip(one.reshape(len(one), -1), other.reshape(len(other), -1), strict=True)
    found: list[Any] = [spearmanr(a, b)[0] if np.ptp(a) and np.ptp(b) else 0.0 for a, b in pairs]
    return float(np.mean(found))


def randomize(trained: runs.Trained, inputs: np.ndarray, targets: np.ndarray, method: str) -> list[tuple[str, float]]:
    """Return the rank correlation with the original maps as layers get new values from the last one on (Adebayo et al.,
    Sanity Checks for Saliency Maps, NeurIPS 2018, section 3: cascading randomization)."""
    fresh, _ = trained.run.model.init(jax.random.key(99), jax.numpy.asarray(inputs[:1]))
    params, original = dict(trained.params), heat_maps.heat_maps(trained, inputs, targets, method=method)
    rows = []
    for name in _layers(trained.params)[::-1]:
        params[name] = fresh[name]
        changed = heat_maps.heat_maps(trained._replace(params=dict(params)), inputs, targets, method=method)
        rows.append((name, correlation(original, changed)))
    return rows


def _layers(params: Any) -> list[str]:
    """Return the modules of a network from the first to the last: dense layers and the head are last."""
    names = dict.fromkeys(path.partition("/")[0] for path in trees.flatten_with_paths(params))
    order = {"stem": 0, "conv": 1, "norm": 1, "stage": 1, "block": 1, "dense": 2, "head": 3}
    return sorted(names, key=lambda name: (next((n for k, n in order.items() if name.startswith(k)), 1), name))


def scores(trained: runs.Trained, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the probability of a class of each image."""
    return heat_maps.predictions(trained, inputs, batch_size=256)[np.arange(len(inputs)), targets]


def areas(trained: runs.Trained, inputs: np.ndarray, targets: np.ndarray, maps: np.ndarray) -> tuple[Any, Any]:
    """Return the areas under the curves of insertion and deletion of each image (V. Petsiuk et al., RISE, BMVC 2018,
    section 4.2): pixels in the order of the map appear on, or are replaced by, the mean color of the image."""
    count, pixels = len(inputs), inputs.shape[1] * inputs.shape[2]
    noise = np.random.default_rng(0).uniform(size=(count, pixels)) * 1e-9
    rank = np.argsort(np.argsort(-(maps.reshape(count, -1) / (np.abs(maps).max() or 1) + noise), axis=1), axis=1)
    empty = np.broadcast_to(inputs.mean(axis=(1, 2), keepdims=True).round().astype(np.uint8), inputs.shape)
    curves: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for step in range(STEPS + 1):
        is_first = (rank < pixels * step / STEPS).reshape(inputs.shape[:3])[..., None]
        curves[0].append(scores(trained, np.where(is_first, inputs, empty), targets))
        curves[1].append(scores(trained, np.where(is_first, empty, inputs), targets))
    insertion, deletion = (np.trapezoid(np.stack(curve), dx=1 / STEPS, axis=0) for curve in curves)
    return insertion, deletion


def check_order(trained: runs.Trained, inputs: np.ndarray, targets: np.ndarray) -> None:
    """Print insertion (higher is better) and deletion (lower is better), and the difference to the center prior."""
    rng = np.random.default_rng(1)
    maps = {method: heat_maps.heat_maps(trained, inputs, targets, method=method) for method in METHODS}
    maps |= {"random order": rng.uniform(size=inputs.shape[:3]), "edge map": edge_map(inputs)}
    found = {name: areas(trained, inputs, targets, each) for name, each in maps.items()}
    center = areas(trained, inputs, targets, center_prior(inputs))
    print(f"\n{'method':45} insertion  minus center prior     deletion  minus center prior")
    for name, both in {**found, "center prior": center}.items():
        cells = []
        for area, prior in zip(both, center, strict=True):
            difference = area - prior
            error = difference.std(ddof=1) / len(difference) ** 0.5
            cells.append(f"{area.mean():9.3f}  {difference.mean():+.3f} ± {error:.3f}      ")
        print(f"{name:45} {' '.join(cells)}", flush=True)


def check_completeness(trained: runs.Trained, inputs: np.ndarray, targets: np.ndarray) -> None:
    """Print by how much the sum of a map of integrated gradients differs from the change of the logit, as steps double.

    It is relative to the size of the change, or to a tenth of the deviation of the logits if that is larger.
    """

    def logits(images):
        outputs, _ = trained.run.model.apply(trained.params, trained.model_state, images, train=False, key=None)
        return np.asarray(outputs)

    at_image, at_black = logits(inputs), logits(np.zeros_like(inputs))
    rows = np.arange(len(inputs))
    change = at_image[rows, targets] - at_black[rows, targets]
    scale = np.maximum(np.abs(change), 0.1 * at_image.std())
    print("\nintegrated gradients    median gap   largest gap   images above 1 %")
    for most in (64, 128, 256, 512):
        spec = f"integrated_gradients(steps=64, max_steps={most})"
        maps = heat_maps.make_explainer(trained, spec).maps(inputs, targets)
        gap = np.abs(maps.sum(axis=(1, 2)) - change) / scale
        print(f"at most {most:3} steps {np.median(gap):17.4f} {gap.max():13.4f} {(gap > 0.01).sum():18}", flush=True)


def check_randomization(trained: runs.Trained, inputs: np.ndarray, targets: np.ndarray) -> None:
    """Print the rank correlation of each method as layers are randomized from the last one on, and of the edge map."""
    for method in METHODS:
        rows = randomize(trained, inputs, targets, method)
        print(f"{method:45}" + "  ".join(f"{name} {value:+.2f}" for name, value in rows), flush=True)
    print(f"{'edge map':45} " + "  ".join(f"{name} {1:+.2f}" for name in _layers(trained.params)[::-1]))


def planted(images: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images with a patch of one of four patterns at a random place, its pattern, and its (top, left)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:PATCH, :PATCH]
    patterns = np.stack([x % 2, y % 2, (x + y) % 2, (x // 2 + y // 2) % 2]) * 255
    targets, corners = rng.integers(0, 4, len(images)), rng.integers(0, SIDE - PATCH + 1, (len(images), 2))
    images = images.copy()
    for image, target, (top, left) in zip(images, targets, corners, strict=True):
        image[top : top + PATCH, left : left + PATCH] = patterns[target][..., None]
    return images, targets.astype(np.int32), corners


def is_hit(maps: np.ndarray, corners: np.ndarray, cell: float) -> np.ndarray:
    """Return whether the maximum of a map [N, h, w] lies within half a cell of the patch."""
    count, rows, columns = maps.shape
    places = np.stack(np.unravel_index(maps.reshape(count, -1).argmax(axis=1), (rows, columns)), axis=1)
    centers = (places + 0.5) * SIDE / np.array([rows, columns])
    off = np.maximum(np.maximum(corners - centers, centers - corners - PATCH), 0)
    return np.asarray((off <= cell / 2).all(axis=1))


def check_patch(images: np.ndarray, *, num_train: int, folder: Path) -> None:
    """Print how often the maximum of a map is at the patch that decides the class, and at the same place without it."""
    training, labels, _ = planted(images[:num_train], seed=0)
    tested, targets, corners = planted(images[num_train:], seed=1)
    config = jv.Config(
        model="cnn(channels=(32, 32, 32), padding='SAME', dense=())", epochs=8, batch_size=64, schedule="one_cycle",
        learning_rate=3e-3, validation_fraction=0.1,
    )  # fmt: skip
    splits = {"train": (training, labels), "test": (tested, targets)}
    result = jv.train(config, dataset=splits, workdir=folder / "patch")
    trained = jv.load(result.workdir)
    assert result.test is not None
    print(f"\nplanted patch: test accuracy {result.test['accuracy']:.4f} on {len(tested)} images")
    print(f"{'method':45} at the patch   the same places in the images without it")
    predicted = heat_maps.predicted_targets(trained, heat_maps.predictions(trained, images[num_train:]))
    for method in METHODS:
        explainer = heat_maps.make_explainer(trained, method)
        cell = SIDE / 8  # of the deepest map, also for the methods that explain pixels
        hit = is_hit(np.abs(explainer.maps(tested, targets)), corners, cell)
        control = is_hit(np.abs(explainer.maps(images[num_train:], predicted)), corners, cell)
        print(f"{method:45} {hit.mean():12.3f} {control.mean():14.3f}", flush=True)


def main(argv: Sequence[str]) -> None:
    """Check explanations of a run: python scripts/explanation_checks.py --workdir=RUN [--num_images=200]"""

    def define(values):
        flags.DEFINE_string("workdir", None, "folder of a trained run with images of 32 pixels", flag_values=values)
        flags.DEFINE_integer("num_images", 200, "number of test images", flag_values=values)
        flags.DEFINE_integer("num_train", 3000, "training images with a planted patch", flag_values=values)
        flags.DEFINE_string("data_dir", None, "folder of the datasets", flag_values=values)

    values, rest = parse("scripts/explanation_checks.py", main.__doc__ or "", define, argv)
    require_no_words("scripts/explanation_checks.py", rest)
    require(values.workdir, "explanation_checks needs --workdir, the folder of a trained run")
    trained = jv.load(values.workdir)
    dataset = data.open_dataset(trained.run.config, data_dir=values.data_dir)
    assert dataset.test is not None
    right = np.arange(len(dataset.test))[: 4 * values.num_images]
    inputs, targets = dataset.test.read(right), dataset.test.targets[right]
    is_right = heat_maps.predicted_targets(trained, heat_maps.predictions(trained, inputs, batch_size=256)) == targets
    inputs, targets = inputs[is_right][: values.num_images], targets[is_right][: values.num_images]
    print(f"{len(inputs)} test images that {trained.run.config.model} predicts rightly\n")
    print("rank correlation with the maps of the trained network, layers randomized from the last one on")
    check_randomization(trained, inputs, targets)
    check_completeness(trained, inputs, targets)
    check_order(trained, inputs, targets)
    with tempfile.TemporaryDirectory() as folder:
        backgrounds = dataset.train.read(np.arange(values.num_train + 2 * values.num_images))
        check_patch(backgrounds, num_train=values.num_train, folder=Path(folder))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], "scripts/explanation_checks.py"))
