"""Muon: updates of matrices made orthogonal."""

from __future__ import annotations

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
) -> optax.GradientTransformation:
    """Muon (K. Jordan et al., 2024) for matrices and convolution kernels, AdamW for the rest.

    nesterov holds for both. Orthogonal updates are scaled to the root mean square `rms` of AdamW's, so that one
    learning rate and one weight decay serve both (J. Liu et al., Muon is Scalable for LLM Training, 2025, section 2.2).
    """

    check(at_least_0={"weight_decay": weight_decay, "rms": rms}, below_1={"momentum": momentum, "b1": b1, "b2": b2})
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
    check(
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
