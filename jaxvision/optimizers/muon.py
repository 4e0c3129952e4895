"""Muon: updates with orthogonalized matrices."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers

from jaxvision.interfaces import Tree
from jaxvision.optimizers import register
from jaxvision.optimizers.options import LearningRate, check


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
    bias_correction: bool = False,
) -> optax.GradientTransformation:
    """Build Muon (K. Jordan et al., 2024) for matrices and kernels, and AdamW for the rest.

    As in the author's code, the momentum is not bias-corrected: with Nesterov, the fraction `momentum` of it and the
    fraction 1 - momentum of the gradient are orthogonalized.

    Args:
        learning_rate: a number or a schedule.
        momentum: momentum coefficient of Muon, 0 to below 1.
        nesterov: use Nesterov momentum in Muon.
        num_iterations: number of Newton-Schulz iterations.
        rms: orthogonalized updates are scaled to this root mean square, about that of AdamW, so that one learning rate
            and one weight decay fit both (J. Liu et al., Muon is Scalable for LLM Training, 2025, section 2.2).
        weight_decay: decoupled weight decay of matrices, multiplied by the learning rate.
        b1: decay rate of AdamW's first moment, 0 to below 1.
        b2: decay rate of AdamW's second moment, 0 to below 1.
        decay_all: decay biases and norm parameters too.
        bias_correction: correct the bias of Muon's momentum, and use Nesterov momentum in AdamW too, as optax does.
    """

    check(at_least_0={"weight_decay": weight_decay, "rms": rms}, below_1={"momentum": momentum, "b1": b1, "b2": b2})
    decay_of_rest = weight_decay if decay_all else 0.0
    if bias_correction:
        return optax.contrib.muon(
            learning_rate,
            ns_steps=num_iterations,
            beta=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            adam_weight_decay=decay_of_rest,
            adam_b1=b1,
            adam_b2=b2,
            muon_weight_dimension_numbers=_as_matrices,
            consistent_rms=rms,
        )
    matrices = optax.chain(
        optax.trace(momentum, nesterov=nesterov),
        optax.scale(1 - momentum),  # the trace is a sum, Jordan's momentum a mean; it matters beside epsilon alone
        _orthogonalized(num_iterations, eps=1e-7),
        optax.stateless(lambda updates, _: jax.tree.map(partial(_at_rms, rms=rms), updates)),
        optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity(),
        optax.scale_by_learning_rate(learning_rate),
    )
    parts: dict[Any, Any] = {"muon": matrices, "adam": optax.adamw(learning_rate, b1, b2, weight_decay=decay_of_rest)}
    return optax.partition(parts, lambda params: jax.tree.map(lambda p: "muon" if p.ndim > 1 else "adam", params))


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
    """Build Muon at a fixed norm for convolution kernels, and Nesterov SGD for the rest.

    A kernel [kh, kw, in, out] is scaled to the norm sqrt(out) before each step. The defaults of Muon are those of K.
    Jordan's airbench94_muon, 2024.

    Args:
        learning_rate: a number or a schedule, of Muon.
        momentum: Nesterov momentum of Muon, 0 to below 1.
        num_iterations: number of Newton-Schulz iterations.
        dense_ratio: learning rate of other parameters with two or more axes, relative to Muon's.
        bias_ratio: learning rate of parameters with one axis, relative to Muon's.
        sgd_momentum: momentum of SGD, 0 to below 1.
        weight_decay: of the parameters under SGD, including biases and norms: without momentum, a step removes the
            fraction learning_rate * weight_decay of a parameter.
    """
    check(
        at_least_0={"dense_ratio": dense_ratio, "bias_ratio": bias_ratio, "weight_decay": weight_decay},
        below_1={"momentum": momentum, "sgd_momentum": sgd_momentum},
    )

    def sgd_at(ratio):
        def rate(step):
            return ratio * (learning_rate(step) if callable(learning_rate) else learning_rate)

        decay = optax.add_decayed_weights(weight_decay / ratio) if ratio else optax.identity()
        return optax.chain(decay, optax.sgd(rate, sgd_momentum or None, nesterov=True))

    trace, orthogonal = optax.trace(momentum, nesterov=True), _orthogonalized(num_iterations, eps=1e-8)
    kernel = _at_fixed_norm(optax.chain(trace, orthogonal, optax.scale_by_learning_rate(learning_rate)))
    parts: dict[Any, Any] = {"kernel": kernel, "dense": sgd_at(dense_ratio), "bias": sgd_at(bias_ratio)}

    def label(params):
        return jax.tree.map(lambda p: "kernel" if p.ndim == 4 else "dense" if p.ndim > 1 else "bias", params)

    return optax.partition(parts, label)


def _orthogonalized(num_iterations: int, *, eps: float) -> optax.GradientTransformation:
    """Return the transformation that orthogonalizes each update by Newton-Schulz iterations."""
    return optax.contrib.scale_by_muon(
        ns_steps=num_iterations, beta=0.0, nesterov=False, eps=eps, weight_dimension_numbers=_as_matrices
    )


def _at_rms(update: jax.Array, *, rms: float) -> jax.Array:
    """Scale an orthogonal matrix, or a kernel [..., out] taken as one, to a root mean square."""
    return rms * max(update.size // update.shape[-1], update.shape[-1]) ** 0.5 * update


def _as_matrices(params: Tree) -> Tree:
    """Return the dimension numbers that treat a kernel [kh, kw, in, out] as a matrix [kh * kw * in, out]."""

    def matrix(p):
        return MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if p.ndim > 1 else None

    return jax.tree.map(matrix, params)


def _at_fixed_norm(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Wrap an optimizer to rescale each parameter [..., out] to the norm sqrt(out) before its update."""

    def moved(update, p):
        norm = jnp.linalg.norm(p)
        return update + jnp.where(norm > 0, p * (p.shape[-1] ** 0.5 / jnp.maximum(norm, 1e-12) - 1), 0)

    def update(updates, state, params=None):
        updates, state = optimizer.update(updates, state, params)
        return jax.tree.map(moved, updates, params), state

    return optax.GradientTransformation(optimizer.init, update)
