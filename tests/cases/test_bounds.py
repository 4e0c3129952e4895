"""Numbers without bounds: what needs more than the machine has is refused before it starts, by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvision as jv
from jaxvision import registry, specs
from jaxvision.config import Config, Execution
from jaxvision.search_space import LogUniform
from jaxvision.trials import Search, plan

GIB = 2**30


@pytest.fixture(autouse=True)
def a_machine_of_8_gib(monkeypatch):
    monkeypatch.setattr("jaxvision.machine.memory_bytes", lambda: 8 * GIB)
    monkeypatch.setattr("jaxvision.engine.footprint.memory_bytes", lambda: 8 * GIB)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cnn(channels=(1000000000000,))", "1,000,000,000,000 is beyond the largest integer of a spec, ±2,147,483,647"),
        ("mixup(alpha=2147483648)", "2,147,483,648 is beyond the largest integer"),
        ("a(b=-2147483648)", "-2,147,483,648 is beyond"),
        ("a(b=0x" + "f" * 5000 + ")", "an integer of 20,000 bits is beyond"),
        ("a(b=" + "9" * 5000 + ")", "cannot parse"),
        ("a(b=1e999)", "not finite"),
        ("a(b={'x': 1e999})", "not finite"),
        ("a(b={'x': {1e999}})", "not finite"),
        ("a(b={-1e999: 1})", "not finite"),
        ("a(b=1e999j)", "not finite"),
        ("a(b={'x': (1, 2147483648)})", "beyond the largest integer"),
        ("a(b={2147483648})", "beyond the largest integer"),
        ("a(b=" + "(" * 60 + "1," + ",)" * 60 + ")", "cannot parse"),
        ("a(b=" + "x(b=" * 150 + "1" + ")" * 150 + ")", "nested more than 50 deep"),
        ("a(b=" + "-" * 500 + "1)", "nested more than 50 deep"),
        ("a(b=" + "-" * 100_000 + "1)", "cannot parse"),
        ("a(b=" + "/".join("1" * 400) + ")", "nested more than 50 deep"),
        ("a(b=" + "(" * 100_000 + ")", "cannot parse"),
        ("a" + ".a" * 300, "nested more than 50 deep"),
        ("a(b=(" + "1," * 600_000 + "))", "more than 1,000,000 characters"),
        (",".join(["horizontal_flip"] * 101), "it lists 101 names, and at most 100 are possible"),
    ],
    ids=range(21),
)
def test_a_spec_is_bounded(text, message):
    with pytest.raises(ValueError, match=message) as error:
        specs.parse_list(text)
    assert len(str(error.value)) < 600


def test_long_specs_within_the_limits_are_read():
    weights = ", ".join(["0.123456789"] * 20_000)
    assert len(specs.parse(f"cross_entropy(class_weights=({weights}))").arguments["class_weights"]) == 20_000
    assert specs.parse("a(b=2147483647)").arguments == {"b": 2**31 - 1}
    inner = "a(b=" * 10 + "1" + ")" * 10
    assert specs.parse(inner).arguments == {"b": inner[4:-1]}
    assert len(specs.parse_list(",".join(["horizontal_flip"] * 100))) == 100


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digits(image_size=100000)", r"digits: image_size=100000 needs at least 32\.7 TiB of memory, and there are 8"),
        ("digits(image_size=2147483647)", "digits: image_size=2147483647 needs at least"),
        ("synthetic(num_examples=2147483647)", "synthetic: num_examples=2147483647, image_size=32 needs at least"),
        ("synthetic(image_size=100000)", "image_size=100000 needs at least"),
        ("synthetic(num_classes=1000000, num_examples=2000000)", "needs at least"),
        ("folder(path='{path}', image_size=100000)", "image_size=100000, one image .* needs at least"),
        ("folder(path='{path}', image_size=(1, 2147483647), channels=1)", "needs at least"),
        ("table(path='{path}/t.csv', image_size=100000)", "image_size=100000, one image .* needs at least"),
        (
            "time_series(path='{path}/s.csv', column='x', window=50000)",
            "time_series: window=50000 on 110000 steps needs",
        ),
    ],
)
def test_a_dataset_is_bounded(tmp_path, spec, message):
    for name in "ab":
        (tmp_path / name).mkdir()
    (tmp_path / "t.csv").write_text("image,target\na,a\n")
    (tmp_path / "s.csv").write_text("x\n" + "".join(f"{number % 7}\n" for number in range(110_000)))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        registry.datasets.build(spec.replace("{path}", str(tmp_path)), split_seed=0, on_bad_image="error")


def augmented(spec, size=(4, 8, 8, 3)):
    augment = registry.augmentations.build(spec, num_classes=3, seed=0)
    num = size[0]
    batch = {"inputs": jnp.zeros(size), "targets": jnp.zeros(num, int), "mask": jnp.ones(num)}
    return jax.eval_shape(augment, jax.random.key(0), {**batch, "index": jnp.arange(num), "epoch": jnp.zeros(num, int)})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("randaugment(num_ops=1000000000)", "num_ops=1000000000; expected a number of operations, 1 to 100"),
        ("mixup(alpha=2147483647)", "alpha=2147483647; expected .* at most 1,000,000"),
        ("cutmix(alpha=1e30)", "alpha=1e.30; expected .* at most"),
        ("random_crop(padding=1000000)", "random_crop: padding=1000000 needs at least"),
        ("random_crop(padding=2147483647, mode='edge')", "random_crop: padding=2147483647 needs at least"),
    ],
)
def test_an_augmentation_is_bounded(spec, message):
    with pytest.raises(ValueError, match=message):
        augmented(spec)


@pytest.mark.parametrize("spec", ["mixup(alpha=1000)", "random_crop(padding=64)", "cutout(size=2147483647)"])
def test_large_augmentations_are_traced(spec):
    assert augmented(spec)["inputs"].shape == (4, 8, 8, 3)


def refused(**fields):
    """Return the message of a run on 16 images of 32 pixels that is refused."""
    data = {"train": (np.zeros((32, 32, 32, 3), np.uint8), np.arange(32) % 2)}
    execution = Execution(**{name: fields.pop(name) for name in ("remat", "tta") if name in fields})
    with pytest.raises(ValueError, match=r"memory, and there are|expected 1,000 or less") as error:
        jv.train(Config(**{"batch_size": 16, "steps": 1} | fields), execution=execution, workdir="run", dataset=data)
    return str(error.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "mlp(hidden=(1000000000,))",
            "MLP(output_size=2, hidden=(1000000000,), dropout=0.0), of 3,075,000,000,002 parameters, needs at",
        ),
        ("mlp(hidden=(2147483647, 2147483647))", "needs at least 16.0 EiB of memory, and there are 8.0 GiB"),
        ("cnn(channels=(1000000000,))", "CNN(output_size=2, channels=(1000000000,), "),
        ("cnn(channels=(2147483647, 2147483647, 2147483647))", "needs at least"),
        ("cnn(dense=2147483647)", ", dense=(2147483647,), "),
        ("concat_cnn(channels=(1000000, 1000000))", "needs at least"),
        ("lstm(hidden=(1000000,))", "needs at least"),
        ("airbench94(channels=(64, 256, 1000000))", "needs at least"),
        (f"mlp(hidden=({'1,' * 1001}))", "hidden has 1,001 layers; expected 1,000 or less"),
        (f"cnn(channels=({'1,' * 1001}))", "channels has 1,001 layers"),
        ("mlp(hidden=(300000,))", "training the model 'mlp(hidden=(300000,))' with batch_size=16 on inputs of 32x32x3"),
        ("cnn(channels=(300000,), dense=(), num_pools=1)", "training the model"),
    ],
)
def test_a_model_is_bounded_before_it_is_made(model, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxvision.distributed.compilation.compile_init", None)
    assert message in refused(model=model)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_fit_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxvision.machine.memory_bytes", lambda: 600 * 2**20)
    monkeypatch.setattr("jaxvision.engine.footprint.memory_bytes", lambda: 600 * 2**20)
    monkeypatch.setattr("jaxvision.training_setup.LARGE", 0)
    model = "vgg11_bn(dropout=0.1)" if "vgg11_bn" in registry.models.names() else "resnet50"
    assert "with batch_size=16 on inputs of 32x32x3 needs at least" in refused(model=model)


GAN = "gan(hidden=2147483647)"


def test_a_generator_is_bounded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "needs at least" in refused(model=GAN, task="gan")


@pytest.mark.parametrize("name", ["batch_size", "grad_accum_steps", "epochs", "steps", "eval_every", "patience"])
def test_a_field_is_bounded(name):
    with pytest.raises(ValueError, match=rf"{name}=10000000000 must be at least 1 and below 2\*\*31"):
        Config(**{name: 10**10})
    assert getattr(Config(**{name: 2**31 - 1}), name) == 2**31 - 1


def test_numbers_of_fields_are_finite():
    for name in ("learning_rate", "grad_clip_norm"):
        with pytest.raises(ValueError, match=rf"{name}=inf must be above 0 and finite"):
            Config(**{name: float("inf")})
    with pytest.raises(ValueError, match="eval_batch_size=2147483648 must be"):
        Execution(eval_batch_size=2**31)


@pytest.mark.parametrize(
    "search",
    [
        Search({"batch_size": (1, 2)}, seeds=10**12),
        Search({"batch_size": (1, 2)}, folds=10**9),
        Search({"learning_rate": LogUniform(1e-3, 1)}, "random", 10**9),
        Search({name: tuple(range(1, 1001)) for name in ("batch_size", "steps", "epochs", "eval_every")}),
    ],
)
def test_a_sweep_is_bounded(search):
    with pytest.raises(ValueError, match=r"a sweep of .* trials; expected 10,000 or less"):
        plan(Config(), search)


@pytest.mark.parametrize("spec", ["cnn(channels=(1000000000,))", "mlp(hidden=(99999999,))"])
def test_a_model_of_the_registry_is_bounded_by_its_shapes(spec):
    with pytest.raises(ValueError, match="needs at least"):
        model = registry.models.build(spec, output_size=3, input_size=(32, 32, 3))
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_a_model_of_a_plugin_is_bounded():
    from jaxvision.distributed.mesh import make_mesh
    from jaxvision.engine import footprint

    params = {"w": jax.ShapeDtypeStruct((2**31, 2**31, 2**31), np.float32)}
    with pytest.raises(
        ValueError, match=r"the model 'mine', of 9,903,520,314,283,042,199,192,993,792 parameters, needs"
    ):
        footprint.check_model("mine", params, make_mesh())
