"""What of a model is trained, and how fast: frozen parameters, learning rates by layer."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Sequence
from typing import Any

import jax
import optax

from jaxvision.interfaces import Model, Tree
from jaxvision.specs import nearest
from jaxvision.trees import flat

BACKBONE = "backbone"  # all but the head


def _parents(path: str) -> list[str]:
    """The path and all that it lies under."""
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _matches(path: str, pattern: str, head: str | None) -> bool:
    if pattern == BACKBONE:
        return path.split("/")[0] != head
    return any(fnmatch.fnmatchcase(parent, pattern) for parent in _parents(path))


def _statistics(state: Tree) -> list[str]:
    """Names the leaves of a state by the module that they belong to: without their collection."""
    return [path.partition("/")[2] for path in flat(state)]


def frozen(params: Tree, state: Tree, patterns: str, *, head: str | None) -> frozenset[str]:
    """Names what comma-separated patterns freeze: "backbone", or paths with wildcards as "stage1_*".

    These are parameters, and statistics by the path of their module. A pattern that matches a part of the model freezes
    all of it. Raises ValueError for a pattern that matches nothing, where nothing is left to train, and for "backbone"
    where the model says not which part is its head.
    """
    wanted = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    every = list(flat(params))
    tops = sorted({path.split("/")[0] for path in every})
    if BACKBONE in wanted and head is None:
        raise ValueError(f"freeze={patterns!r}: the model names no head; freeze its parts by name: {', '.join(tops)}")
    for pattern in wanted:
        if not any(_matches(path, pattern, head) for path in every):
            near = nearest(pattern, tops) or f"; its parts are {', '.join(tops)}"
            raise ValueError(f"freeze={patterns!r}: {pattern!r} matches no parameter of the model{near}")
    everything = {*every, *_statistics(state)}
    found = frozenset(path for path in everything if any(_matches(path, pattern, head) for pattern in wanted))
    if found.issuperset(every):
        raise ValueError(f"freeze={patterns!r} leaves no parameter to train")
    return found


def trained(params: Tree, frozen: Collection[str]) -> Tree:
    """Says of each parameter whether it is trained."""
    return jax.tree.unflatten(jax.tree.structure(params), [path not in frozen for path in flat(params)])


def freeze(model: Model, params: Tree, state: Tree, frozen: Collection[str]) -> Model:
    """Gives the model whose wholly frozen modules use their stored statistics in training too, and leave them be.

    Raises ValueError where the model has statistics and cannot do that.
    """
    if not frozen or not jax.tree.leaves(state):
        return model
    if model.freeze is None:
        raise ValueError("the model has a state and no `freeze` of its own, so its frozen parts would go on changing")
    left = [path for path in (*flat(params), *_statistics(state)) if path not in frozen]
    live = {parent for path in left for parent in _parents(path)}
    modules = {parent for path in frozen for parent in _parents(path)} - live
    return model.freeze(frozenset(modules))


def _layer(name: str) -> str:
    """The layer that a part of a model belongs to: a convolution and its norm are one."""
    return re.sub(r"_(conv|norm|scale)$", "", name)


def layers(names: Sequence[str]) -> list[list[str]]:
    """Groups a model's parts, in the order of computation, into layers: what precedes the first block is one.

    What follows the last block (a norm, the head) is one too. A norm goes with what it follows.

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
    """Names the parts of a model's parameters in the order in which it makes them, which is that of computation."""
    found: list[str] = []

    def trace(key, inputs):
        params, _ = model.init(key, inputs)
        found.extend(params)
        return 0

    jax.eval_shape(trace, jax.random.key(0), inputs)
    return found


def layer_scales(params: Tree, order: Sequence[str], decay: float, *, head: str | None = None) -> Tree:
    """Gives the factor of each parameter's learning rate: 1 for the last layer, decay times that for each one below.

    Raises ValueError where the head is not in the last layer: then the order of the parts is not that of computation.

    (J. Howard, S. Ruder, ULMFiT, ACL 2018, section 3.2; H. Bao et al., BEiT, ICLR 2022, appendix.)
    """
    groups = layers(order)
    if head is not None and head not in groups[-1]:
        raise ValueError(
            f"layer_decay: the model makes its parts in the order {', '.join(order)}, and its head {head!r} is not the "
            "last; make them in the order in which they compute"
        )
    depths = {name: len(groups) - 1 - index for index, group in enumerate(groups) for name in group}
    scales = [decay ** depths[path.split("/")[0]] for path in flat(params)]
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
    """Makes an optimizer one of the trained parameters alone, whose rates decay from layer to layer where wished."""
    if layer_decay is not None:
        scales = layer_scales(params, order(model, inputs), layer_decay, head=model.head)
        optimizer = scaled(optimizer, scales)
    return only(optimizer, trained(params, frozen)) if frozen else optimizer


def only(optimizer: optax.GradientTransformation, trained: Tree) -> optax.GradientTransformation:
    """Keeps an optimizer to the parameters that `trained` marks: it has state for them and updates for them alone.

    The gradients that it is given, and its updates, have None in the place of all others.
    """

    def kept(tree):
        return jax.tree.map(lambda leaf, is_trained: leaf if is_trained else None, tree, trained)

    def init(params):
        return optimizer.init(kept(params))

    def update(updates, state, params=None):
        return optimizer.update(updates, state, None if params is None else kept(params))

    return optax.GradientTransformation(init, update)


def scaled(optimizer: optax.GradientTransformation, scales: Tree) -> optax.GradientTransformation:
    """Multiplies each parameter's update, and so its learning rate and weight decay, by a factor of its own."""

    def update(updates, state, params=None):
        updates, state = optimizer.update(updates, state, params)
        return jax.tree.map(lambda u, scale: None if u is None else scale * u, updates, scales, is_leaf=_is_none), state

    return optax.GradientTransformation(optimizer.init, update)


def _is_none(leaf: Any) -> bool:
    return leaf is None
