"""First-order optimizers: gradient descent, Adam and related methods."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import optax

from jaxvision.optimizers import register
from jaxvision.optimizers.options import LearningRate, check, coupled_decay, decay_mask


@register("sgd")
def sgd(
    *,
    learning_rate: LearningRate = 0.1,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> optax.GradientTransformation:
    """Build SGD with momentum; weight decay is L2 regularization, as in PyTorch.

    Args:
        learning_rate: a number or a schedule.
        momentum: momentum coefficient, 0 to below 1.
        nesterov: use Nesterov momentum.
        weight_decay: L2 penalty, added to the gradient.
        decay_all: decay biases and norm parameters too.
    """
    check(at_least_0={"weight_decay": weight_decay}, below_1={"momentum": momentum})
    return optax.chain(
        coupled_decay(weight_decay, decay_all), optax.sgd(learning_rate, momentum or None, nesterov=nesterov)
    )


@register("adam")
def adam(
    *, learning_rate: LearningRate = 2e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Build Adam (D. Kingma, J. Ba, ICLR 2015, algorithm 1)."""
    check(at_least_0={"eps": eps}, below_1={"b1": b1, "b2": b2})
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
    """Build AdamW, Adam with decoupled weight decay (I. Loshchilov, F. Hutter, ICLR 2019).

    (Algorithm 2.)

    Args:
        learning_rate: a number or a schedule.
        b1: decay rate of the first moment, 0 to below 1.
        b2: decay rate of the second moment, 0 to below 1.
        eps: added to the denominator.
        weight_decay: decoupled weight decay, multiplied by the learning rate.
        decay_all: decay biases and norm parameters too.
    """
    check(at_least_0={"eps": eps, "weight_decay": weight_decay}, below_1={"b1": b1, "b2": b2})
    return optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=decay_mask(decay_all))


@register("lion")
def lion(
    *,
    learning_rate: LearningRate = 2e-4,
    b1: float = 0.9,
    b2: float = 0.99,
    weight_decay: float = 0.1,
    decay_all: bool = False,
) -> optax.GradientTransformation:
    """Build Lion (X. Chen et al., 2023, program 1), which updates by the sign of the momentum.

    Args:
        learning_rate: a number or a schedule.
        b1: interpolation between momentum and gradient in the update, 0 to below 1.
        b2: decay rate of the momentum, 0 to below 1.
        weight_decay: decoupled weight decay, multiplied by the learning rate.
        decay_all: decay biases and norm parameters too.
    """
    check(at_least_0={"weight_decay": weight_decay}, below_1={"b1": b1, "b2": b2})
    return optax.lion(learning_rate, b1, b2, weight_decay=weight_decay, mask=decay_mask(decay_all))


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
    """Build LAMB, layer-wise adaptive Adam for large batches (Y. You et al., ICLR 2020).

    (Algorithm 2.)

    Args:
        learning_rate: a number or a schedule.
        b1: decay rate of the first moment, 0 to below 1.
        b2: decay rate of the second moment, 0 to below 1.
        eps: added to the denominator.
        weight_decay: decoupled weight decay, multiplied by the learning rate.
        decay_all: decay biases and norm parameters too.
    """
    check(at_least_0={"eps": eps, "weight_decay": weight_decay}, below_1={"b1": b1, "b2": b2})
    return optax.lamb(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=decay_mask(decay_all))


@register("rmsprop")
def rmsprop(
    *,
    learning_rate: LearningRate = 1e-3,
    decay: float = 0.9,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    decay_all: bool = False,
    epsilon_in_sqrt: bool = False,
    rate_in_momentum: bool = False,
) -> optax.GradientTransformation:
    """Build RMSProp (T. Tieleman, G. Hinton, 2012, lecture 6e) as in PyTorch, with L2 weight decay.

    Args:
        learning_rate: a number or a schedule.
        decay: decay rate of the squared gradients, 0 to below 1.
        eps: added to the denominator.
        momentum: momentum coefficient, 0 to below 1.
        weight_decay: L2 penalty, added to the gradient.
        decay_all: decay biases and norm parameters too.
        epsilon_in_sqrt: add eps under the square root, as optax does by default.
        rate_in_momentum: multiply by the learning rate before the momentum, as optax and TensorFlow do.
    """
    check(at_least_0={"eps": eps, "weight_decay": weight_decay}, below_1={"decay": decay, "momentum": momentum})
    scaled = optax.scale_by_rms(decay, eps, eps_in_sqrt=epsilon_in_sqrt)
    steps = [optax.scale_by_learning_rate(learning_rate), optax.trace(momentum) if momentum else optax.identity()]
    ordered = steps if rate_in_momentum else steps[::-1]
    return optax.chain(coupled_decay(weight_decay, decay_all), optax.chain(scaled, *ordered))


@register("adagrad")
def adagrad(
    *,
    learning_rate: LearningRate = 1e-2,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
    decay_all: bool = False,
    initial_accumulator: float = 0.0,
    epsilon_in_sqrt: bool = False,
) -> optax.GradientTransformation:
    """Build Adagrad (J. Duchi et al., JMLR 2011) as in PyTorch; weight decay is L2 regularization.

    Args:
        learning_rate: a number or a schedule.
        eps: added to the denominator.
        weight_decay: L2 penalty, added to the gradient.
        decay_all: decay biases and norm parameters too.
        initial_accumulator: the sum of squared gradients before the first step; optax and TensorFlow have 0.1.
        epsilon_in_sqrt: add eps under the square root, as optax does.
    """
    check(at_least_0={"eps": eps, "weight_decay": weight_decay, "initial_accumulator": initial_accumulator}, below_1={})
    scaled = optax.scale_by_rss(initial_accumulator, eps)
    if not epsilon_in_sqrt:
        scaled = optax.GradientTransformation(scaled.init, partial(_divide_by_root_of_sum, eps=eps))
    scaled = optax.chain(scaled, optax.scale_by_learning_rate(learning_rate))
    return optax.chain(coupled_decay(weight_decay, decay_all), scaled)


def _divide_by_root_of_sum(updates, state, params=None, *, eps: float):
    """Divide by the root of the sum of squared gradients, plus eps; a parameter without gradients so far stays."""
    sums = jax.tree.map(lambda g, total: total + jnp.square(g), updates, state.sum_of_squares)
    updates = jax.tree.map(lambda g, total: jnp.where(total > 0, g / (jnp.sqrt(total) + eps), 0), updates, sums)
    return updates, optax.ScaleByRssState(sum_of_squares=sums)
