"""Frozen parameters do not change and cost nothing, layers have their own rates, features are computed once."""

import shutil
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxvision as jv
from jaxvision import probe, registry
from jaxvision import run as runs
from jaxvision.data import open_dataset
from jaxvision.engine import transfer
from jaxvision.engine.precision import with_precision
from jaxvision.interfaces import Preprocessing
from jaxvision.models.linen import tap
from jaxvision.training_setup import prepare
from jaxvision.trees import flatten_with_paths

CONFIG = jv.Config(
    model="resnet20",
    dataset="synthetic(num_examples=90, num_classes=3, image_size=8)",
    optimizer="adam",
    batch_size=12,
    steps=3,
    eval_every=3,
)
SMALL = "cnn(channels=(4, 8), dense=(8,), padding='SAME', batch_norm=True)"
PARAMS = {
    "stem_conv": {"kernel": 0},
    "stage1_block1": {"conv1": {"kernel": 0}, "norm1": {"scale": 0, "bias": 0}},
    "head": {"kernel": 0, "bias": 0},
}


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ("backbone", {"head/kernel", "head/bias"}),
        ("stem_*, head", {"stage1_block1/conv1/kernel", "stage1_block1/norm1/scale", "stage1_block1/norm1/bias"}),
        ("*/norm1", {"stem_conv/kernel", "stage1_block1/conv1/kernel", "head/kernel", "head/bias"}),
        ("*/kernel", {"stage1_block1/norm1/scale", "stage1_block1/norm1/bias", "head/bias"}),
    ],
)
def test_patterns_freeze_parts_and_single_parameters(patterns, left):
    frozen = transfer.frozen(PARAMS, {}, patterns, head="head")
    assert set(flatten_with_paths(PARAMS)) - frozen == left
    marks = transfer.trained(PARAMS, frozen)
    assert {path for path, mark in zip(flatten_with_paths(marks), jax.tree.leaves(marks), strict=True) if mark} == left


@pytest.mark.parametrize(
    ("patterns", "why"),
    [
        ("stage1_block", "matches no parameter of the model; did you mean 'stage1_block1'"),
        (
            "stem_conv, nothing_like_it",
            "'nothing_like_it' matches no parameter of the model; its modules are head, stage1",
        ),
        ("*", "leaves no parameter to train"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(patterns, why):
    with pytest.raises(ValueError, match=why):
        transfer.frozen(PARAMS, {}, patterns, head="head")
    with pytest.raises(
        ValueError, match="the model does not name its head; freeze modules by name: head, stage1_block1, stem"
    ):
        transfer.frozen(PARAMS, {}, "backbone", head=None)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def test_batch_norms_are_frozen_by_one_word(tmp_path):
    run = jv.train(CONFIG.replace(freeze="batch_norm", model=SMALL), workdir=tmp_path / "run")
    trained = jv.load(run.workdir, checkpoint=3)
    key, _ = jax.random.split(jax.random.key(0))
    params, state = jax.jit(trained.run.model.init)(key, jnp.zeros((1, 8, 8, 3), jnp.uint8))
    same = {name for name in params if bits(params[name]) == bits(trained.params[name])}
    assert same == {"norm1", "norm2"} and bits(state) == bits(trained.model_state)
    assert transfer.frozen(PARAMS, {}, "batch_norm", head="head") == frozenset()  # a model without statistics
    state = {"batch_stats": {"mean": 0, "norm": {"mean": 0}}}  # statistics without parameters
    assert transfer.frozen(PARAMS, state, "batch_norm", head="head") == {"mean", "norm/mean"}


@pytest.mark.parametrize(
    ("changes", "execution"),
    [
        ({"ema": 0.9}, {}),
        ({"grad_accum_steps": 2, "batch_size": 4}, {}),
        ({"grad_clip_norm": 1.0}, {"mesh": "data=2,fsdp=2"}),
        ({}, {"parallel": "pmap"}),
        ({"precision": "bf16", "optimizer": "muon"}, {}),
    ],
    ids=str,
)
def test_what_is_frozen_stays_bit_for_bit(tmp_path, changes, execution):
    config = CONFIG.replace(freeze="conv1, norm1", model=SMALL, **changes)
    run = jv.train(config, execution=jv.Execution(**execution), workdir=tmp_path / "run")
    trained = jv.load(run.workdir, checkpoint=3)
    inputs = jnp.zeros((1, 8, 8, 3), jnp.uint8)
    key, _ = jax.random.split(jax.random.key(config.seed))
    params, state = jax.jit(trained.run.model.init)(key, inputs)
    for name in params:
        is_frozen = name in ("conv1", "norm1")
        assert (bits(params[name]) == bits(trained.params[name])) == is_frozen, name
    for name, statistics in state["batch_stats"].items():
        is_frozen = name in ("conv1", "norm1")
        assert (bits(statistics) == bits(trained.model_state["batch_stats"][name])) == is_frozen, name


def test_the_optimizer_has_state_for_what_is_trained_alone():
    def size(freeze):
        config = CONFIG.replace(freeze=freeze)
        data = open_dataset(config)
        state, _ = prepare(runs.build(config, data), data).make_state()
        return sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim), state.params["head"]

    whole, _ = size("")
    small, head = size("backbone")
    assert small == 2 * sum(leaf.size for leaf in jax.tree.leaves(head)) and whole > 100 * small


class InConstructor(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train, name="one")(x)
        return nn.Dense(2, name="head")(nn.BatchNorm(name="two")(x, use_running_average=not train).mean(axis=(1, 2)))


def test_frozen_batch_norm_uses_what_is_stored_wherever_it_is_told_to_train():
    model = jv.from_linen(InConstructor(), head="head")
    inputs = 3 + jax.random.normal(jax.random.key(1), (4, 2, 2, 3))
    params, state = model.init(jax.random.key(0), inputs)
    wanted, _ = model.apply(params, state, inputs, train=False, key=None)
    frozen = transfer.freeze(model, params, state, transfer.frozen(params, state, "backbone", head="head"))
    outputs, new = jax.jit(lambda x: frozen.apply(params, state, x, train=True, key=None))(inputs)
    np.testing.assert_allclose(outputs, wanted, rtol=1e-5)
    assert bits(new) == bits(state)
    half = transfer.freeze(model, params, state, transfer.frozen(params, state, "one", head="head"))
    _, new = half.apply(params, state, inputs, train=True, key=None)
    assert bits(new["batch_stats"]["one"]) == bits(state["batch_stats"]["one"])
    assert bits(new["batch_stats"]["two"]) != bits(state["batch_stats"]["two"])


def test_a_state_that_cannot_be_frozen_is_refused():
    model = jv.from_linen(InConstructor(), head="head")._replace(freeze=None)
    params, state = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 2, 3)))
    with pytest.raises(ValueError, match="would keep changing"):
        transfer.freeze(model, params, state, transfer.frozen(params, state, "backbone", head="head"))


class Bare(nn.Module):
    """Norms without parameters, one of them home-made."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train, use_scale=False, use_bias=False, name="norm")(nn.Dense(3)(x))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (3,))
        if train:
            mean.value = 0.9 * mean.value + 0.1 * x.mean(axis=(0, 1, 2))
        return nn.Dense(2, name="head")(x.mean(axis=(1, 2)))


def test_statistics_without_parameters_are_frozen_with_their_part():
    model = jv.from_linen(Bare(), head="head")
    inputs = 3 + jax.random.normal(jax.random.key(1), (4, 2, 2, 3))
    params, state = model.init(jax.random.key(0), inputs)
    wanted, _ = model.apply(params, state, inputs, train=False, key=None)
    frozen = transfer.freeze(model, params, state, transfer.frozen(params, state, "backbone", head="head"))
    outputs, new = frozen.apply(params, state, inputs, train=True, key=None)
    np.testing.assert_allclose(outputs, wanted, rtol=1e-5)
    assert bits(new) == bits(state)
    _, live = model.apply(params, state, inputs, train=True, key=None)
    assert all(a != b for a, b in zip(bits(live), bits(state), strict=True))


@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_the_order_of_layers_is_that_of_computation_in_every_precision(precision):
    model = registry.models.build("resnet20", output_size=2)
    with jax.enable_x64(precision == "f64"):
        whole = with_precision(model, Preprocessing((8, 8), 3, (0.0,) * 3, (1.0,) * 3), precision=precision)
        order = transfer.order(whole, jax.ShapeDtypeStruct((1, 8, 8, 3), np.uint8))
    assert order[0] == "stem_conv" and order[-1] == "head"


def test_a_head_that_is_not_made_last_is_refused():
    params = {"head": {"kernel": jnp.ones(2)}, "stem": {"kernel": jnp.ones(2)}}
    with pytest.raises(ValueError, match="in the order head, stem, and its head 'head' is not the last"):
        transfer.layer_scales(params, ["head", "stem"], 0.5, head="head")


class Tempered(nn.Module):
    """Does more after what it calls pooled than its head does."""

    output_size: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, name="body")(x.mean(axis=(1, 2)))
        return nn.Dense(self.output_size, name="head")(5 * tap(self, "pooled", x))


@jv.models.register("tempered")
def tempered(*, output_size: int) -> jv.Model:
    return jv.from_linen(Tempered(output_size), head="head")


@jv.models.register("tempered_without_features")
def tempered_without_features(*, output_size: int) -> jv.Model:
    return tempered(output_size=output_size)._replace(features=None)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("tempered", "computes more after 'pooled' than its head"),
        ("tempered_without_features", r"takes shape \(1, 8\), and its features 'pooled' are missing"),
    ],
)
def test_features_that_are_not_the_heads_are_not_cached(model, told, tmp_path):
    config = CONFIG.replace(model=model, freeze="backbone", cache_features=True, augmentations="")
    with pytest.raises(ValueError, match=f"features cannot be cached: .*{told}"):
        jv.train(config, workdir=tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "size", "count"), [("resnet20", 8, 11), ("cnn(batch_norm=True)", 32, 5), ("mlp(hidden=(4, 4))", 8, 3)]
)
def test_layers_are_those_of_computation(name, size, count):
    model = registry.models.build(name, output_size=2)
    order = transfer.order(model, jax.ShapeDtypeStruct((1, size, size, 3), np.float32))
    groups = transfer.layers(order)
    assert len(groups) == count and groups[-1] == ["head"]
    assert sorted(name for group in groups for name in group) == sorted(order)
    first = {"resnet20": ["stem_conv", "stem_norm"], "cnn(batch_norm=True)": ["conv1", "norm1"]}.get(name)
    assert first is None or groups[0] == first


def test_layers_learn_at_rates_that_decay():
    params = {"stem": {"kernel": jnp.ones(2)}, "block1": {"kernel": jnp.ones(2)}, "head": {"kernel": jnp.ones(2)}}
    scales = transfer.layer_scales(params, ["stem", "block1", "head"], 0.5)
    optimizer = transfer.scaled(optax.sgd(1.0), scales)
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    assert {name: float(update["kernel"][0]) for name, update in updates.items()} == {
        "stem": -0.25,
        "block1": -0.5,
        "head": -1.0,
    }


def test_decayed_rates_act_in_a_run(tmp_path):
    config = CONFIG.replace(optimizer="sgd(momentum=0.0)", schedule="constant", steps=1, eval_every=1, model=SMALL)
    one, other = (
        jv.load(jv.train(each, workdir=tmp_path / str(each.layer_decay)).workdir, checkpoint=1).params
        for each in (config, config.replace(layer_decay=0.5))
    )
    start, _ = jax.jit(jv.load(tmp_path / "None").run.model.init)(
        jax.random.split(jax.random.key(0))[0], jnp.zeros((1, 8, 8, 3), jnp.uint8)
    )
    for name, depth in (("head", 0), ("dense1", 1), ("conv2", 2), ("norm2", 2), ("conv1", 3)):
        moved, decayed = (
            np.concatenate(
                [(a - b).ravel() for a, b in zip(*map(jax.tree.leaves, (p[name], start[name])), strict=True)]
            )
            for p in (one, other)
        )
        np.testing.assert_allclose(decayed, moved * 0.5**depth, atol=1e-6)


def test_a_probe_on_cached_features_learns_what_it_would_on_images(tmp_path):
    config = CONFIG.replace(
        freeze="backbone", steps=20, eval_every=10, schedule="constant", learning_rate=0.01, model=SMALL
    )
    images = jv.train(config, workdir=tmp_path / "images")
    features = jv.train(config.replace(cache_features=True), workdir=tmp_path / "features")
    for one, other in zip(images.history, features.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4) and one["accuracy"] == other["accuracy"]
    a, b = (jax.tree.leaves(jv.load(run.workdir, checkpoint=20).params) for run in (images, features))
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert images.test["accuracy"] == features.test["accuracy"]  # judged on images, both
    shutil.copytree(features.workdir, tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "20")
    resumed = jv.train(config.replace(cache_features=True), workdir=tmp_path / "again")
    assert bits(jv.load(resumed.workdir, checkpoint=20).params) == bits(jv.load(features.workdir, checkpoint=20).params)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"augmentations": "horizontal_flip"}, "augmentations='horizontal_flip' change them"),
        ({"freeze": ""}, "set freeze='backbone'"),
        ({"freeze": "stem_*"}, "needs freeze='backbone', all but the head, not 'stem_"),
        ({"model": "mlp(dropout=0.5)"}, "the model uses random numbers in training"),
    ],
)
def test_features_that_are_not_the_same_each_time_are_not_cached(tmp_path, changes, why):
    with pytest.raises(ValueError, match=why):
        jv.train(
            jv.Config(**{**vars(CONFIG), "freeze": "backbone", "cache_features": True, **changes}), workdir=tmp_path
        )
    assert not list(tmp_path.iterdir())


def test_features_of_images_cut_at_random_are_not_cached(photos, tmp_path):
    dataset = f"folder(path='{photos}', image_size=16, random_crop=(0.2, 0.5))"
    config = jv.Config(**{**vars(CONFIG), "freeze": "backbone", "cache_features": True, "dataset": dataset})
    with pytest.raises(ValueError, match="remove random_crop from the spec of the dataset"):
        jv.train(config, workdir=tmp_path / "run")


def seconds_of(config, *, num_steps):
    """The median time of a training step, and the bytes of the optimizer's state."""
    data = open_dataset(config)
    made = prepare(runs.build(config, data, execution=jv.Execution(mesh="data=1")), data)
    state, _ = made.make_state()
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state.opt_state))
    if config.cache_features:
        made = probe.on_features(made, state.params, state.model_state)
    indices = np.arange(config.batch_size)
    batch = {"inputs": made.data.train.read(indices), "targets": made.data.train.targets[indices]}
    batch["mask"] = np.ones(config.batch_size, np.float32)
    times = []
    for _ in range(num_steps + 1):
        began = time.perf_counter()
        state, means, _ = made.train_step(state, batch, 0)
        jax.block_until_ready(means)
        times.append(time.perf_counter() - began)
    return float(np.median(times[1:])), num_bytes


@pytest.mark.slow
def test_a_frozen_backbone_halves_the_step_and_cached_features_take_a_twentieth():
    dataset = "synthetic(num_examples=40, num_classes=10, image_size=224)"
    config = jv.Config(model="resnet50", dataset=dataset, batch_size=8)
    whole, whole_bytes = seconds_of(config, num_steps=4)
    frozen, frozen_bytes = seconds_of(config.replace(freeze="backbone"), num_steps=4)
    cached, _ = seconds_of(config.replace(freeze="backbone", cache_features=True), num_steps=20)
    print(
        f"ResNet-50 at 224, batch 8: {whole:.2f} s a step, frozen {frozen:.2f} s ({whole / frozen:.1f}x), cached "
        f"{cached:.4f} s ({frozen / cached:.0f}x); optimizer {whole_bytes:,} and {frozen_bytes:,} bytes"
    )
    assert whole > 2 * frozen and frozen > 20 * cached and whole_bytes > 1000 * frozen_bytes


def test_what_is_trained_and_how_images_come_is_said(tmp_path, capsys):
    config = CONFIG.replace(model=SMALL, steps=1)
    source = jv.train(config, workdir=tmp_path / "source").workdir
    config = config.replace(freeze="backbone")
    jv.train(config.replace(init_from=str(source)), workdir=tmp_path / "run")
    said = capsys.readouterr().out
    assert " trained), on " in said and "images as " in said and "drawn at random" not in said
    jv.train(config, workdir=tmp_path / "random")
    assert "keeps parameters as they were drawn at random: --init_from gives trained ones" in capsys.readouterr().out
