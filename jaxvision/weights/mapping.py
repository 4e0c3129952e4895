"""Convert third-party tensors to our parameters and back: names by rules per family, layouts by kind of parameter.

A family registers the names of its parameters in other sources: `names={"torchvision": RULES, …}`. RULES is a tuple of
(pattern, replacement) pairs that `re.sub` applies in order to our path, e.g. "stage1_block1/conv1/kernel". Then, for
all families, "/" becomes ".", a kernel or scale "weight", and mean and var "running_mean" and "running_var". If our
dense kernel is their convolution over a whole map, the rule appends the window: "fc1/kernel7x7".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision.interfaces import Tree
from jaxvision.trees import flatten_with_paths

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
Names = Mapping[str, Rules]  # rules by source
Shape = tuple[int, ...]
Grid = tuple[int, int]  # (rows, columns) of patches
OURS = "jaxvision"  # the source whose names are our own paths
ENDINGS = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
WINDOW = re.compile(r"(?<=kernel)(\d+)x(\d+)$")
IGNORED = re.compile(r"(^|\.)num_batches_tracked$")  # PyTorch's step counter, not needed here
STATISTIC = re.compile(r"((^|\.)running_(mean|var)|(^|\.)num_batches_tracked|/(mean|var))$")
STEM, POSITIONS = "stem_conv/kernel", "position_embedding"  # the parameters that depend on channels and image size


class Fitted(NamedTuple):
    """Parameters and state filled with third-party tensors, the source of their names, and all mismatches.

    `missing` has shapes by our paths, `unexpected` shapes by the source's names, `misshapen` pairs of shapes by our
    paths: the source's and ours. `adapted` describes tensors fitted to another size; `broken` names tensors that are
    not finite, or variances below 0. `used` and `unused` name tensors of the source.
    """

    params: Tree
    state: Tree
    source: str
    used: frozenset[str]
    unused: tuple[str, ...]
    adapted: tuple[str, ...]
    missing: dict[str, Shape]
    unexpected: dict[str, Shape]
    misshapen: dict[str, tuple[Shape, Shape]]
    broken: tuple[str, ...]


def is_statistic(name: str) -> bool:
    """Return whether a tensor name, ours or third-party, is that of a batch statistic."""
    return bool(STATISTIC.search(name))


def _renamed(path: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        path = re.sub(pattern, replacement, path)
    return path


def their_name(path: str, rules: Rules) -> str:
    """Return the third-party name of one of our parameters."""
    head, _, ending = WINDOW.sub("", _renamed(path, rules)).rpartition("/")
    return ".".join(filter(None, [*head.split("/"), ENDINGS.get(ending, ending)]))


def to_ours(tensor: np.ndarray, num_axes: int) -> np.ndarray:
    """Convert a weight to our layout: OIHW to HWIO, [out, in] to [in, out].

    If num_axes is 2, OIHW becomes [I * H * W, O].
    """
    if num_axes == 2 and tensor.ndim == 4:
        return tensor.reshape(len(tensor), -1).T
    return {4: tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor, 2: tensor.T}.get(tensor.ndim, tensor)


def to_theirs(array: np.ndarray, window: tuple[int, int] | None = None) -> np.ndarray:
    """Convert a kernel to the third-party layout: HWIO to OIHW, [in, out] to [out, in], or to OIHW with a window."""
    if window:
        return array.T.reshape(array.shape[1], -1, *window)
    return {4: array.transpose(3, 2, 0, 1) if array.ndim == 4 else array, 2: array.T}.get(array.ndim, array)


def tensors_of(params: Tree, state: Tree) -> dict[str, Any]:
    """Return parameters and batch statistics by path, the latter under the path of their module; paths are unique."""
    return {**flatten_with_paths(params), **_flat_state(state)}


def _flat_state(state: Tree) -> dict[str, Any]:
    return {path.removeprefix("batch_stats/"): leaf for path, leaf in flatten_with_paths(state).items()}


def _without_ones(shape: Shape) -> Shape:
    return tuple(length for length in shape if length != 1)


def _other_channels(kernel: np.ndarray, count: int) -> np.ndarray:
    """Return a kernel [h, w, in, out] for another number of input channels with unchanged outputs for gray inputs."""
    return np.repeat(kernel.sum(axis=2, keepdims=True) / count, count, axis=2)


def _other_size(embedding: np.ndarray, grid: Grid, theirs: Grid | None) -> np.ndarray | None:
    """Resample position embeddings [1, 1 + h * w, D] bicubically from their grid of patches to another.

    The first embedding is the class token's. An unknown grid is assumed to be square. (A. Dosovitskiy et al., An Image
    Is Worth 16x16 Words, ICLR 2021, section 3.2.)
    """
    _, length, depth = embedding.shape
    prefix, side = 1, math.isqrt(length - 1)
    rows, columns = theirs if theirs and theirs[0] * theirs[1] == length - prefix else (side, side)
    if rows * columns != length - prefix:  # not a class token and a square grid
        return None
    images = embedding[:, prefix:].reshape(1, rows, columns, depth)
    resized = jax.image.resize(images, (1, *grid, depth), "cubic").reshape(1, -1, depth)
    return np.concatenate([embedding[:, :prefix], np.asarray(resized)], axis=1)


def _fitting(path: str, tensor: np.ndarray, ours: Any, grid: Grid | None, theirs: Grid | None) -> np.ndarray | None:
    """Return a tensor in the model's shape, adapted to other channels or image sizes; None if it cannot be adapted."""
    is_other_grid = path == POSITIONS and theirs is not None and grid is not None and theirs != grid
    if not is_other_grid and _without_ones(tensor.shape) == _without_ones(ours.shape):
        return tensor
    if path == STEM and tensor.ndim == 4 and _but(tensor.shape, 2) == _but(ours.shape, 2):
        return _other_channels(tensor, ours.shape[2])
    if path == POSITIONS and grid and tensor.ndim == 3 and tensor.shape[-1] == ours.shape[-1]:
        resized = _other_size(tensor, grid, theirs)
        return resized if resized is not None and resized.shape == ours.shape else None
    return None


def _but(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def _grid(ours: Mapping[str, Any], size: tuple[int, ...] | None) -> Grid | None:
    """Return the grid of patches for an image size in pixels; None for models without patches."""
    if size is None or POSITIONS not in ours:
        return None
    return size[0] // ours[STEM].shape[0], size[1] // ours[STEM].shape[1]


def fit(
    tensors: Mapping[str, np.ndarray],
    params: Tree,
    state: Tree,
    names: Names,
    *,
    size: tuple[int, ...] | None = None,
    their_size: tuple[int, ...] | None = None,
    unused: Collection[str] = (),
    skip: Collection[str] = (),
) -> Fitted:
    """Replace our parameters by third-party tensors, under the names of the best-matching source.

    Args:
        tensors: third-party tensors by name.
        params: our parameters.
        state: our state.
        names: renaming rules by source.
        size: input (height, width) of the model in pixels, to which position embeddings are resampled.
        their_size: input (height, width) that the tensors were trained with.
        unused: name prefixes of parts of their networks that ours leave out.
        skip: our paths that are kept as they are.

    Returns:
        The filled parameters and state, and all mismatches. Tensors of fewer than 32 bits are converted to float32
            first.
    """
    ours = tensors_of(params, state)
    ignored = tuple(name for name in tensors if name.startswith(tuple(f"{part}." for part in unused)))
    tensors = {name: t for name, t in tensors.items() if name not in ignored and not IGNORED.search(name)}
    source, called = _source(tensors, ours, names)
    unexpected = {name: tuple(tensors[name].shape) for name in tensors.keys() - called.values()}
    loaded = {path: name for path, name in called.items() if path not in skip}
    missing = {path: tuple(ours[path].shape) for path, name in loaded.items() if name not in tensors}
    placed, adapted, misshapen, broken = {}, [], {}, []
    grid, their_grid = _grid(ours, size), _grid(ours, their_size)
    for path in (path for path in loaded if path not in missing):
        tensor, own_leaf = _whole(np.asarray(tensors[loaded[path]])), ours[path]
        if not np.isfinite(tensor).all() or (path.endswith("/var") and (tensor < 0).any()):
            broken.append(loaded[path])
        tensor = to_ours(tensor, len(own_leaf.shape)) if source != OURS and path.endswith("kernel") else tensor
        fitting = _fitting(path, tensor, own_leaf, grid, their_grid)
        if fitting is None:
            misshapen[path] = tensor.shape, tuple(own_leaf.shape)
            continue
        if path == POSITIONS and fitting is not tensor:
            adapted.append(f"{path} from {_shown(their_grid) or list(tensor.shape)} to {_shown(grid)}")
        elif _without_ones(tensor.shape) != _without_ones(own_leaf.shape):
            adapted.append(f"{path} from {list(tensor.shape)} to {list(own_leaf.shape)}")
        placed[path] = fitting.reshape(own_leaf.shape).astype(own_leaf.dtype)
    used = frozenset(loaded[path] for path in placed)
    return Fitted(
        *_put(placed, params, state),
        source,
        used,
        ignored,
        tuple(sorted(adapted)),
        missing,
        unexpected,
        misshapen,
        tuple(sorted(broken)),
    )


def _whole(tensor: np.ndarray) -> np.ndarray:
    """Convert a tensor to float32 unless it is float64."""
    return tensor if tensor.dtype == np.float64 else tensor.astype(np.float32)


def _shown(grid: Grid | None) -> str:
    return f"{grid[0]}x{grid[1]} patches" if grid else ""


def _source(tensors: Mapping[str, Any], ours: Mapping[str, Any], names: Names) -> tuple[str, dict[str, str]]:
    """Return the source whose names match most tensors, and its name for each of our paths."""
    called = {source: {path: their_name(path, rules) for path in ours} for source, rules in names.items()}
    called[OURS] = {path: path for path in ours}
    source = max(called, key=lambda source: len(tensors.keys() & called[source].values()))
    return source, called[source]


def _put(placed: Mapping[str, np.ndarray], params: Tree, state: Tree) -> tuple[Tree, Tree]:
    """Return parameters and state with the leaves at the given paths replaced."""

    def put(tree, by_path):
        return jax.tree.unflatten(jax.tree.structure(tree), [placed.get(path, leaf) for path, leaf in by_path.items()])

    return put(params, flatten_with_paths(params)), put(state, _flat_state(state))


def export(params: Tree, state: Tree, rules: Rules) -> dict[str, np.ndarray]:
    """Return our parameters and statistics under third-party names and in the third-party layout."""

    def theirs(path, leaf):
        window = WINDOW.search(_renamed(path, rules))
        return to_theirs(leaf, (int(window[1]), int(window[2])) if window else None)

    return {
        their_name(path, rules): np.ascontiguousarray(
            theirs(path, np.asarray(leaf)) if path.endswith("kernel") else leaf
        )
        for path, leaf in tensors_of(params, state).items()
    }
