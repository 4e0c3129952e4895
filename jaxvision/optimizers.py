"""Optimizers: registered factories over optax.

Each takes `learning_rate`, a number or a schedule; the run hands it the schedule, whose peak is Config.learning_rate or
else the default that stands here. Weight decay leaves out what has fewer than two axes (biases, norms) unless
decay_all is set.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers

from jaxvision.interfaces import Tree
from jaxvision.registry import optimizers as _registry

register = _registry.register

LearningRate = float | optax.Schedule


def clipped(optimizer: optax.GradientTransformation, norm: float) -> optax.GradientTransformation:
    """Scales gradients whose global norm is larger down to it, before the optimizer sees them."""
    return optax.chain(optax.clip_by_global_norm(norm), optimizer)


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


def _check(*, at_least_0: dict[str, float], below_1: dict[str, float]) -> None:
    """Raises ValueError for what would let the optimizer diverge whatever the data."""
    for name, value in {**at_least_0, **below_1}.items():
        if value < 0 or (name in below_1 and value >= 1):
            raise ValueError(f"{name}={value}; wanted at least 0{' and below 1' if name in below_1 else ''}")


def _mask(decay_all: bool):
    return None if decay_all else lambda params: jax.tree.map(lambda p: jnp.ndim(p) > 1, params)


def _coupled_decay(weight_decay: float, decay_all: bool) -> optax.GradientTransformation:
    """L2 regularisation: the decay joins the gradient before anything else sees it."""
    return optax.add_decayed_weights(weight_decay, _mask(decay_all)) if weight_decay else optax.identity()


@register("sgd")
def sgd(
    *,
    learning_rate: LearningRate = 0.1,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum; weight decay is L2 regularisation, as in PyTorch."""
    _check(at_least_0={"weight_decay": weight_decay}, below_1={"momentum": momentum})
    return optax.chain(
        _coupled_decay(weight_decay, decay_all), optax.sgd(learning_rate, momentum or None, nesterov=nesterov)
    )


@register("adam")
def adam(
    *, learning_rate: LearningRate = 2e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam (D. Kingma, J. Ba, ICLR 2015, algorithm 1)."""
    _check(at_least_0={"eps": eps}, below_1={"b1": b1, "b2": b2})
    return optax.adam(learning_rate, b1, b2, eps)


@register("adamw")
def adamw(
    *,
    learning_rate: LearningRate = 2e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    decay_all: bool = False,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (I. Loshchilov, F. Hutter, ICLR 2019, algorithm 2)."""
    _check(at_least_0={"eps": eps, "weight_decay": weight_decay}, below_1={"b1": b1, "b2": b2})
    return optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=_mask(decay_all))


@register("lion")
def lion(
    *,
    learning_rate: LearningRate = 2e-4,
    b1: float = 0.9,
    b2: float = 0.99,
    weight_decay: float = 0.1,
    decay_all: bool = False,
) -> optax.GradientTransformation:
    """Lion (X. Chen et al., Symbolic Discovery of Optimization Algorithms, 2023, program 1)."""
    _check(at_least_0={"weight_decay": weight_decay}, below_1={"b1": b1, "b2": b2})
    return optax.lion(learning_rate, b1, b2, weight_decay=weight_decay, mask=_mask(decay_all))


@register("lamb")
def lamb(
    *,
    learning_rate: LearningRate = 5e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.01,
    decay_all: bool = False,
) -> optax.GradientTransformation:
    """LAMB, layer-wise adaptive Adam for large batches (Y. You et al., ICLR 2020, algorithm 2)."""
    _check(at_least_0={"eps": eps, "weight_decay": weight_decay}, below_1={"b1": b1, "b2": b2})
    return optax.lamb(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=_mask(decay_all))


@register("rmsprop")
def rmsprop(
    *,
    learning_rate: LearningRate = 1e-3,
    decay: float = 0.9,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> optax.GradientTransformation:
    """RMSProp (T. Tieleman, G. Hinton, 2012, lecture 6e); weight decay is L2 regularisation."""
    _check(at_least_0={"eps": eps, "weight_decay": weight_decay}, below_1={"decay": decay, "momentum": momentum})
    return optax.chain(
        _coupled_decay(weight_decay, decay_all), optax.rmsprop(learning_rate, decay, eps, momentum=momentum or None)
    )


@register("adagrad")
def adagrad(
    *, learning_rate: LearningRate = 1e-2, eps: float = 1e-7, weight_decay: float = 0.0, decay_all: bool = False
) -> optax.GradientTransformation:
    """Adagrad (J. Duchi et al., JMLR 2011); weight decay is L2 regularisation."""
    _check(at_least_0={"eps": eps, "weight_decay": weight_decay}, below_1={})
    return optax.chain(_coupled_decay(weight_decay, decay_all), optax.adagrad(learning_rate, eps=eps))


@register("by_part", parts=("generator", "discriminator"))
def by_part(
    *,
    learning_rate: LearningRate = 2e-4,
    generator: str = "adam(b1=0.5)",
    discriminator: str = "adam(b1=0.5)",
    ratio: float = 1.0,
) -> optax.GradientTransformation:
    """An optimizer for each of a model's parts; the discriminator's rate is `ratio` times the generator's.

    (M. Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NIPS 2017, section 2.)
    """
    if ratio <= 0:
        raise ValueError(f"by_part: ratio={ratio}; wanted a factor above 0, as 0.5")

    def scaled_rate(step):
        return ratio * (learning_rate(step) if callable(learning_rate) else learning_rate)

    rates = {"generator": (generator, learning_rate), "discriminator": (discriminator, scaled_rate)}
    parts: dict[Any, Any] = {name: _registry.build(spec, learning_rate=rate) for name, (spec, rate) in rates.items()}

    def label(params):
        if not isinstance(params, dict) or set(params) != set(parts):
            raise ValueError(
                f"the optimizer 'by_part' is for models of the parts {' and '.join(parts)}, as --model=gan; this one "
                f"has {', '.join(params)}"
            )
        return {name: name for name in params}

    return optax.partition(parts, label)


@register("muon")
def muon(
    *,
    learning_rate: LearningRate = 2e-3,
    momentum: float = 0.95,
    nesterov: bool = True,
    num_iterations: int = 5,
    rms: float = 0.2,
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    decay_all: bool = False,
) -> optax.GradientTransformation:
    """Muon (K. Jordan et al., 2024) for matrices and convolution kernels, AdamW for the rest.

    nesterov holds for both. Orthogonal updates are scaled to the root mean square `rms` of AdamW's, so that one
    learning rate and one weight decay serve both (J. Liu et al., Muon is Scalable for LLM Training, 2025, section 2.2).
    """

    _check(at_least_0={"weight_decay": weight_decay, "rms": rms}, below_1={"momentum": momentum, "b1": b1, "b2": b2})
    return optax.contrib.muon(
        learning_rate,
        ns_steps=num_iterations,
        beta=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        adam_weight_decay=weight_decay if decay_all else 0.0,
        adam_b1=b1,
        adam_b2=b2,
        muon_weight_dimension_numbers=_as_matrices,
        consistent_rms=rms,
    )


@register("muon_sgd")
def muon_sgd(
    *,
    learning_rate: LearningRate = 0.24,
    momentum: float = 0.6,
    num_iterations: int = 3,
    dense_ratio: float = 0.5,
    bias_ratio: float = 0.5,
    sgd_momentum: float = 0.85,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Muon for convolution kernels, kept at a fixed norm; Nesterov's SGD for dense layers, biases, norms and the rest.

    A kernel [kh, kw, in, out] is scaled to the norm sqrt(out) before each step. The rates of what has one axis
    (bias_ratio) and of all else (dense_ratio) are so many times Muon's; both, biases and norms too, lose the share
    learning_rate * weight_decay of themselves a step, if momentum is left out of account. Muon's values are those of
    K. Jordan's airbench94_muon, 2024.
    """
    _check(
        at_least_0={"dense_ratio": dense_ratio, "bias_ratio": bias_ratio, "weight_decay": weight_decay},
        below_1={"momentum": momentum, "sgd_momentum": sgd_momentum},
    )

    def sgd_at(ratio):
        def rate(step):
            return ratio * (learning_rate(step) if callable(learning_rate) else learning_rate)

        decay = optax.add_decayed_weights(weight_decay / ratio) if ratio else optax.identity()
        return optax.chain(decay, optax.sgd(rate, sgd_momentum or None, nesterov=True))

    orthogonal = optax.contrib.scale_by_muon(
        ns_steps=num_iterations, beta=0.0, nesterov=False, weight_dimension_numbers=_as_matrices
    )
    trace = optax.trace(momentum, nesterov=True)
    kernel = _at_fixed_norm(optax.chain(trace, orthogonal, optax.scale_by_learning_rate(learning_rate)))
    parts: dict[Any, Any] = {"kernel": kernel, "dense": sgd_at(dense_ratio), "bias": sgd_at(bias_ratio)}

    def label(params):
        return jax.tree.map(lambda p: "kernel" if p.ndim == 4 else "dense" if p.ndim > 1 else "bias", params)

    return optax.partition(parts, label)


def _as_matrices(params: Tree) -> Tree:
    """Says of each kernel [kh, kw, in, out] that it is the matrix [kh * kw * in, out]."""

    def matrix(p):
        return MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if p.ndim > 1 else None

    return jax.tree.map(matrix, params)


def _at_fixed_norm(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Scales each parameter [..., out] to the norm sqrt(out) before it is updated."""

    def moved(update, p):
        norm = jnp.linalg.norm(p)
        return update + jnp.where(norm > 0, p * (p.shape[-1] ** 0.5 / jnp.maximum(norm, 1e-12) - 1), 0)

    def update(updates, state, params=None):
        updates, state = optimizer.update(updates, state, params)
        return jax.tree.map(moved, updates, params), state

    return optax.GradientTransformation(optimizer.init, update)
