"""What a plug-in does wrong is refused in one line, and what it sets is kept."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvision as jv
from jaxvision import registry, threshold_file
from jaxvision import run as runs
from jaxvision.config import is_same
from jaxvision.data import open_dataset
from jaxvision.engine.profiling import Profiler

CONFIG = jv.Config(
    dataset="synthetic(num_examples=40, num_classes=2, image_size=8)", model="mlp(hidden=())", steps=1, batch_size=8
)


@pytest.fixture
def registered(monkeypatch):
    """Returns a function that registers a factory for the test only."""

    def register(kind, name, factory):
        names = registry.REGISTRIES[kind]
        names.names()
        monkeypatch.setitem(names._entries, name, registry.Entry(factory, {}))

    return register


class Tiny(nn.Module):
    output_size: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.output_size)(x.mean(axis=(1, 2)))


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_what_an_author_replaces_in_a_model_is_kept_on_devices(parallel, registered):
    def adapt(params, state, inputs):
        return {"Dense_0": {name: jnp.full_like(leaf, 7) for name, leaf in params["Dense_0"].items()}}, state

    def model(*, output_size: int):
        return jv.from_linen(Tiny(output_size))._replace(adapt=adapt, head="Dense_0")

    registered("models", "adapted", model)
    config = CONFIG.replace(model="adapted")
    run = runs.build(config, open_dataset(config), execution=jv.Execution(parallel=parallel))
    assert run.model.head == "Dense_0" and run.model.adapt is not None
    params = {"Dense_0": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}
    adapted, _ = run.model.adapt(params, {}, jnp.zeros((1, 8, 8, 3), jnp.uint8))
    assert float(adapted["Dense_0"]["bias"][0]) == 7


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("models", "model", "a jaxvision.Model"),
        ("tasks", "task", "a jaxvision.Task"),
        ("gradients", "gradient", "a jaxvision.Gradient"),
        ("explanations", "explanation", "a jaxvision.Explanation"),
        ("losses", "loss", "a function"),
        ("optimizers", "optimizer", "an object with init and update"),
        ("augmentations", "augmentations", "a function"),
        ("schedules", "schedule", "a function"),
        ("datasets", "dataset", "a jaxvision.Dataset"),
    ],
)
def test_a_factory_that_returns_something_else_is_refused(kind, name, expected, registered):
    registered(kind, "wrong", lambda: 3)
    with pytest.raises(
        TypeError, match=rf"'wrong' of .*test_plugin_contracts.py:\d+ returned int; expected {expected}"
    ):
        registry.REGISTRIES[kind].build("wrong")


def _task(num_classes, **changes):
    return registry.tasks.build("multiclass", num_classes=num_classes)._replace(**changes)


@pytest.mark.parametrize(
    ("values", "found"),
    [({"loss": 0.0}, r"loss of shape \(\)"), ({"error": np.zeros(8, np.float32)}, "no value named loss")],
)
def test_a_loss_without_one_number_for_each_example_is_refused(values, found, registered, tmp_path):
    def loss(model, params, state, batch, *, train, key):
        return {name: jnp.asarray(value) for name, value in values.items()}, state

    registered("tasks", "scalar", lambda *, num_classes: _task(num_classes, loss=loss))
    with pytest.raises(TypeError, match=rf"the task 'scalar' returned {found}; expected one number per example"):
        jv.train(CONFIG.replace(task="scalar"), workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_under_a_name_of_the_log_is_refused(registered, tmp_path):
    def loss(model, params, state, batch, *, train, key):
        return {"loss": jnp.zeros(8), "seconds": jnp.zeros(8)}, state

    registered("tasks", "timed", lambda *, num_classes: _task(num_classes, loss=loss))
    with pytest.raises(TypeError, match="the task 'timed' returned seconds, names that the log uses itself"):
        jv.train(CONFIG.replace(task="timed"), workdir=tmp_path / "run")


def test_a_task_gets_pixels_in_0_to_1_in_training_evaluation_and_prediction(registered, tmp_path):
    """The value is the largest pixel, which would be 255 where the bytes of the files arrive."""

    def loss(model, params, state, batch, *, train, key):
        outputs, state = model.apply(params, state, batch["inputs"], train=train, key=key)
        return {"loss": jnp.mean(outputs**2, axis=1), "peak": batch["inputs"].max(axis=(1, 2, 3))}, state

    def predict(model, params, state, batch):
        return jnp.tile(batch["inputs"].max(axis=(1, 2, 3))[:, None], (1, 3))

    registered("tasks", "peak", lambda *, num_classes: _task(num_classes, loss=loss)._replace(predict=predict))
    result = jv.train(CONFIG.replace(task="peak"), workdir=tmp_path / "run")
    assert 0.5 < result.test["peak"] <= 1
    image = np.full((8, 8, 3), 255, np.uint8)
    assert jv.predict(result.workdir, [image]).predictions.tolist() == [[1.0, 1.0, 1.0]]


def test_a_monitor_that_is_none_is_refused(registered, tmp_path):
    registered("tasks", "old", lambda *, num_classes: _task(num_classes, monitor=("accuracy", "max")))
    with pytest.raises(TypeError, match=r"monitor=\('accuracy', 'max'\); expected jaxvision.Monitor"):
        jv.train(CONFIG.replace(task="old"), workdir=tmp_path / "run")


def test_a_monitor_that_no_evaluation_has_is_refused(registered, tmp_path):
    registered("tasks", "typo", lambda *, num_classes: _task(num_classes, monitor=jv.Monitor("acuracy", "max")))
    with pytest.raises(ValueError, match="monitors 'acuracy', which is not among the validation metrics: accuracy"):
        jv.train(CONFIG.replace(task="typo"), workdir=tmp_path / "run")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("multiclass(loss=focal(gamma=1/2))", "multiclass(loss='focal(gamma=0.5)')", True),
        ("multiclass(loss='focal( gamma=2.0)')", 'multiclass(loss="focal(gamma=2)")', True),
        (
            "multiclass(loss=focal(gamma=2, label_smoothing=.1))",
            "multiclass(loss='focal(label_smoothing=0.1,gamma=2)')",
            True,
        ),
        ("multiclass(loss=focal(gamma=2))", "multiclass(loss=focal(gamma=3))", False),
        ("multiclass(loss=focal)", "multiclass(loss=cross_entropy)", False),
    ],
)
def test_specs_are_compared_by_what_they_mean(one, other, same):
    assert is_same("task", one, other) == same


def test_a_profile_begins_with_whatever_dispatch_comes_after_the_warm_up(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: calls.append("stop"))
    for steps, expected in ((range(0, 40, 8), {8: "start", 16: "stop"}), (range(12), {3: "start", 8: "stop"})):
        profiler, seen = Profiler(tmp_path), {}
        for step in steps:
            calls.clear()
            profiler.before_step(step)
            seen.update(dict.fromkeys([step] * len(calls), calls[-1] if calls else ""))
        assert seen == expected


def test_thresholds_of_several_checkpoints_are_kept(tmp_path):
    threshold_file.save(tmp_path, 7, "none", (0.25,))
    threshold_file.save(tmp_path, 7, "flip", (0.5,))
    threshold_file.save(tmp_path, 7, "none", (0.75,))
    assert threshold_file.load(tmp_path, 7, "none") == (0.75,) and threshold_file.load(tmp_path, 7, "flip") == (0.5,)
    (tmp_path / "thresholds.json").write_text('{"step": 3, "views": "mirrored", "thresholds": [0.1]}')
    assert threshold_file.load(tmp_path, 3, "flip") == (0.1,)
    (tmp_path / "thresholds.json").write_text('{"step": 3}')
    with pytest.raises(ValueError, match=r"damaged.*jaxvision evaluate"):
        threshold_file.load(tmp_path, 3, "flip")


def test_gradients_register_like_the_other_kinds():
    assert callable(jv.gradients.register) and jv.Monitor("loss", "min").key(1.0) == -1.0


@pytest.mark.parametrize("spec", ["sam(rho=1e400)", "sam(rho=1e308/1e-308)", "sam(rho=1/0)"])
def test_numbers_that_are_not_finite_are_refused(spec):
    with pytest.raises(ValueError, match="not finite"):
        registry.gradients.check(spec)
