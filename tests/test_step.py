"""One step for every task: padding, batch size and gradient accumulation do not change results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import registry, training_setup
from jaxvision import run as runs
from jaxvision.config import Config, Execution
from jaxvision.data import open_dataset
from jaxvision.distributed.compilation import compile_eval
from jaxvision.distributed.mesh import make_mesh
from jaxvision.engine import pipeline, step
from jaxvision.engine.augmentation import chain
from jaxvision.engine.inference import infer_split
from jaxvision.engine.precision import with_precision
from jaxvision.interfaces import Gradient, Preprocessing

CONFIG = Config(dataset="synthetic(num_examples=75, num_classes=3, image_size=8)", batch_size=12)
MODEL = "cnn(channels=(4, 4), dense=(8,), padding='SAME', batch_norm=True, dropout=0.2)"


def made(config=CONFIG, **changes):
    config = config.replace(**{"model": MODEL, **changes})
    data = open_dataset(config)
    return runs.build(config, data), data


def test_metrics_do_not_depend_on_batch_size_padding_or_devices():
    run, data = made()
    params, state = jax.jit(run.model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    eval_step = step.make_eval_step(run.model, run.task)

    def judged(num_devices, batch_size):
        mesh = make_mesh(f"data={num_devices}")
        compiled = compile_eval(eval_step, mesh)
        return infer_split(compiled, params, state, data.train, batch_size=batch_size, mesh=mesh)

    found = [judged(n, size) for n, size in ((1, 1), (1, 7), (2, 64), (4, 8), (4, 1000))]
    for values, outputs in found[1:]:
        assert values == pytest.approx(found[0][0], rel=1e-5)
        for ours, first in zip(outputs[:2], found[0][1][:2], strict=True):
            np.testing.assert_allclose(ours, first, atol=1e-5)


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
        mean = registry.gradients.build("mean")
        return step.make_train_step(run.model, run.task, optimizer, chain([]), gradient=mean)(before, batch)

    one, other = moved(real), moved(padded)
    for a, b in zip(jax.tree.leaves(one[0].params), jax.tree.leaves(other[0].params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert float(one[1]["loss"]) == pytest.approx(float(other[1]["loss"]), rel=1e-5)


def test_another_gradient_can_stand_in():
    run, data = made(model="mlp(hidden=(5,))")
    optimizer = registry.optimizers.build("sgd(momentum=0.0)", learning_rate=1.0)
    state = step.init_state(run.model, optimizer, jnp.zeros((1, 8, 8, 3)), seed=0)

    def microbatch(loss, params, model_state, batch, key):
        values, model_state = loss(params, model_state, batch, key)
        sums = {name: (value * batch["mask"]).sum() for name, value in values.items()}
        return jax.tree.map(jnp.zeros_like, params), sums, model_state

    none = Gradient(microbatch, lambda sums, count, key: sums)

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


@pytest.mark.parametrize(("precision", "dtype"), [("f64", jnp.float64), ("bf16", jnp.float32)])
def test_what_a_model_adapts_keeps_its_type(precision, dtype):
    inner = registry.models.build("airbench94(channels=(4, 4, 4))", output_size=3, input_size=(9, 9, 3))
    images = np.random.default_rng(0).integers(0, 256, (20, 9, 9, 3), np.uint8)
    with jax.enable_x64(precision == "f64"):
        model = with_precision(inner, Preprocessing((9, 9), 3, (0.5,) * 3, (0.25,) * 3), precision=precision)
        params, state = model.init(jax.random.key(0), images[:1])
        _, adapted = model.adapt(params, state, images)
    assert adapted["whitening"]["kernel"].dtype == state["whitening"]["kernel"].dtype == dtype


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "fits"), [(54, 1, True), (27, 2, True), (55, 1, False), (28, 2, False)]
)
def test_steps_larger_than_the_training_split_are_refused(batch_size, accumulate, fits):
    config = CONFIG.replace(model="mlp(hidden=())", batch_size=batch_size, grad_accum_steps=accumulate)
    data = open_dataset(config)
    run = runs.build(config, data, execution=Execution(mesh="data=1"))
    assert len(data.train) == 54
    if fits:
        assert training_setup.prepare(run, data).num_steps > 0
    else:
        smaller = {1: 32, 2: 16}[accumulate]  # with which the same accumulation fits
        with pytest.raises(ValueError, match=f"takes {batch_size * accumulate} examples .*use --batch_size={smaller}"):
            training_setup.prepare(run, data)
