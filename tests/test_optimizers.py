"""What the factories add to optax: defaults, masks, clipping, schedules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import registry
from jaxvision.config import Config
from jaxvision.training_setup import make_optimizer

PARAMS = {"kernel": jnp.full((4, 3), 2.0), "bias": jnp.full((3,), 2.0)}
ZERO = jax.tree.map(jnp.zeros_like, PARAMS)
DECAYING = ["sgd", "adamw", "lion", "lamb", "rmsprop", "adagrad", "muon"]


def moved(spec, gradients=ZERO, rate=0.1):
    optimizer = registry.optimizers.build(spec, learning_rate=rate)
    updates, _ = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    return updates


@pytest.mark.parametrize("name", DECAYING)
def test_weight_decay_leaves_biases_out_unless_told(name):
    masked, everywhere = moved(f"{name}(weight_decay=0.1)"), moved(f"{name}(weight_decay=0.1, decay_all=True)")
    assert (np.asarray(masked["kernel"]) < 0).all() and (np.asarray(masked["bias"]) == 0).all()
    assert (np.asarray(everywhere["bias"]) < 0).all()


def test_sgd_by_hand():
    optimizer = registry.optimizers.build("sgd(momentum=0.5, weight_decay=0.1)", learning_rate=0.1)
    state, params, velocity, kernel = optimizer.init(PARAMS), PARAMS, 0.0, 2.0
    for _ in range(3):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        velocity = 0.5 * velocity + (1 + 0.1 * kernel)  # as in PyTorch: the decay joins the gradient
        kernel -= 0.1 * velocity
    np.testing.assert_allclose(params["kernel"], kernel, rtol=1e-6)


def test_nesterov_and_momentum_act():
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    plain, nesterov = moved("sgd(momentum=0.9)", ones), moved("sgd(momentum=0.9, nesterov=True)", ones)
    np.testing.assert_allclose(plain["kernel"], -0.1)
    np.testing.assert_allclose(nesterov["kernel"], -0.19, rtol=1e-6)


def test_clipping_bounds_the_global_norm():
    config = Config(optimizer="sgd(momentum=0.0)", schedule="constant", learning_rate=1.0, grad_clip_norm=0.5)
    optimizer, _ = make_optimizer(config, num_steps=1)
    gradients = jax.tree.map(lambda p: 7 * jnp.ones_like(p), PARAMS)
    updates, _ = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    norm = np.sqrt(sum(float((u**2).sum()) for u in jax.tree.leaves(updates)))
    assert norm == pytest.approx(0.5, rel=1e-5)


def test_muon_makes_matrices_orthogonal_and_leaves_biases_to_adam():
    gradients = {"kernel": jax.random.normal(jax.random.key(0), (3, 3, 2, 4)), "bias": jnp.ones(4)}
    params = jax.tree.map(jnp.zeros_like, gradients)
    optimizer = registry.optimizers.build("muon(nesterov=False)", learning_rate=0.1)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    singular = np.linalg.svd(np.asarray(updates["kernel"]).reshape(18, 4), compute_uv=False)
    assert singular.max() / singular.min() < 2  # five iterations reach this, not more
    np.testing.assert_allclose(updates["bias"], -0.1, rtol=1e-3)


def test_muon_sgd_keeps_kernels_at_a_norm_and_moves_the_rest_at_rates_of_their_own():
    shapes = {"kernel": (3, 3, 2, 4), "dense": (6, 5), "bias": (4,), "position_embedding": (1, 7, 3)}
    keys = dict(zip(shapes, jax.random.split(jax.random.key(0), 4), strict=True))
    params = {name: jax.random.normal(keys[name], shape) for name, shape in shapes.items()}
    gradients = jax.tree.map(lambda p: jnp.cos(5 * p), params)
    spec = "muon_sgd(num_iterations=10, dense_ratio=3.0, bias_ratio=2.0, sgd_momentum=0.5, weight_decay=0.6)"
    optimizer = registry.optimizers.build(spec, learning_rate=0.1)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    kernel = params["kernel"] * 2 / np.linalg.norm(params["kernel"])  # at the norm of the root of 4 outputs
    singular = np.linalg.svd((params["kernel"] + updates["kernel"] - kernel).reshape(18, 4) / 0.1, compute_uv=False)
    assert singular.min() > 0.6 and singular.max() < 1.4
    for name, ratio in (
        ("dense", 3.0),
        ("bias", 2.0),
        ("position_embedding", 3.0),
    ):  # Nesterov's first step takes the gradient one and a half times
        expected = -0.1 * ratio * 1.5 * (gradients[name] + 0.6 / ratio * params[name])
        np.testing.assert_allclose(updates[name], expected, rtol=1e-5)


def rates(spec, num_steps=100, peak=1.0):
    schedule = registry.schedules.build(spec, learning_rate=peak, num_steps=num_steps)
    return np.array([float(schedule(i)) for i in range(num_steps + 1)])


def test_schedules_by_hand():
    assert (rates("constant") == 1).all()
    np.testing.assert_allclose(rates("cosine"), (1 + np.cos(np.pi * np.arange(101) / 100)) / 2, atol=1e-6)
    np.testing.assert_allclose(rates("linear(end=0.5)"), 1 - np.arange(101) / 200, rtol=1e-6)
    step = rates("step(at=(0.3, 0.6), factor=0.5)")
    assert (step[:30] == 1).all() and (step[31:60] == 0.5).all() and (step[61:] == 0.25).all()
    cycle = rates("one_cycle(warmup=0.2, start=0.1, end=0.01)")
    np.testing.assert_allclose(cycle[[0, 20, 100]], [0.1, 1.0, 0.01], rtol=1e-5)


@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "step"])
def test_warm_up_rises_from_the_first_step_to_the_peak(name):
    warmed = rates(f"{name}(warmup=0.1)")
    np.testing.assert_allclose(warmed[:10], np.arange(1, 11) / 10, rtol=1e-5)
    assert warmed[10] == pytest.approx(1.0)
    np.testing.assert_allclose(rates(name)[-1], warmed[-1], atol=1e-6)


def test_two_steps_of_a_short_run_may_fall_on_one():
    assert rates("step(at=(0.5, 0.52))", num_steps=10)[-1] == pytest.approx(0.01)


@pytest.mark.parametrize(
    "spec",
    [
        "cosine(end=-1.0)",
        "linear(end=2.0)",
        "one_cycle(start=30.0)",
        "cosine(warmup=1.0)",
        "step(at=(0.7, 0.2))",
        "one_cycle(warmup=0.0)",
    ],
)
def test_impossible_schedules_are_refused(spec):
    with pytest.raises(ValueError, match="expected"):
        rates(spec)
