"""One step for every task: devices, padding and batch size do not change a result, and it compiles once."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import parallel, pipeline, registry, step
from jaxvision import run as runs
from jaxvision.augments import chain
from jaxvision.config import Config
from jaxvision.evaluate import run_split

CONFIG = Config(dataset="synthetic(num_examples=75, num_classes=3, image_size=8)", batch_size=12)
MODEL = "cnn(channels=(4, 4), dense=(8,), padding='SAME', batch_norm=True, dropout=0.2)"


def made(config=CONFIG, **changes):
    config = config.replace(**{"model": MODEL, **changes})
    data = runs.open_dataset(config)
    return runs.build(config, data), data


def trained(run, data, mesh, *, num_steps=10, dtype=jnp.float32):
    optimizer = registry.optimizers.build("adam", learning_rate=1e-2)
    augment = chain([registry.augments.build(s) for s in registry.parse_list("flip, crop(padding=1)")])
    example = jnp.zeros((1, *run.signature.preprocessing.size, 3), dtype)
    state = jax.jit(lambda: step.init_state(run.model, optimizer, example, seed=0))()
    state = state._replace(params=jax.tree.map(lambda p: p.astype(dtype), state.params))
    state = jax.device_put(state._replace(opt_state=optimizer.init(state.params)), parallel.replicated(mesh))
    train_step = step.make_train_step(run.model, run.task, optimizer, augment)
    means = {}
    batches = pipeline.train_batches(data.train, 12, seed=0)
    for _, batch in zip(range(num_steps), batches, strict=False):
        batch = {**batch, "inputs": batch["inputs"].astype(dtype) / 255}
        state, means = train_step(state, parallel.put_batch(batch, mesh))
        jax.block_until_ready(means)
    batches.close()
    return state, {name: float(value) for name, value in means.items()}


def norm(tree):
    return np.sqrt(sum(float((np.asarray(leaf, np.float64) ** 2).sum()) for leaf in jax.tree.leaves(tree)))


def test_one_and_four_devices_agree():
    run, data = made()
    with jax.enable_x64(True):
        one, four = (trained(run, data, parallel.make_mesh(jax.devices()[:n]), dtype=jnp.float64)[0] for n in (1, 4))
    difference = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), one.params, four.params)
    assert one.params["conv1"]["kernel"].dtype == np.float64
    assert norm(difference) <= 1e-9 * norm(one.params)
    losses = [trained(run, data, parallel.make_mesh(jax.devices()[:n]))[1]["loss"] for n in (1, 4)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_a_step_compiles_once(caplog):
    run, data = made(model="mlp(hidden=(5,))")
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        trained(run, data, parallel.make_mesh(), num_steps=5)
    assert sum("Finished XLA compilation of jit(train_step)" in r.getMessage() for r in caplog.records) == 1


def test_metrics_do_not_depend_on_batch_size_padding_or_devices():
    run, data = made()
    params, state = jax.jit(run.model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    eval_step = step.make_eval_step(run.model, run.task)
    found = [
        run_split(run._replace(mesh=parallel.make_mesh(jax.devices()[:n])), eval_step, params, state, data.train, size)
        for n, size in ((1, 1), (1, 7), (2, 64), (4, 8), (4, 1000))
    ]
    for values, predictions in found[1:]:
        assert values == pytest.approx(found[0][0], rel=1e-5)
        np.testing.assert_allclose(predictions, found[0][1], atol=1e-6)


def test_padding_has_no_gradient():
    run, data = made(model="mlp(hidden=(5,))")
    real = next(pipeline.eval_batches(data.train, 8))
    padded = {
        "inputs": np.concatenate([real["inputs"], 255 - real["inputs"]]),
        "targets": np.concatenate([real["targets"], (real["targets"] + 1) % 3]),
        "mask": np.concatenate([real["mask"], np.zeros(8, np.float32)]),
    }

    def moved(batch):
        optimizer = registry.optimizers.build("sgd(momentum=0.0)", learning_rate=1.0)
        before = step.init_state(run.model, optimizer, jnp.zeros((1, 8, 8, 3)), seed=0)
        return step.make_train_step(run.model, run.task, optimizer, chain([]))(before, batch)

    one, other = moved(real), moved(padded)
    for a, b in zip(jax.tree.leaves(one[0].params), jax.tree.leaves(other[0].params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert float(one[1]["loss"]) == pytest.approx(float(other[1]["loss"]), rel=1e-5)


def test_another_gradient_can_stand_in():
    run, data = made(model="mlp(hidden=(5,))")
    optimizer = registry.optimizers.build("sgd(momentum=0.0)", learning_rate=1.0)
    state = step.init_state(run.model, optimizer, jnp.zeros((1, 8, 8, 3)), seed=0)

    def none(loss, params):
        return jax.tree.map(jnp.zeros_like, params), loss(params)[1]

    before = jax.tree.map(np.array, state.params)
    train_step = step.make_train_step(run.model, run.task, optimizer, chain([]), gradient=none)
    state, means = train_step(state, next(pipeline.eval_batches(data.train, 8)))
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(state.params), strict=True)
    )
    assert float(means["loss"]) > 0


def test_pixels_and_floats_are_normalised_alike():
    run, data = made(model="mlp(hidden=())")
    params, state = run.model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    pixels = data.test.read(np.arange(4))
    one, other = (
        run.model.apply(params, state, jnp.array(inputs), train=False, key=None)[0]
        for inputs in (pixels, pixels.astype(np.float32) / 255)
    )
    np.testing.assert_allclose(one, other, atol=1e-5)
    mean, std = run.signature.preprocessing.mean, run.signature.preprocessing.std
    inner = registry.models.build("mlp(hidden=())", output_size=3)
    by_hand = inner.apply(params, state, jnp.array((pixels / 255 - mean) / std, jnp.float32), train=False, key=None)[0]
    np.testing.assert_allclose(one, by_hand, atol=1e-4)


def test_batches_that_devices_cannot_share_are_refused():
    mesh = parallel.make_mesh()
    with pytest.raises(ValueError, match="batch_size=30 cannot be split over 4 devices; the nearest are 28 or 32"):
        parallel.check_batch_size(30, mesh)
    parallel.check_batch_size(32, mesh)
