"""Devices: the mesh and the compiled step change where arrays are, not their values."""

import logging
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxvision as jv
from jaxvision import run as runs
from jaxvision.data import open_dataset
from jaxvision.distributed import mesh as meshes
from jaxvision.engine import pipeline
from jaxvision.training_setup import prepare

CONFIG = jv.Config(
    dataset="synthetic(num_examples=75, num_classes=3, image_size=8)",
    model="cnn(channels=(4, 8), dense=(16,), padding='SAME', batch_norm=True)",
    augmentations="horizontal_flip, random_crop(padding=1)",
    optimizer="adam",
    schedule="constant",
    learning_rate=1e-2,
    batch_size=12,
    steps=10,
)
MESHES = ("data=2", "data=4", "data=2,fsdp=2", "fsdp=4")


@pytest.fixture(autouse=True)
def _single_precision_after():
    yield
    jax.config.update("jax_enable_x64", False)


def trained(config, *, num_steps=10, **execution):
    """Takes a number of steps: (state, means of the last)."""
    data = open_dataset(config)
    setup = prepare(runs.build(config, data, execution=jv.Execution(**execution)), data)
    state, means = setup.make_state()[0], {}
    batches = pipeline.train_batches(data.train, config.effective_batch_size, seed=0)
    for _, batch in zip(range(num_steps), batches, strict=False):
        state, means, _ = setup.train_step(state, batch, 0)
        jax.block_until_ready(means)
    batches.close()
    return state, {name: float(value) for name, value in means.items()}


def norm(tree):
    return np.sqrt(sum(float((np.asarray(leaf, np.float64) ** 2).sum()) for leaf in jax.tree.leaves(tree)))


def distance(one, other):
    return norm(jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), one, other)) / norm(one)


STRONG = "alternating_flip, random_resized_crop, color_jitter, randaugment(num_ops=1), random_erasing, mixup"
DROPOUT = CONFIG.model.replace("batch_norm", "dropout=0.2, batch_norm")


@pytest.mark.parametrize(
    ("execution", "model"),
    [
        *(({"mesh": mesh}, DROPOUT) for mesh in MESHES),
        ({"parallel": "pmap"}, CONFIG.model),
        ({"parallel": "pmap", "mesh": "data=2"}, CONFIG.model),
    ],
    ids=str,
)
def test_devices_agree(execution, model):
    for precision, most in (("f64", 1e-9), ("f32", 1e-2)):
        config = CONFIG.replace(model=model, precision=precision)
        one, losses = trained(config, mesh="data=1")
        other, other_losses = trained(config, **execution)
        assert one.params["conv1"]["kernel"].dtype == np.dtype(precision.replace("f", "float"))
        assert distance(one.params, other.params) <= most
        assert distance(one.model_state, other.model_state) <= most
        assert losses["loss"] == pytest.approx(other_losses["loss"], abs=1e-4)
        jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize(
    ("execution", "accumulate"),
    [({"mesh": "data=2,fsdp=2"}, 1), ({"parallel": "pmap"}, 1), ({"mesh": "data=1"}, 3)],
)
def test_devices_augment_alike(execution, accumulate):
    """Batches reach over the ends of epochs, where an alternating flip changes within them.

    Plain gradient descent: Adam divides a gradient by its size, so that of one that cancels, the images' rounding in
    float32 is most.
    """
    model = "mlp(hidden=(8,))"
    config = CONFIG.replace(augmentations=STRONG, precision="f64", model=model, optimizer="sgd")
    one, _ = trained(config, mesh="data=1")
    parts = config.replace(batch_size=config.batch_size // accumulate, grad_accum_steps=accumulate)
    other, _ = trained(parts, **{"mesh": "data=4", **execution})
    assert distance(one.params, other.params) <= 1e-8


@pytest.mark.parametrize("execution", [{"mesh": mesh} for mesh in MESHES] + [{"parallel": "pmap"}], ids=str)
def test_a_step_compiles_once(execution, caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        trained(CONFIG.replace(model="mlp(hidden=(8,))", augmentations=""), num_steps=5, **execution)
    name = "_fun" if "parallel" in execution else "train_step"
    messages = [record.getMessage() for record in caplog.records]
    assert sum(f"Finished XLA compilation of jit({name})" in message for message in messages) == 1
    if "parallel" not in execution:  # the step, and what adds the votes around it
        assert sum("Finished tracing" in message and " train_step " in message for message in messages) == 2


@pytest.mark.parametrize(("ema", "optimizer"), [(None, "adam"), (0.9, "sgd"), (0.99, "muon")])
def test_fsdp_holds_a_share_of_the_state_on_each_device(ema, optimizer):
    model = "cnn(channels=(32, 64, 64), dense=(64,))"
    dataset = "synthetic(num_examples=75, num_classes=3, image_size=32)"
    config = CONFIG.replace(model=model, dataset=dataset, ema=ema, optimizer=optimizer)
    state, _ = trained(config, num_steps=2, mesh="fsdp=4")
    for tree in filter(None, (state.params, state.opt_state, state.ema)):
        leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.size > 1]
        whole = sum(leaf.nbytes for leaf in leaves)
        for place in range(4):
            assert sum(leaf.addressable_shards[place].data.nbytes for leaf in leaves) <= 0.26 * whole


def test_the_state_is_split_along_the_largest_axis_that_the_devices_divide():
    mesh = meshes.make_mesh("fsdp=4")
    shapes = {"a": (3, 3, 8, 64), "b": (400, 6), "c": (5, 7), "d": ()}
    tree = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    specs = {name: tuple(sharding.spec) for name, sharding in meshes.shardings(tree, mesh).items()}
    assert specs == {"a": (None, None, None, "fsdp"), "b": ("fsdp",), "c": (), "d": ()}


def test_accumulated_batches_are_one_batch():
    model = "cnn(channels=(4, 8), dense=(16,), padding='SAME')"
    config = CONFIG.replace(model=model, precision="f64", batch_size=4, grad_accum_steps=4)
    (parts, some), (whole, same) = (trained(c) for c in (config, config.replace(batch_size=16, grad_accum_steps=1)))
    assert distance(parts.params, whole.params) <= 1e-9
    assert some == pytest.approx(same, rel=1e-6)
    several, _ = trained(config, mesh="data=2,fsdp=2")
    assert distance(parts.params, several.params) <= 1e-9


def test_the_host_reads_the_rows_of_its_devices():
    mesh = meshes.make_mesh("data=2,fsdp=2")
    assert meshes.local_slice(8, mesh) == slice(0, 8)


def test_batches_that_devices_cannot_share_are_refused():
    mesh = meshes.make_mesh()
    with pytest.raises(ValueError, match="batch_size=30 is not divisible by 4 devices; the nearest are 28 or 32"):
        meshes.check_batch_size(30, mesh)
    meshes.check_batch_size(32, mesh)


@pytest.mark.parametrize(
    ("spec", "shape"),
    [("", (4, 1)), ("data=2", (2, 1)), ("fsdp=2", (2, 2)), ("data=1, fsdp=4", (1, 4)), ("fsdp=2,data=1", (1, 2))],
)
def test_a_mesh_is_what_is_written(spec, shape):
    assert tuple(meshes.make_mesh(spec).shape.values()) == shape


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("date=2", "no axis 'date'; did you mean 'data'"),
        ("data=2,data=2", "has the axis 'data' twice"),
        ("data=two", "'data=two' is not a size of at least 1"),
        ("data=0", "'data=0' is not a size of at least 1"),
        ("data=8", "needs 8 devices, but there are 4"),
        ("fsdp=8", "needs 8 devices, but there are 4"),
        ("fsdp=3", "leaves devices of 4 idle: use a divisor, or data=1,fsdp=3"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(spec, why):
    with pytest.raises(ValueError, match=why):
        meshes.make_mesh(spec)


class Normed(nn.Module):
    output_size: int

    @nn.compact
    def __call__(self, x, *, train: bool):
        return nn.Dense(self.output_size)(nn.BatchNorm(use_running_average=not train)(x).mean((1, 2)))


@jv.models.register("normed")
def normed(*, output_size: int, axis_name: str | None = None) -> jv.Model:
    """A model that knows of no devices; its argument is one that factories of 0.1 had."""
    assert axis_name is None
    return jv.from_linen(Normed(output_size))


class NnxNormed(nnx.Module):
    def __init__(self, output_size, *, rngs):
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.head = nnx.Linear(3, output_size, rngs=rngs)

    def __call__(self, x):
        return self.head(self.norm(x).mean((1, 2)))


@jv.models.register("nnx_normed")
def nnx_normed(*, output_size: int) -> jv.Model:
    """An NNX model that knows of no devices."""
    return jv.from_nnx(partial(NnxNormed, output_size))


@pytest.mark.parametrize("model", ["normed", "nnx_normed"])
def test_batch_norms_of_plug_ins_are_of_the_whole_batch_under_pmap(model):
    config = CONFIG.replace(model=model, augmentations="", precision="f64")
    (one, _), (other, _) = trained(config, mesh="data=1"), trained(config, parallel="pmap")
    assert distance(one.params, other.params) <= 1e-9
    assert distance(one.model_state, other.model_state) <= 1e-9


class CountedByHand(nn.Module):
    """Keeps a mean of its own, or one that nothing changes, beside a batch norm."""

    output_size: int
    changes: bool

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = nn.BatchNorm(use_running_average=not train)(x)
        mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1:])
        if train and self.changes:
            mean.value = x.mean((0, 1, 2))
        return nn.Dense(self.output_size)((x - mean.value).mean((1, 2)))


class NnxCountedByHand(nnx.Module):
    def __init__(self, output_size, changes, *, rngs):
        self.norm, self.head = nnx.BatchNorm(3, rngs=rngs), nnx.Linear(3, output_size, rngs=rngs)
        self.mean, self.changes = nnx.BatchStat(jnp.zeros(3)), changes

    def __call__(self, x, *, train: bool):
        x = self.norm(x, use_running_average=not train)
        if train and self.changes:
            self.mean[...] = x.mean((0, 1, 2))
        return self.head((x - self.mean[...]).mean((1, 2)))


@jv.models.register("counted")
def counted(*, output_size: int, changes: bool = True) -> jv.Model:
    """A Linen model with statistics that no batch norm keeps."""
    return jv.from_linen(CountedByHand(output_size, changes))


@jv.models.register("nnx_counted")
def nnx_counted(*, output_size: int, changes: bool = True) -> jv.Model:
    """An NNX model with statistics that no batch norm keeps."""
    return jv.from_nnx(partial(NnxCountedByHand, output_size, changes))


@pytest.mark.parametrize("model", ["counted", "nnx_counted"])
def test_statistics_of_one_device_are_refused_under_pmap(model, tmp_path):
    config, execution = CONFIG.replace(model=model, augmentations=""), jv.Execution(parallel="pmap")
    with pytest.raises(ValueError, match="'batch_stats/mean' would depend on one device's part"):
        jv.train(config, execution=execution, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    trained(config.replace(model=f"{model}(changes=False)"), num_steps=1, parallel="pmap")
    trained(config, num_steps=1)


def test_what_pmap_cannot_do_is_refused(tmp_path):
    with pytest.raises(ValueError, match="only one host and the mesh axis data; use --parallel=jit"):
        jv.train(CONFIG, execution=jv.Execution(parallel="pmap", mesh="fsdp=2"), workdir=tmp_path / "run")

    @jv.models.register("normed_by_hand")
    def normed_by_hand(*, output_size: int) -> jv.Model:
        """A model that does not know of devices."""
        return jv.from_linen(Normed(output_size))._replace(synchronize=None)

    config, execution = CONFIG.replace(model="normed_by_hand"), jv.Execution(parallel="pmap")
    with pytest.raises(
        ValueError, match="would not synchronize batch statistics across devices: its Model has no `synchronize`"
    ):
        jv.train(config, execution=execution, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
