"""Gradient rules: inputs and calls, with the formula of SAM and a plugin that needs per-example gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvision as jv
from jaxvision import data as datas
from jaxvision import registry, training_setup
from jaxvision import run as runs
from jaxvision.engine import pipeline, step

CONFIG = jv.Config(
    dataset="synthetic(num_examples=75, num_classes=3, image_size=4)",
    model="mlp(hidden=())",
    optimizer="sgd(momentum=0.0)",
    schedule="constant",
    learning_rate=0.5,
    batch_size=8,
    steps=3,
    precision="f64",
)
PLUGIN = '''
import jax
import jax.numpy as jnp
import jaxvision as jv
import optax
from jaxvision import registry

@registry.gradients.register("clipped_examples")
def clipped_examples(
    *, clip: float = 1.0, noise: float = 0.0, batch_size: int = 0, num_examples: int = 0, num_steps: int = 0
):
    """Gradients of single examples, clipped and summed, with noise that is added once a step."""
    assert batch_size and num_examples and num_steps

    def microbatch(loss, params, model_state, batch, key):
        def of_example(example, key):
            def total(params):
                values, _ = loss(params, model_state, jax.tree.map(lambda row: row[None], example), key)
                return values["loss"][0], {name: value[0] for name, value in values.items()}

            gradient, values = jax.grad(total, has_aux=True)(params)
            scale = jnp.minimum(1, clip / optax.tree.norm(gradient)) * example["mask"]
            return jax.tree.map(lambda g: scale * g, gradient), values

        keys = jax.random.split(key, len(batch["mask"]))
        gradients, values = jax.vmap(of_example)(batch, keys)
        sums = jax.tree.map(lambda g: g.sum(axis=0), gradients)
        return sums, {name: (value * batch["mask"]).sum() for name, value in values.items()}, model_state

    def finish(sums, count, key):
        leaves, tree = jax.tree.flatten(sums)
        keys = jax.random.split(key, len(leaves))
        drawn = [noise * jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves)]
        return jax.tree.map(lambda total, z: (total + z) / batch_size, sums, jax.tree.unflatten(tree, drawn))

    return jv.Gradient(microbatch=microbatch, finish=finish)
'''


@pytest.fixture(autouse=True)
def _single_precision_after():
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def plugin(tmp_path):
    """The registered rule of a plug-in file; registered once, as a second file would take its name."""
    if "clipped_examples" not in registry.gradients.names():
        file = tmp_path / "clipping_rule.py"
        file.write_text(PLUGIN)
        from jaxvision.plugins import load_plugins

        load_plugins([str(file)])
    return "clipped_examples"


def prepared(config, execution=None, mesh="data=1"):
    execution = execution or jv.Execution(mesh=mesh)
    data = datas.open_dataset(config)
    return training_setup.prepare(runs.build(config, data, execution=execution), data)


def trained(config, *, mesh="data=1", num_steps=3, execution=None):
    """Takes a number of steps: the state after them."""
    setup = prepared(config, execution, mesh)
    state = setup.make_state()[0]
    batches = pipeline.train_batches(setup.data.train, config.effective_batch_size, seed=0)
    for _, batch in zip(range(num_steps), batches, strict=False):
        state, means, _ = setup.train_step(state, batch, 0)
        jax.block_until_ready(means)
    batches.close()
    return jax.device_get((state.params, means))


def assert_close(one, other, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.linalg.norm(a - b) <= tolerance * max(np.linalg.norm(a), 1e-30)


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def test_a_step_of_sam_is_its_formula():
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    batch = {"inputs": rng.normal(size=(8, 4, 4, 1)), "targets": rng.integers(0, 3, 8), "mask": np.ones(8)}
    model = registry.models.build("mlp(hidden=())", output_size=3)
    params, _ = model.init(jax.random.key(0), batch["inputs"])
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
    optimizer = registry.optimizers.build("sgd(momentum=0.0)", learning_rate=0.5)
    task = registry.tasks.build("multiclass", num_classes=3)
    rule = registry.gradients.build("sam(rho=0.1)")
    state = step.init_state(model, optimizer, batch["inputs"], seed=0, start=(params, {}))
    train_step = step.make_train_step(model, task, optimizer, lambda key, batch: batch, gradient=rule)
    before, after = jax.device_get((params, train_step(state, batch)[0].params))
    x = batch["inputs"].reshape(8, -1)
    y = np.eye(3)[batch["targets"]]
    w, b = before["head"]["kernel"], before["head"]["bias"]

    def gradient(w, b):
        error = (softmax(x @ w + b) - y) / 8
        return x.T @ error, error.sum(axis=0)

    dw, db = gradient(w, b)
    scale = 0.1 / np.sqrt((dw**2).sum() + (db**2).sum())
    dw, db = gradient(w + scale * dw, b + scale * db)
    np.testing.assert_allclose(after["head"]["kernel"], w - 0.5 * dw, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(after["head"]["bias"], b - 0.5 * db, rtol=1e-12, atol=1e-12)
    plain = w - 0.5 * gradient(w, b)[0]
    assert np.abs(after["head"]["kernel"] - plain).max() > 1e-6  # that the second gradient was another


@pytest.mark.parametrize("mesh", ["data=4", "data=2,fsdp=2", "pmap"])
@pytest.mark.parametrize("model", ["mlp(hidden=(8,))", "cnn(channels=(4,), dense=(8,), batch_norm=True)"])
def test_sam_agrees_on_devices(mesh, model):
    config = CONFIG.replace(gradient="sam", model=model, dataset=CONFIG.dataset.replace("image_size=4", "image_size=8"))
    execution = jv.Execution(parallel="pmap", mesh="data=4") if mesh == "pmap" else jv.Execution(mesh=mesh)
    assert_close(trained(config), trained(config, execution=execution))


def test_sam_keeps_the_state_of_its_first_pass():
    model = "cnn(channels=(4,), dense=(8,), batch_norm=True)"
    config = CONFIG.replace(model=model, dataset=CONFIG.dataset.replace("image_size=4", "image_size=8"))
    states = []
    for gradient in ("mean", "sam(rho=5.0)"):
        setup = prepared(config.replace(gradient=gradient))
        batch = next(pipeline.train_batches(setup.data.train, 8, seed=0))
        states.append(jax.device_get(setup.train_step(setup.make_state()[0], batch, 0)[0].model_state))
    assert_close(*states, tolerance=0)


def test_a_flat_place_stays_finite():
    rule = registry.gradients.build("sam")

    def loss(params, state, batch, key):
        return {"loss": jnp.zeros(4) * params["w"]}, state

    batch = {"mask": jnp.ones(4)}
    gradients, _, _ = rule.microbatch(loss, {"w": jnp.ones(())}, {}, batch, None)
    assert float(gradients["w"]) == 0.0


DROPPING = CONFIG.replace(model="mlp(hidden=(8,), dropout=0.5)", batch_size=4, grad_accum_steps=4)


def by_examples(config, clip):
    """A step with the clipped gradients of single examples, taken one after the other: a loop of jax.grad."""
    setup = prepared(config)
    run, state = setup.run, setup.make_state()[0]
    batch = next(pipeline.train_batches(setup.data.train, config.effective_batch_size, seed=0))
    step_key = jax.random.fold_in(state.key, state.step)
    keys = jax.random.split(jax.random.split(step_key)[1], config.grad_accum_steps)
    total = jax.tree.map(lambda p: np.zeros(p.shape), state.params)
    for part in range(config.grad_accum_steps):
        places = np.arange(part, config.effective_batch_size, config.grad_accum_steps)
        for place, key in zip(places, jax.random.split(keys[part], len(places)), strict=True):
            example = {name: jnp.asarray(rows[place : place + 1]) for name, rows in batch.items()}

            def loss(params, example, key):
                values, _ = run.task.loss(run.model, params, state.model_state, example, train=True, key=key)
                return values["loss"][0]

            gradient = jax.device_get(jax.jit(jax.grad(loss))(state.params, example, key))
            norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
            scale = min(1, clip / norm)
            total = jax.tree.map(lambda t, g, scale=scale: t + scale * g, total, gradient)
    return jax.tree.map(lambda p, g: np.asarray(p) - 0.5 * g / config.effective_batch_size, state.params, total)


def test_gradients_of_examples_are_those_of_a_loop(plugin):
    config = DROPPING.replace(gradient=f"{plugin}(clip=0.5)")
    found = trained(config, num_steps=1)[0]
    assert_close(found, by_examples(config, 0.5), 1e-10)
    assert_close(
        trained(config.replace(gradient=f"{plugin}(clip=1e9)"), num_steps=1)[0], by_examples(config, 1e9), 1e-10
    )


@pytest.mark.parametrize("mesh", ["data=4", "fsdp=4"])
def test_a_rule_of_a_plugin_runs_on_devices_with_noise_once(plugin, mesh):
    config = CONFIG.replace(model="mlp(hidden=(8,))", gradient=f"{plugin}(clip=0.5, noise=1.0)", grad_accum_steps=2)
    one = trained(config)
    assert_close(one, trained(config, mesh=mesh))
    quiet = trained(config.replace(gradient=f"{plugin}(clip=0.5)"))
    assert np.abs(one[0]["head"]["kernel"] - quiet[0]["head"]["kernel"]).max() > 1e-3


def test_noise_is_added_once_a_step_whatever_is_accumulated(plugin):
    """The difference that noise makes to a step is the same for one batch and for four microbatches."""
    moved = []
    for batch_size, accumulate in ((16, 1), (4, 4)):
        config = CONFIG.replace(batch_size=batch_size, grad_accum_steps=accumulate)
        noisy, quiet = (
            trained(config.replace(gradient=f"{plugin}(clip=0.5, noise={noise})"), num_steps=1)[0]
            for noise in (1.0, 0.0)
        )
        moved.append(jax.tree.map(np.subtract, noisy, quiet))
    assert_close(*moved)


def test_a_rule_of_a_plugin_leaves_frozen_parameters(plugin):
    config = CONFIG.replace(model="mlp(hidden=(8,))", gradient=f"{plugin}(clip=0.5, noise=1.0)", freeze="backbone")
    before = jax.device_get(prepared(config).make_state()[0].params)
    after = trained(config)[0]
    for name in before:
        moved = np.abs(after[name]["kernel"] - before[name]["kernel"]).max()
        assert (moved > 0) == (name == "head")


def test_a_rule_of_a_plugin_is_listed_run_and_printed(plugin, tmp_path, capsys):
    assert plugin in registry.gradients.names()
    config = CONFIG.replace(gradient=f"{plugin}(clip=0.5)", precision="f32")
    result = jv.train(config, workdir=tmp_path / "run", execution=jv.Execution(mesh="data=1"))
    assert result.test is not None and "loss" in result.test
    assert "gradient_norm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("sam(rho=0.0)", "rho=0.0; expected a number above 0"),
        ("sma", "unknown gradient 'sma'; did you mean 'sam'"),
        ("sam(axis_name='x')", "'axis_name' is set by the run"),
    ],
)
def test_rules_that_cannot_be_are_refused(spec, why, tmp_path):
    with pytest.raises(ValueError, match=why):
        jv.train(CONFIG.replace(gradient=spec), workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
