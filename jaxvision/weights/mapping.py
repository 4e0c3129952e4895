"""Other people's tensors -> our parameters, and back: names by the rules of each family, layouts by kind.

A family states in its registration how its parameters are called elsewhere: `names={"torchvision": RULES, …}`, each a
tuple of (pattern, replacement) that `re.sub` applies in order to our path, as "stage1_block1/conv1/kernel". What is the
same for all is done after: "/" becomes ".", a kernel or scale "weight", mean and var "running_mean" and "running_var".
Where a dense kernel of ours is a convolution's there, over the whole of a map, the rule says so: "fc1/kernel7x7".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision.interfaces import Tree
from jaxvision.trees import flat

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
Names = Mapping[str, Rules]  # by source
Shape = tuple[int, ...]
Grid = tuple[int, int]  # of patches
OURS = "jaxvision"  # the source whose names are our own paths
ENDINGS = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
WINDOW = re.compile(r"(?<=kernel)(\d+)x(\d+)$")
IGNORED = re.compile(r"(^|\.)num_batches_tracked$")  # a count that PyTorch keeps and nothing here needs
STATISTIC = re.compile(r"((^|\.)running_(mean|var)|(^|\.)num_batches_tracked|/(mean|var))$")
STEM, POSITIONS = "stem_conv/kernel", "position_embedding"  # what families call the input's kernel and its embedding


class Fitted(NamedTuple):
    """Parameters and state with others' tensors in them, whose names they were, and what does not fit.

    `missing` gives shapes by our paths, `unexpected` by the source's names, `misshapen` two by our paths: the source's
    and ours. `adapted` says in words what was fitted to another size, `broken` names tensors that are not finite, or
    variances below 0. `used` and `unused` name tensors.
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
    """Says whether a tensor of this name, ours or another's, is a batch statistic and no parameter."""
    return bool(STATISTIC.search(name))


def _renamed(path: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        path = re.sub(pattern, replacement, path)
    return path


def their_name(path: str, rules: Rules) -> str:
    """What others call a parameter of ours."""
    head, _, ending = WINDOW.sub("", _renamed(path, rules)).rpartition("/")
    return ".".join(filter(None, [*head.split("/"), ENDINGS.get(ending, ending)]))


def to_ours(tensor: np.ndarray, num_axes: int) -> np.ndarray:
    """Brings a weight to our layout: OIHW to HWIO, [out, in] to [in, out], and OIHW to [I * H * W, O] for two axes."""
    if num_axes == 2 and tensor.ndim == 4:
        return tensor.reshape(len(tensor), -1).T
    return {4: tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor, 2: tensor.T}.get(tensor.ndim, tensor)


def to_theirs(array: np.ndarray, window: tuple[int, int] | None = None) -> np.ndarray:
    """Brings a kernel to their layout: HWIO to OIHW, [in, out] to [out, in], with a window to OIHW."""
    if window:
        return array.T.reshape(array.shape[1], -1, *window)
    return {4: array.transpose(3, 2, 0, 1) if array.ndim == 4 else array, 2: array.T}.get(array.ndim, array)


def tensors_of(params: Tree, state: Tree) -> dict[str, Any]:
    """Parameters and state by path, batch statistics by that of their module; no two share one."""
    return {**flat(params), **_flat_state(state)}


def _flat_state(state: Tree) -> dict[str, Any]:
    return {path.removeprefix("batch_stats/"): leaf for path, leaf in flat(state).items()}


def _without_ones(shape: Shape) -> Shape:
    return tuple(length for length in shape if length != 1)


def _other_channels(kernel: np.ndarray, count: int) -> np.ndarray:
    """Makes a kernel [h, w, in, out] take another number of channels, all alike, and give what it gave for greys."""
    return np.repeat(kernel.sum(axis=2, keepdims=True) / count, count, axis=2)


def _other_size(embedding: np.ndarray, grid: Grid, theirs: Grid | None) -> np.ndarray | None:
    """Resamples position embeddings [1, 1 + h * w, D] from their grid of patches to another, as bicubic images.

    The first is the class token's. A grid that is not known is taken as square. (A. Dosovitskiy et al., An Image Is
    Worth 16x16 Words, ICLR 2021, section 3.2.)
    """
    _, length, depth = embedding.shape
    prefix, side = 1, math.isqrt(length - 1)
    rows, columns = theirs if theirs and theirs[0] * theirs[1] == length - prefix else (side, side)
    if rows * columns != length - prefix:  # of another kind than ours
        return None
    images = embedding[:, prefix:].reshape(1, rows, columns, depth)
    resized = jax.image.resize(images, (1, *grid, depth), "cubic").reshape(1, -1, depth)
    return np.concatenate([embedding[:, :prefix], np.asarray(resized)], axis=1)


def _fitting(path: str, tensor: np.ndarray, like: Any, grid: Grid | None, theirs: Grid | None) -> np.ndarray | None:
    """Gives a tensor of our shape, adapted to other channels or another size of inputs; None where it cannot be."""
    is_other_grid = path == POSITIONS and theirs is not None and grid is not None and theirs != grid
    if not is_other_grid and _without_ones(tensor.shape) == _without_ones(like.shape):
        return tensor
    if path == STEM and tensor.ndim == 4 and _but(tensor.shape, 2) == _but(like.shape, 2):
        return _other_channels(tensor, like.shape[2])
    if path == POSITIONS and grid and tensor.ndim == 3 and tensor.shape[-1] == like.shape[-1]:
        resized = _other_size(tensor, grid, theirs)
        return resized if resized is not None and resized.shape == like.shape else None
    return None


def _but(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def _grid(ours: Mapping[str, Any], size: tuple[int, ...] | None) -> Grid | None:
    """How many patches an image of a size in pixels has, where the model cuts it into some."""
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
    """Puts others' tensors in the place of ours, by the names of that source which has most in common with them.

    `size` (height, width) is the model's input in pixels, for which position embeddings are resampled from that of
    `their_size`. `unused` are parts of their networks, by name, that ours leave out. What lies at the paths `skip`
    stays as it is. Numbers of fewer bits become float32 before anything else.
    """
    ours = tensors_of(params, state)
    left = tuple(name for name in tensors if name.startswith(tuple(f"{part}." for part in unused)))
    tensors = {name: t for name, t in tensors.items() if name not in left and not IGNORED.search(name)}
    source, called = _source(tensors, ours, names)
    unexpected = {name: tuple(tensors[name].shape) for name in tensors.keys() - called.values()}
    wanted = {path: name for path, name in called.items() if path not in skip}
    missing = {path: tuple(ours[path].shape) for path, name in wanted.items() if name not in tensors}
    placed, adapted, misshapen, broken = {}, [], {}, []
    grid, their_grid = _grid(ours, size), _grid(ours, their_size)
    for path in (path for path in wanted if path not in missing):
        tensor, like = _whole(np.asarray(tensors[wanted[path]])), ours[path]
        if not np.isfinite(tensor).all() or (path.endswith("/var") and (tensor < 0).any()):
            broken.append(wanted[path])
        tensor = to_ours(tensor, len(like.shape)) if source != OURS and path.endswith("kernel") else tensor
        fitting = _fitting(path, tensor, like, grid, their_grid)
        if fitting is None:
            misshapen[path] = tensor.shape, tuple(like.shape)
            continue
        if path == POSITIONS and fitting is not tensor:
            adapted.append(f"{path} from {_shown(their_grid) or list(tensor.shape)} to {_shown(grid)}")
        elif _without_ones(tensor.shape) != _without_ones(like.shape):
            adapted.append(f"{path} from {list(tensor.shape)} to {list(like.shape)}")
        placed[path] = fitting.reshape(like.shape).astype(like.dtype)
    used = frozenset(wanted[path] for path in placed)
    return Fitted(
        *_put(placed, params, state),
        source,
        used,
        left,
        tuple(sorted(adapted)),
        missing,
        unexpected,
        misshapen,
        tuple(sorted(broken)),
    )


def _whole(tensor: np.ndarray) -> np.ndarray:
    """Gives a tensor in float32, where it is in fewer bits."""
    return tensor if tensor.dtype == np.float64 else tensor.astype(np.float32)


def _shown(grid: Grid | None) -> str:
    return f"{grid[0]}x{grid[1]} patches" if grid else ""


def _source(tensors: Mapping[str, Any], ours: Mapping[str, Any], names: Names) -> tuple[str, dict[str, str]]:
    """Tells by the keys whose names tensors have: (the source, what each of our paths is called there)."""
    called = {source: {path: their_name(path, rules) for path in ours} for source, rules in names.items()}
    called[OURS] = {path: path for path in ours}
    source = max(called, key=lambda source: len(tensors.keys() & called[source].values()))
    return source, called[source]


def _put(placed: Mapping[str, np.ndarray], params: Tree, state: Tree) -> tuple[Tree, Tree]:
    """Gives parameters and state with new leaves at some paths."""

    def put(tree, by_path):
        return jax.tree.unflatten(jax.tree.structure(tree), [placed.get(path, leaf) for path, leaf in by_path.items()])

    return put(params, flat(params)), put(state, _flat_state(state))


def export(params: Tree, state: Tree, rules: Rules) -> dict[str, np.ndarray]:
    """Gives our parameters and statistics under others' names and in their layout."""

    def theirs(path, leaf):
        window = WINDOW.search(_renamed(path, rules))
        return to_theirs(leaf, (int(window[1]), int(window[2])) if window else None)

    return {
        their_name(path, rules): np.ascontiguousarray(
            theirs(path, np.asarray(leaf)) if path.endswith("kernel") else leaf
        )
        for path, leaf in tensors_of(params, state).items()
    }
