"""NNX modules under the Model contract: outputs, training, and bitwise resume."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_train import arrays, rows

import jaxvision as jv
from jaxvision import testing


class Told(nnx.Module):
    """Tells its layers whether they train; has a list, two dropouts of one shape, and a table made by NumPy."""

    def __init__(self, output_size, *, rngs):
        self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(6, 6, rngs=rngs) for _ in range(2)])
        self.dropouts = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])
        self.table = np.linspace(0, 1, 6, dtype=np.float32)
        self.head = nnx.Linear(6, output_size, rngs=rngs)

    def __call__(self, x, train):
        x = nnx.relu(self.norm(self.conv(x), use_running_average=not train)).mean(axis=(1, 2)) + self.table
        for layer, dropout in zip(self.layers, self.dropouts, strict=True):
            x = dropout(nnx.relu(layer(x) + 1), deterministic=not train)
        return self.head(x)


class Untold(Told):
    """The same, set by NNX's train() and eval()."""

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x))).mean(axis=(1, 2)) + self.table
        for layer, dropout in zip(self.layers, self.dropouts, strict=True):
            x = dropout(nnx.relu(layer(x) + 1))
        return self.head(x)


@jv.models.register("nnx_told")
def told(*, output_size: int) -> jv.Model:
    """A small NNX network."""
    return jv.from_nnx(lambda rngs: Told(output_size, rngs=rngs), head="head")


@jv.models.register("nnx_untold")
def untold(*, output_size: int) -> jv.Model:
    """A small NNX network."""
    return jv.from_nnx(lambda rngs: Untold(output_size, rngs=rngs), head="head")


INPUTS = jax.random.normal(jax.random.key(1), (4, 6, 6, 3))


def equal(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.mark.parametrize("name", ["nnx_told", "nnx_untold"])
def test_the_contract_is_kept(name):
    testing.check_model(name)


@pytest.mark.parametrize("make", [told, untold])
def test_outputs_are_the_modules_own(make):
    model, key = make(output_size=3), jax.random.key(0)
    params, state = model.init(key, INPUTS)
    assert {*params["layers"]} == {"0", "1"} and params["head"]["kernel"].shape == (6, 3)
    assert {*state["batch_stats"]["norm"]} == {"mean", "var"} and {*state["variables"]} == {"table"}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((params, state)))
    module = (Told if make is told else Untold)(3, rngs=nnx.Rngs(key))
    module.eval()
    wanted = module(INPUTS, train=False) if make is told else module(INPUTS)
    found = model.apply(params, state, INPUTS, train=False, key=None)[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("make", [told, untold])
def test_randomness_is_that_of_the_key(make):
    model = make(output_size=3)
    params, state = model.init(jax.random.key(0), INPUTS)

    @jax.jit
    def train(seed, state):
        return model.apply(params, state, INPUTS, train=True, key=jax.random.key(seed))

    once, new = train(1, state)
    assert equal(once, train(1, new)[0])  # no count goes on in the state
    assert not equal(once, train(2, state)[0]) and not equal(state, new)
    np.testing.assert_allclose(
        once, model.apply(params, state, INPUTS, train=True, key=jax.random.key(1))[0], rtol=1e-5
    )
    with pytest.raises(ValueError, match="apply needs a key"):
        model.apply(params, state, INPUTS, train=True, key=None)


def test_two_dropouts_of_one_shape_drop_differently():
    class Twice(nnx.Module):
        def __init__(self, *, rngs):
            self.one, self.other = (nnx.Dropout(0.5, rngs=rngs) for _ in range(2))

        def __call__(self, x):
            return jnp.stack([self.one(x), self.other(x)])

    one, other = jv.from_nnx(Twice).apply({}, {}, jnp.ones((64,)), train=True, key=jax.random.key(0))[0]
    assert not equal(one, other) and set(np.unique(one)) == set(np.unique(other)) == {0, 2}


@pytest.mark.parametrize("make", [told, untold])
def test_frozen_parts_act_as_in_evaluation(make):
    model = make(output_size=3)
    params, state = model.init(jax.random.key(0), INPUTS)
    assert model.freeze is not None
    every = frozenset({"conv", "norm", "dropouts", "dropouts/0", "dropouts/1"})
    outputs, new = model.freeze(every).apply(params, state, INPUTS, train=True, key=jax.random.key(1))
    assert equal(new, state)
    if make is untold:  # what is told at the call is its own affair, but for statistics
        assert equal(outputs, model.apply(params, state, INPUTS, train=False, key=None)[0])
    assert not equal(model.apply(params, state, INPUTS, train=True, key=jax.random.key(1))[1], state)


class Tapped(Told):
    """Names two maps, and its inner module one that is no feature."""

    def __call__(self, x):
        x = jv.tap(self, "conv", self.conv(x)).mean(axis=(1, 2))
        return self.head(jv.tap(self, "pooled", jv.tap(self.conv, "inner", x)))


def test_maps_that_an_nnx_module_names_are_its_features():
    model = jv.from_nnx(lambda rngs: Tapped(3, rngs=rngs), head="head")
    params, state = model.init(jax.random.key(0), INPUTS)
    outputs = model.apply(params, state, INPUTS, train=False, key=None)[0]
    maps = model.features(params, state, INPUTS)
    assert list(maps) == ["conv", "pooled", "outputs"]
    assert equal(maps["outputs"], outputs)
    head = params["head"]
    np.testing.assert_allclose(maps["pooled"] @ head["kernel"] + head["bias"], outputs, rtol=1e-5, atol=1e-6)
    moved = model.features(params, state, INPUTS, add={"conv": jnp.ones_like(maps["conv"])})
    np.testing.assert_allclose(moved["pooled"], maps["pooled"] + 1, rtol=1e-5, atol=1e-6)
    assert list(told(output_size=3).features(*told(output_size=3).init(jax.random.key(0), INPUTS), INPUTS)) == [
        "outputs"
    ]


def test_a_plain_array_is_refused():
    class Plain(nnx.Module):
        def __init__(self, *, rngs):
            self.inner = nnx.Linear(2, 2, rngs=rngs)
            self.inner.table = jnp.arange(3.0)

    with pytest.raises(ValueError, match=r"inner\.table of the module Plain is a plain jax\.Array.*nnx\.Variable"):
        jv.from_nnx(Plain).init(jax.random.key(0), INPUTS)


@pytest.mark.parametrize(
    ("options", "mesh"),
    [
        ({"model": "nnx_told"}, ""),
        ({"model": "nnx_untold", "grad_accum_steps": 2, "precision": "bf16"}, "data=2,fsdp=2"),
    ],
)
def test_training_resumes_bit_for_bit(tmp_path, options, mesh):
    config = jv.Config(
        dataset="synthetic(num_examples=107, num_classes=3, image_size=8, channels=3)",
        batch_size=20, augmentations="horizontal_flip", steps=4, eval_every=2, **options,
    )  # fmt: skip
    execution = jv.Execution(mesh=mesh, save_every=2)
    whole = jv.train(config, execution=execution, workdir=tmp_path / "whole")
    shutil.copytree(whole.workdir, tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "4")
    resumed = jv.train(config, execution=execution, workdir=tmp_path / "again")
    assert arrays(resumed.workdir) == arrays(whole.workdir) != arrays(whole.workdir, 2)
    assert rows(resumed.workdir) == rows(whole.workdir)
    assert jv.predict(whole.workdir, np.zeros((2, 8, 8, 3), np.uint8)).probabilities.shape == (2, 3)


def test_layers_come_in_the_order_in_which_the_module_makes_them():
    from jaxvision.engine import transfer

    class Deep(nnx.Module):
        def __init__(self, *, rngs):
            self.stem = nnx.Linear(3, 4, rngs=rngs)
            self.block1 = nnx.Linear(4, 4, rngs=rngs)
            self.block2 = nnx.Linear(4, 4, rngs=rngs)
            self.head = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.head(self.block2(self.block1(self.stem(x.mean(axis=(1, 2))))))

    model = jv.from_nnx(Deep, head="head")
    order = transfer.order(model, jax.ShapeDtypeStruct((1, 4, 4, 3), np.float32))
    assert order == ["stem", "block1", "block2", "head"]
    params, _ = model.init(jax.random.key(0), np.zeros((1, 4, 4, 3), np.float32))
    scales = transfer.layer_scales(params, order, 0.5, head="head")
    assert {name: part["kernel"] for name, part in scales.items()} == {
        "stem": 0.125,
        "block1": 0.25,
        "block2": 0.5,
        "head": 1.0,
    }
