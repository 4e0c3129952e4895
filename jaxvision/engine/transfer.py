"""Transfer learning: frozen parameters and layer-wise learning rates."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Sequence
from typing import Any

import jax
import optax

from jaxvision.interfaces import Model, Tree
from jaxvision.specs import nearest
from jaxvision.trees import flatten_with_paths

BACKBONE = "backbone"  # all but the head
BATCH_NORM = "batch_norm"  # all modules with statistics; a model may have none


def _parents(path: str) -> list[str]:
    """Return the path and all of its parents."""
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _matches(path: str, pattern: str, head: str | None) -> bool:
    if pattern == BACKBONE:
        return path.split("/")[0] != head
    return any(fnmatch.fnmatchcase(parent, pattern) for parent in _parents(path))


def _statistics(state: Tree) -> list[str]:
    """Return the paths of the modules that the leaves of a state belong to, without their collection."""
    return [path.partition("/")[2] for path in flatten_with_paths(state)]


def frozen(params: Tree, state: Tree, patterns: str, *, head: str | None) -> frozenset[str]:
    """Return the paths that comma-separated patterns freeze: "backbone", "batch_norm", or paths as in "stage1_*".

    They include parameters, and statistics by the path of their module. A pattern that matches a module freezes all of
    it. Raises ValueError if a pattern matches nothing, if nothing is left to train, or for "backbone" if the model does
    not name its head.
    """
    paths = list(flatten_with_paths(params))
    everything = {*paths, *_statistics(state)}
    norms = sorted({path.rpartition("/")[0] or path for path in _statistics(state)})
    stated = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    listed = [each for pattern in stated for each in (norms if pattern == BATCH_NORM else [pattern])]
    tops = sorted({path.split("/")[0] for path in paths})
    if BACKBONE in listed and head is None:
        raise ValueError(
            f"freeze={patterns!r}: the model does not name its head; freeze modules by name: {', '.join(tops)}"
        )
    for pattern in listed:
        if not any(_matches(path, pattern, head) for path in everything):
            near = nearest(pattern, tops) or f"; its modules are {', '.join(tops)}"
            raise ValueError(f"freeze={patterns!r}: {pattern!r} matches no parameter of the model{near}")
    matched = frozenset(path for path in everything if any(_matches(path, pattern, head) for pattern in listed))
    if matched.issuperset(paths):
        raise ValueError(f"freeze={patterns!r} leaves no parameter to train")
    return matched


def trained(params: Tree, frozen: Collection[str]) -> Tree:
    """Return a tree with True for each parameter that is trained."""
    return jax.tree.unflatten(jax.tree.structure(params), [path not in frozen for path in flatten_with_paths(params)])


def freeze(model: Model, params: Tree, state: Tree, frozen: Collection[str]) -> Model:
    """Return the model whose entirely frozen modules use, and do not update, their stored statistics in training.

    Raises ValueError if the model has statistics but does not support freezing.
    """
    if not frozen or not jax.tree.leaves(state):
        return model
    if model.freeze is None:
        raise ValueError(
            "the model has a state but no `freeze`, so its frozen modules would keep changing: remove --freeze"
        )
    left = [path for path in (*flatten_with_paths(params), *_statistics(state)) if path not in frozen]
    live = {parent for path in left for parent in _parents(path)}
    modules = {parent for path in frozen for parent in _parents(path)} - live
    return model.freeze(frozenset(modules))


def _layer(name: str) -> str:
    """Return the layer of a module: a convolution and its norm form one layer."""
    return re.sub(r"_(conv|norm|scale)$", "", name)


def layers(names: Sequence[str]) -> list[list[str]]:
    """Group modules, in the order of computation, into layers: all before the first block is one layer.

    All after the last block (a norm, the head) is one too. A norm belongs to the module before it.

    >>> layers(["stem_conv", "stem_norm", "stage1_block1", "stage1_block2", "norm", "head"])
    [['stem_conv', 'stem_norm'], ['stage1_block1'], ['stage1_block2'], ['norm', 'head']]
    """
    numbered = [index for index, name in enumerate(names) if re.search(r"\d", name)]
    if not numbered:
        return [[name] for name in names]
    first, last = numbered[0], numbered[-1] + 1
    groups: list[list[str]] = []
    for name in names[first:last]:
        joins = groups and (name.startswith("norm") or _layer(name) == _layer(groups[-1][-1]))
        if joins:
            groups[-1].append(name)
        else:
            groups.append([name])
    return [group for group in (list(names[:first]), *groups, list(names[last:])) if group]


def order(model: Model, inputs: jax.ShapeDtypeStruct) -> list[str]:
    """Return the names of a model's modules in the order of initialization, which is that of computation."""
    names: list[str] = []

    def trace(key, inputs):
        params, _ = model.init(key, inputs)
        names.extend(params)
        return 0

    jax.eval_shape(trace, jax.random.key(0), inputs)
    return names


def layer_scales(params: Tree, order: Sequence[str], decay: float, *, head: str | None = None) -> Tree:
    """Return the factor of each parameter's learning rate: 1 in the last layer, multiplied by `decay` for each one
    below.

    Raises ValueError if the head is not in the last layer: then initialization does not follow the order of
    computation.

    (J. Howard, S. Ruder, ULMFiT, ACL 2018, section 3.2; H. Bao et al., BEiT, ICLR 2022, appendix.)
    """
    groups = layers(order)
    if head is not None and head not in groups[-1]:
        raise ValueError(
            f"layer_decay: the model initializes its modules in the order {', '.join(order)}, and its head {head!r} "
            "is not the last; initialize them in the order of computation"
        )
    depths = {name: len(groups) - 1 - index for index, group in enumerate(groups) for name in group}
    scales = [decay ** depths[path.split("/")[0]] for path in flatten_with_paths(params)]
    return jax.tree.unflatten(jax.tree.structure(params), scales)


def with_groups(
    optimizer: optax.GradientTransformation,
    model: Model,
    params: Tree,
    inputs: jax.ShapeDtypeStruct,
    *,
    frozen: Collection[str],
    layer_decay: float | None,
) -> optax.GradientTransformation:
    """Restrict an optimizer to the trained parameters, and decay its learning rate from layer to layer if requested."""
    if layer_decay is not None:
        scales = layer_scales(params, order(model, inputs), layer_decay, head=model.head)
        optimizer = scaled(optimizer, scales)
    return only(optimizer, trained(params, frozen)) if frozen else optimizer


def only(optimizer: optax.GradientTransformation, trained: Tree) -> optax.GradientTransformation:
    """Restrict an optimizer to the parameters that `trained` marks: it has state and updates only for them.

    The gradients that it takes, and its updates, are None for all others.
    """

    def kept(tree):
        return jax.tree.map(lambda leaf, is_trained: leaf if is_trained else None, tree, trained)

    def init(params):
        return optimizer.init(kept(params))

    def update(updates, state, params=None):
        return optimizer.update(updates, state, None if params is None else kept(params))

    return optax.GradientTransformation(init, update)


def scaled(optimizer: optax.GradientTransformation, scales: Tree) -> optax.GradientTransformation:
    """Multiply the update of each parameter, and so its learning rate and weight decay, by its own factor."""

    def update(updates, state, params=None):
        updates, state = optimizer.update(updates, state, params)
        return jax.tree.map(lambda u, scale: None if u is None else scale * u, updates, scales, is_leaf=_is_none), state

    return optax.GradientTransformation(optimizer.init, update)


def _is_none(leaf: Any) -> bool:
    return leaf is None
