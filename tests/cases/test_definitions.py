"""What is computed against the sources that it names: batch norm, optimizers, schedules, EMA, augmentations, losses."""

import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxvision as jv
from jaxvision import registry
from jaxvision.augmentations import policies, random_ops
from jaxvision.config import Config
from jaxvision.engine import step
from jaxvision.engine.augmentation import chain
from jaxvision.engine.ema import make_update_ema
from jaxvision.engine.precision import with_precision
from jaxvision.export import replaceable_layers
from jaxvision.interfaces import Model, Preprocessing
from jaxvision.models.layers import BatchNorm
from jaxvision.models.linen import from_linen
from jaxvision.models.nnx import from_nnx
from jaxvision.upgrades import keep_definitions, upgrade_saved
from jaxvision.weights import files as weight_files
from jaxvision.weights import mapping

RNG = np.random.default_rng(0)
FAR = (RNG.normal(size=(16, 4, 4, 8)) + 3000).astype(np.float32)
WIDE = FAR.astype(np.float64)
NORMALIZED = (WIDE - WIDE.mean((0, 1, 2))) / np.sqrt(WIDE.var((0, 1, 2)) + 1e-5)


# ── batch norm ────────────────────────────────────────────────────────────────────────────────────────────────────────


def trained(norm, inputs, **options):
    return norm.apply(norm.init(jax.random.key(0), inputs), inputs, mutable=["batch_stats"], **options)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_batch_norm_far_from_zero(dtype):
    if dtype == jnp.bfloat16:  # whose steps are 16 at 3,000: of the rounded inputs
        wide = np.asarray(jnp.asarray(FAR, dtype), np.float64)
        wanted, most = (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + 1e-5), 0.02
    else:
        wanted, most = NORMALIZED, 0.003  # the mean itself is rounded to 0.0002
    outputs, _ = trained(BatchNorm(use_running_average=False), jnp.asarray(FAR, dtype))
    np.testing.assert_allclose(outputs, wanted, atol=most)


class PlainNorm(nn.Module):
    """A plug-in's module with Flax's own batch norm."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        return nn.BatchNorm(use_running_average=not train)(x).reshape(len(x), -1)


def nnx_norm(rngs):
    from flax import nnx

    class Module(nnx.Module):
        def __init__(self):
            self.norm = nnx.BatchNorm(8, rngs=rngs)

        def __call__(self, x):
            return self.norm(x).reshape(len(x), -1)

    return Module()


@pytest.mark.parametrize("model", [from_linen(PlainNorm()), from_nnx(lambda rngs: nnx_norm(rngs))])
@pytest.mark.parametrize("num_devices", [1, 2])
def test_batch_norms_of_plug_ins_far_from_zero(model, num_devices):
    params, state = model.init(jax.random.key(0), jnp.asarray(FAR[:1]))
    if num_devices == 1:
        outputs, _ = model.apply(params, state, jnp.asarray(FAR), train=True, key=None)
    else:
        parts = jnp.asarray(FAR.reshape(2, 8, 4, 4, 8))
        synchronized = model.synchronize("data")

        def apply(part):
            return synchronized.apply(params, state, part, train=True, key=None)[0]

        outputs = jax.pmap(apply, "data", devices=jax.devices()[:2])(parts)
    np.testing.assert_allclose(np.asarray(outputs).reshape(FAR.shape), NORMALIZED, atol=0.003)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_running_variance_is_pytorchs(num_devices):
    inputs = RNG.normal(size=(8, 1, 1, 4)).astype(np.float32)
    norm = BatchNorm(use_running_average=False)
    if num_devices == 1:
        _, new = trained(norm, inputs)
    else:
        model = from_linen(norm).synchronize("data")
        params, state = model.init(jax.random.key(0), inputs)
        parts = inputs.reshape(2, 4, 1, 1, 4)
        apply = jax.pmap(lambda x: model.apply(params, state, x, train=True, key=None)[1], "data")
        new = jax.tree.map(lambda x: x[1], apply(parts))
    np.testing.assert_allclose(new["batch_stats"]["var"], 0.9 + 0.1 * inputs.var((0, 1, 2), ddof=1), rtol=1e-6)
    np.testing.assert_allclose(new["batch_stats"]["mean"], 0.1 * inputs.mean((0, 1, 2)), rtol=1e-5, atol=1e-7)


def test_one_value_a_channel_stays_finite():
    outputs, new = trained(BatchNorm(use_running_average=False), jnp.ones((1, 1, 1, 3)))
    assert np.isfinite(outputs).all() and np.isfinite(new["batch_stats"]["var"]).all()


def test_batch_norm_and_its_gradient_are_torchs():
    torch = pytest.importorskip("torch")
    inputs, weights = RNG.normal(size=(6, 3, 3, 4)) * 3 + 5, RNG.normal(size=(6, 3, 3, 4))
    theirs = torch.nn.BatchNorm2d(4).double()
    x = torch.tensor(inputs).permute(0, 3, 1, 2).requires_grad_()
    out = theirs(x)
    (out * torch.tensor(weights).permute(0, 3, 1, 2)).sum().backward()
    with jax.enable_x64(True):
        norm = BatchNorm(use_running_average=False, param_dtype=jnp.float64)
        variables = norm.init(jax.random.key(0), jnp.asarray(inputs))

        def loss(x):
            outputs, new = norm.apply(variables, x, mutable=["batch_stats"])
            return (outputs * weights).sum(), (outputs, new)

        gradient, (outputs, new) = jax.grad(loss, has_aux=True)(jnp.asarray(inputs))
    np.testing.assert_allclose(outputs, out.permute(0, 2, 3, 1).detach(), atol=1e-12)
    np.testing.assert_allclose(gradient, x.grad.permute(0, 2, 3, 1), atol=1e-12)
    np.testing.assert_allclose(new["batch_stats"]["var"], theirs.running_var, rtol=1e-6)  # stored in float32


# ── optimizers ────────────────────────────────────────────────────────────────────────────────────────────────────────

RATES = [0.1, 0.2, 0.05, 0.02]
START = RNG.normal(size=(6, 4))
GRADIENTS = [scale * RNG.normal(size=(6, 4)) for scale in (1e-6, 1.0, 1e-3, 10.0)]


def steps_of(spec, gradients=GRADIENTS, start=START):
    """Return the parameters after steps at RATES, in float64."""
    with jax.enable_x64(True):
        optimizer = registry.optimizers.build(spec, learning_rate=lambda n: jnp.array(RATES)[n])
        params = {"w": jnp.asarray(start)}
        state = optimizer.init(params)
        for gradient in gradients:
            updates, state = optimizer.update({"w": jnp.asarray(gradient)}, state, params)
            params = optax.apply_updates(params, updates)
        return np.asarray(params["w"])


@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("rmsprop", "RMSprop", {"alpha": 0.9}),
        ("rmsprop(momentum=0.8, weight_decay=0.1)", "RMSprop", {"alpha": 0.9, "momentum": 0.8, "weight_decay": 0.1}),
        ("adagrad", "Adagrad", {}),
        ("adagrad(eps=1e-3, weight_decay=0.1)", "Adagrad", {"eps": 1e-3, "weight_decay": 0.1}),
        ("adagrad(initial_accumulator=0.1)", "Adagrad", {"initial_accumulator_value": 0.1}),
        (
            "sgd(momentum=0.8, nesterov=True, weight_decay=0.1)",
            "SGD",
            {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
        ),
        ("adam", "Adam", {}),
        ("adamw(weight_decay=0.1)", "AdamW", {"weight_decay": 0.1}),
    ],
)
def test_optimizers_are_pytorchs(spec, name, options):
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.tensor(START))
    optimizer = getattr(torch.optim, name)([parameter], lr=1.0, **options)
    for rate, gradient in zip(RATES, GRADIENTS, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    np.testing.assert_allclose(steps_of(spec), parameter.detach(), atol=1e-7)  # Adam counts the bias in float32


def test_rmsprop_and_adagrad_scale_small_gradients_by_hand():
    gradient = [np.full((6, 4), 1e-6)]
    zero = np.zeros((6, 4))
    moved = -steps_of("rmsprop", gradient, zero) / RATES[0]
    np.testing.assert_allclose(moved, 1e-6 / (math.sqrt(0.1 * 1e-12) + 1e-8), rtol=1e-6)
    np.testing.assert_allclose(-steps_of("adagrad", gradient, zero) / RATES[0], 1e-6 / (1e-6 + 1e-10), rtol=1e-6)
    np.testing.assert_allclose(steps_of("adagrad", [zero], zero), 0)


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_k_jordans(nesterov):
    momentum, params = np.zeros((6, 4)), START.copy()
    for rate, gradient in zip(RATES, GRADIENTS, strict=True):
        momentum = 0.95 * momentum + 0.05 * gradient
        x = (0.95 * momentum + 0.05 * gradient if nesterov else momentum).T
        x = x / (np.linalg.norm(x) + 1e-7)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        params = params - rate * (0.2 * 6**0.5 * x.T + 0.1 * params)
    found = steps_of(f"muon(nesterov={nesterov}, weight_decay=0.1)")
    np.testing.assert_allclose(found, params, atol=1e-6)


def test_muon_leaves_vectors_to_plain_adamw():
    start, gradients = START[0], [gradient[0] for gradient in GRADIENTS]
    np.testing.assert_allclose(
        steps_of("muon(decay_all=True, weight_decay=0.1)", gradients, start),
        steps_of("adamw(decay_all=True, weight_decay=0.1)", gradients, start),
        atol=1e-12,
    )


OLD = {
    "rmsprop(momentum=0.8)": lambda rate: optax.rmsprop(rate, 0.9, 1e-8, momentum=0.8),
    "adagrad": lambda rate: optax.adagrad(rate, eps=1e-7),
    "muon": lambda rate: optax.contrib.muon(rate, consistent_rms=0.2),
}


@pytest.mark.parametrize("spec", OLD)
def test_a_run_of_an_older_version_keeps_its_optimizer(spec):
    kept = upgrade_saved({"optimizer": spec}, 1)["optimizer"]
    assert kept == upgrade_saved({"optimizer": spec}, 3)["optimizer"] == keep_definitions(kept)
    assert upgrade_saved({"optimizer": spec}, 4)["optimizer"] == spec
    registry.optimizers.check(kept)
    with jax.enable_x64(True):
        optimizer, params = OLD[spec](lambda n: jnp.array(RATES)[n]), {"w": jnp.asarray(START)}
        state = optimizer.init(params)
        for gradient in GRADIENTS:
            updates, state = optimizer.update({"w": jnp.asarray(gradient)}, state, params)
            params = optax.apply_updates(params, updates)
        new = registry.optimizers.build(kept, learning_rate=lambda n: jnp.array(RATES)[n]).init(params)
    np.testing.assert_allclose(steps_of(kept), params["w"], atol=1e-12)
    shapes = [[leaf.shape for leaf in jax.tree.leaves(each)] for each in (new, state)]
    assert shapes[0] == shapes[1]
    assert np.abs(steps_of(kept) - steps_of(spec)).max() > 1e-3  # and it is another one than today's


def test_definitions_of_older_versions_are_stated():
    saved = {
        "optimizer": "partition(generator='rmsprop(eps=0.1)', discriminator=adam(b1=0.5))",
        "schedule": "one_cycle(warmup=0.2)",
        "augmentations": "flip, resize_crop, rand_augment(magnitude=3), trivial_augment(interpolation='nearest')",
    }
    assert upgrade_saved(saved, 1) == {
        "optimizer": "partition(generator='rmsprop(eps=0.1, epsilon_in_sqrt=True, rate_in_momentum=True)', "
        "discriminator='adam(b1=0.5)')",
        "schedule": "one_cycle(warmup=0.2, is_delayed=True)",
        "augmentations": "horizontal_flip, random_resized_crop(is_relative=True), "
        "randaugment(magnitude=3, interpolation='bilinear'), trivial_augment(interpolation='nearest')",
    }


def test_a_run_of_an_older_version_is_resumed_by_its_command(tmp_path):
    """The run began with the old RMSprop, and its config names none; the same command goes on with the old one."""
    config = jv.Config(model="mlp(hidden=(4,))", batch_size=32, steps=4, eval_every=2, schedule="constant", ema=0.9)
    stated = "rmsprop(epsilon_in_sqrt=True, rate_in_momentum=True)"
    wanted = jv.train(config.replace(optimizer=stated), workdir=tmp_path / "whole").history
    jv.train(config.replace(optimizer=stated, steps=2), workdir=tmp_path / "old")
    file = tmp_path / "old" / "config.json"
    old = {**json.loads(file.read_text()), "version": 3, "optimizer": "rmsprop"}
    del old["ema_warmup"], old["digest"]
    file.write_text(json.dumps(old))
    found = jv.train(config.replace(optimizer="rmsprop"), workdir=tmp_path / "old").history
    assert [row["loss"] for row in found] == [row["loss"] for row in wanted]
    assert Config.load(file).optimizer == stated and json.loads(file.read_text())["version"] == 5
    with pytest.raises(ValueError, match="optimizer"):
        jv.train(config.replace(optimizer="rmsprop(epsilon_in_sqrt=False)"), workdir=tmp_path / "old")


# ── schedules and EMA ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("num_steps", [3, 10, 100])
def test_the_last_step_of_one_cycle_has_the_final_rate(num_steps):
    schedule = registry.schedules.build("one_cycle", learning_rate=2.0, num_steps=num_steps)
    rates = [float(schedule(n)) for n in range(num_steps)]
    assert rates[0] == pytest.approx(0.08) and rates[-1] == pytest.approx(8e-6) and max(rates) == pytest.approx(2.0)
    assert float(schedule(num_steps)) == pytest.approx(8e-6)
    old = registry.schedules.build("one_cycle(is_delayed=True)", learning_rate=2.0, num_steps=num_steps)
    assert float(old(num_steps - 1)) > 8e-6 and float(old(num_steps)) == pytest.approx(8e-6)


def test_the_ends_of_one_cycle_are_pytorchs():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs, rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2.0, total_steps=50), []
    for _ in range(50):
        rates.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step() if len(rates) < 50 else None
    schedule = registry.schedules.build("one_cycle", learning_rate=2.0, num_steps=50)
    assert [float(schedule(n)) for n in (0, 49)] == pytest.approx([rates[0], rates[-1]], rel=1e-5)


@pytest.mark.parametrize(
    ("warmup", "decay"),
    [
        ("tensorflow", lambda n: min(0.9, (1 + n) / (10 + n))),
        ("timm", lambda n: min(0.9, 1 - (1 + n) ** (-2 / 3))),
        ("none", lambda n: 0.9 if n else 0.0),
    ],
)
def test_the_warm_up_of_the_average_by_hand(warmup, decay):
    update, average, wanted = make_update_ema(0.9, warmup), jnp.ones(()), 1.0
    for n in range(100):
        average = update(average, jnp.asarray(float(n)), jnp.asarray(n))
        wanted = decay(n) * wanted + (1 - decay(n)) * n
        assert float(average) == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_a_slow_average_is_exact_to_float32():
    """The float32 value of 1 - 0.9999 is wrong by 2e-4."""
    rate = make_update_ema(0.9999, "tensorflow")(jnp.zeros(()), jnp.ones(()), jnp.asarray(10**6))
    assert float(rate) == pytest.approx(1e-4, rel=1e-6)


# ── augmentations ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [(32, 32), (40, 30), (30, 40)])
def test_random_crops_have_torchvisions_distribution(size):
    """Areas and logarithms of the ratio: mean and deviation of 4,096 draws against torchvision's algorithm by hand."""
    part, fits = random_ops.rectangles(
        jax.random.key(0), 4096, size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), is_relative=False
    )
    assert fits.mean() > 0.99
    drawn = np.array([_drawn_by_hand(size) for _ in range(4096)])
    found = np.stack([np.asarray(part.height), np.asarray(part.width)], axis=1)[np.asarray(fits)]
    for values in (lambda x: np.log(x[:, 1] / x[:, 0]), lambda x: x.prod(axis=1) / (size[0] * size[1])):
        ours, theirs = values(found), values(drawn)
        assert ours.mean() == pytest.approx(theirs.mean(), abs=0.02) and ours.std() == pytest.approx(
            theirs.std(), abs=0.02
        )


def _drawn_by_hand(size):
    height, width = size
    while True:
        area = height * width * RNG.uniform(0.08, 1.0)
        ratio = math.exp(RNG.uniform(math.log(3 / 4), math.log(4 / 3)))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            return tall, wide


def test_a_square_crop_of_a_wide_image_is_square():
    images = np.broadcast_to(np.arange(60, dtype=np.float32)[None, None, :, None] / 60, (8, 20, 60, 1))
    augment = registry.augmentations.build("random_resized_crop(scale=(0.3, 0.3), ratio=(1.0, 1.0))")
    columns = np.asarray(augment(jax.random.key(0), {"inputs": jnp.asarray(images)})["inputs"])[:, 0, :, 0] * 60
    side = round(math.sqrt(0.3 * 1200))
    np.testing.assert_allclose(columns[:, -1] - columns[:, 0], side - 1, atol=1e-3)


@pytest.mark.parametrize(
    ("size", "ratio", "box"),
    [
        ((40, 60), (2.0, 4.0), (5, 0, 30, 60)),  # top, left, height, width: all the width
        ((40, 60), (0.5, 0.8), (0, 14, 40, 32)),  # all the height
        ((20, 60), (3.0, 3.0), (0, 0, 20, 60)),
    ],
)
def test_what_never_fits_becomes_torchvisions_central_crop(size, ratio, box):
    rows, columns = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    images = jnp.asarray(np.stack([rows, columns, rows], axis=-1)[None] / 100, jnp.float32)
    augment = registry.augmentations.build(f"random_resized_crop(scale=(1.0, 1.0), ratio={ratio})")
    result = np.asarray(augment(jax.random.key(0), {"inputs": images})["inputs"])[0] * 100
    top, left, height, width = box
    corners = [result[0, 0, 0], result[0, 0, 1], result[-1, -1, 0], result[-1, -1, 1]]
    np.testing.assert_allclose(corners, [top, left, top + height - 1, left + width - 1], atol=1e-3)


@pytest.mark.parametrize("spec", ["randaugment(magnitude=30)", "trivial_augment"])
def test_geometric_operations_invent_no_colors(spec, monkeypatch):
    monkeypatch.setattr(policies, "retouched", lambda images, which, magnitudes: images)
    images = np.where(RNG.random((32, 16, 20, 1)) < 0.5, 0.25, 0.75).astype(np.float32)

    def colors(spec):
        return set(np.unique(registry.augmentations.build(spec)(jax.random.key(1), {"inputs": images})["inputs"]))

    assert colors(spec) == {0, 0.25, 0.75}
    separator = ", " if spec.endswith(")") else "("
    assert len(colors(spec.rstrip(")") + f"{separator}interpolation='bilinear')")) > 100


@pytest.mark.parametrize("name", policies.GEOMETRIC)
def test_geometric_operations_are_pillows_nearest(name):
    from PIL import Image

    size = (24, 36)
    magnitude = {"rotate": 17.0, "translate_x": 5.0, "translate_y": -3.0}.get(name, 0.21)
    picture = RNG.integers(0, 256, (*size, 3)).astype(np.uint8)
    which, magnitudes = jnp.full(1, policies.OPERATIONS.index(name)), jnp.full(1, magnitude, jnp.float32)
    images = jnp.asarray(picture[None], jnp.float32) / 255
    result = policies.moved(images, which, magnitudes, fill=0.0, interpolation="nearest")[0]
    cosine, sine = math.cos(math.radians(magnitude)), math.sin(math.radians(magnitude))
    down, right = size[0] / 2, size[1] / 2
    affine = {
        "shear_x": (1, magnitude, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, magnitude, 1, 0),
        "translate_x": (1, 0, -magnitude, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, -magnitude),
        "rotate": (
            cosine,
            -sine,
            right - cosine * right + sine * down,
            sine,
            cosine,
            down - sine * right - cosine * down,
        ),
    }[name]
    wanted = np.asarray(Image.fromarray(picture).transform(size[::-1], Image.Transform.AFFINE, affine))
    assert (np.round(255 * np.asarray(result)) == wanted).all(axis=-1).mean() > 0.995  # but for ties


# ── losses and precision ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.0])
def test_focal_loss_of_soft_targets_is_optaxs(gamma):
    logits, targets = 4 * RNG.normal(size=(8, 3)), RNG.random((8, 3))
    targets[0], targets[1] = 0, 1
    focal = registry.losses.build(f"focal(gamma={gamma})", activation="sigmoid", num_classes=3)
    with jax.enable_x64(True):
        wanted = optax.sigmoid_focal_loss(jnp.asarray(logits), jnp.asarray(targets), gamma=gamma).mean(axis=-1)
        np.testing.assert_allclose(focal(jnp.asarray(logits), jnp.asarray(targets)), wanted, rtol=1e-10)
    extreme = jax.grad(lambda x: focal(x, jnp.asarray([[0.0, 1.0, 0.3]])).sum())(jnp.asarray([[-90.0, 90.0, 90.0]]))
    assert np.isfinite(extreme).all()


def test_pixels_in_double_precision_are_normalized_in_it():
    def apply(params, state, inputs, *, train, key):
        return inputs.reshape(len(inputs), -1), state

    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    model = Model(init=lambda key, inputs: ({}, {}), apply=apply)
    preprocessing = Preprocessing((16, 16), 1, (0.4914,), (0.2471,))
    with jax.enable_x64(True):
        taken = with_precision(model, preprocessing, precision="f64")
        outputs, _ = taken.apply({}, {}, jnp.asarray(pixels), train=True, key=None)
    np.testing.assert_allclose(outputs[0], (np.arange(256) / 255 - 0.4914) / 0.2471, rtol=1e-14)
    single, _ = with_precision(model, preprocessing).apply({}, {}, jnp.asarray(pixels), train=True, key=None)
    assert single.dtype == np.float32


@pytest.mark.parametrize(("augmentations", "dtype"), [((), np.float64), (("horizontal_flip",), np.float32)])
def test_a_training_step_in_double_precision_takes_double_pixels_and_augments_single_ones(augmentations, dtype):
    seen = []

    def augment(key, batch):
        result = chain([registry.augmentations.build(name) for name in augmentations])(key, batch)
        seen.append(result["inputs"].dtype)
        return result

    task = registry.tasks.build("multiclass", num_classes=2)
    model = registry.models.build("mlp(hidden=(2,))", output_size=2)
    gradient = registry.gradients.build("mean", batch_size=2, num_examples=2, num_steps=1, axis_name=None)
    batch = {"inputs": jnp.zeros((2, 4, 4, 1), jnp.uint8), "targets": jnp.arange(2), "mask": jnp.ones(2)}
    with jax.enable_x64(True):
        taken = with_precision(model, Preprocessing((4, 4), 1, (0.5,), (0.5,)), precision="f64")
        state = step.init_state(taken, optax.sgd(0.1), batch["inputs"][:1], seed=0)
        jax.eval_shape(step.make_train_step(taken, task, optax.sgd(0.1), augment, gradient=gradient), state, batch)
    assert seen == [dtype]


LAYERS = {
    "resnet18": ("fc", "conv1"),
    "convnext_tiny": ("head.fc", "stem.0"),
    "vit_tiny_patch16": ("head", "patch_embed.proj"),
    "vgg11": ("head.fc", "features.0"),
}


def zeros_of(name):
    model = registry.models.build(name, output_size=2)
    size = registry.models.entry(name).metadata["input_size"]
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *size), np.float32))
    return model, jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)


@pytest.mark.parametrize("name", LAYERS)
def test_exported_weights_name_the_layers_that_timm_replaces(name):
    model, (params, _) = zeros_of(name)
    layers = replaceable_layers(model, params, registry.models.entry(name).metadata["names"]["timm"])
    assert layers == dict(zip(("classifier", "first_conv"), LAYERS[name], strict=True))


def test_timm_takes_other_numbers_of_classes_and_channels(tmp_path):
    parity = pytest.importorskip("parity")
    pytest.importorskip("timm") if parity.import_torchvision() else None
    import timm

    model, (params, state) = zeros_of("resnet18")
    rules = registry.models.entry("resnet18").metadata["names"]["timm"]
    weight_files.write(
        tmp_path / "out",
        mapping.export(params, state, rules),
        architecture="resnet18",
        preprocessing=Preprocessing((64, 64), 3, (0.5,) * 3, (0.5,) * 3),
        classes=("a", "b"),
        num_outputs=2,
        layers=replaceable_layers(model, params, rules),
    )
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=5, in_chans=1)
    assert theirs.fc.out_features == 5 and theirs.conv1.in_channels == 1 and not theirs.conv1.weight.any()
