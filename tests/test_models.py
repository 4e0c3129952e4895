"""Parameter counts as published, and convolutions and pooling against JAX's own."""

import functools
import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxvision import registry
from jaxvision.models import airbench, convolution
from jaxvision.models.convolution import conv_general
from jaxvision.models.layers import Dense, adaptive_average_pool
from jaxvision.models.linen import from_linen
from jaxvision.models.pooling import max_pool
from jaxvision.run import num_parameters


def count(spec, input_size, output_size):
    model = registry.models.build(spec, output_size=output_size, input_size=input_size)
    params, _ = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *input_size), np.float32))
    return num_parameters(params)


@pytest.mark.parametrize(
    ("spec", "input_size", "output_size", "expected"),
    [
        ("cnn", (32, 32, 3), 10, 122_570),
        ("cnn", (28, 28, 1), 10, 93_322),
        ("cnn(channels=(32,), dense=128)", (64, 64, 3), 1, 3_937_409),
        ("concat_cnn", (28, 28, 1), 10, 76_138),
        ("resnet18", (224, 224, 3), 1000, 11_689_512),  # torchvision's count
        ("resnet50", (224, 224, 3), 1000, 25_557_032),  # torchvision's count
        ("lstm", (60, 1), 1, 10_400 + 20_200 + 1_275 + 26),  # two layers of 50, 25 and 1, one bias a gate
        ("gan", (28, 28, 1), 1, (100 * 128 + 128 + 128 * 784 + 784) + (784 * 128 + 128 + 128 + 1)),
        ("resnet20", (32, 32, 3), 10, 269_722),  # 0.27 M in table 6 of the paper
        ("mlp(hidden=(16, 8))", (4, 4, 3), 5, 48 * 16 + 16 + 16 * 8 + 8 + 8 * 5 + 5),
    ],
)
def test_number_of_parameters(spec, input_size, output_size, expected):
    assert count(spec, input_size, output_size) == expected


def with_facts():
    for name in registry.models.names():
        size = registry.models.entry(name).metadata.get("num_parameters")
        if size:
            yield pytest.param(name, marks=pytest.mark.slow) if size > 12_000_000 else name


@pytest.mark.parametrize("name", list(with_facts()))
def test_registered_facts_are_true(name):
    metadata = registry.models.entry(name).metadata
    output_size = metadata.get("output_size", 10 if metadata["input_size"][0] < 64 else 1000)
    assert count(name, metadata["input_size"], output_size) == metadata["num_parameters"]


NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


def ours_and_jaxs(strides, padding, *, pooled=False, **options):
    """The same convolution twice: as our layers compute it and as lax does."""
    chosen = {"window_strides": strides, "padding": padding, "dimension_numbers": NHWC, **options}
    return partial(conv_general, **chosen, pooled=pooled), partial(lax.conv_general_dilated, **chosen)


def assert_same_with_gradients(ours, theirs, lhs, rhs):
    np.testing.assert_allclose(ours(lhs, rhs), theirs(lhs, rhs), atol=1e-12)
    for argument in (0, 1):
        one, other = (jax.grad(lambda *a, f=f: (f(*a) ** 2).sum(), argument)(lhs, rhs) for f in (ours, theirs))
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("window", [(1, 1), (2, 2), (3, 3), (7, 5)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("padding", ["VALID", "SAME", ((1, 1), (1, 1)), ((0, 2), (1, 0))])
@pytest.mark.parametrize(("shape", "groups"), [((3, 4), 1), ((1, 3), 3)])  # 3 groups of one channel: depthwise
def test_convolution_is_that_of_jax(window, strides, padding, shape, groups):
    ours, theirs = ours_and_jaxs(strides, padding, feature_group_count=groups)
    with jax.enable_x64(True):
        lhs = jax.random.normal(jax.random.key(0), (2, 11, 12, 3), jnp.float64)
        rhs = jax.random.normal(jax.random.key(1), (*window, *shape), jnp.float64)
        assert_same_with_gradients(ours, theirs, lhs, rhs)


@pytest.mark.parametrize(
    ("size", "padding", "strides"),
    [
        (9, "VALID", (1, 1)),
        (10, "VALID", (1, 1)),  # from 10 rows on there may be one more
        (14, "VALID", (1, 1)),  # and from 14 on three
        (11, "VALID", (2, 2)),
        (11, "SAME", (1, 1)),
        (12, "SAME", (2, 2)),
        (2, "SAME", (1, 1)),  # smaller than the window
    ],
)
@pytest.mark.parametrize(("one_task", "pooled"), [(64, False), (64, True), (4, False)])
def test_convolution_of_many_channels_is_that_of_jax(size, padding, strides, one_task, pooled, monkeypatch):
    monkeypatch.setattr(convolution, "CACHE_BYTES", 4096)  # so that the kernel's gradient comes in parts
    monkeypatch.setattr(convolution, "ONE_TASK", one_task)  # so that another number of rows is added
    ours, theirs = ours_and_jaxs(strides, padding, pooled=pooled)
    with jax.enable_x64(True):
        lhs = jax.nn.relu(jax.random.normal(jax.random.key(0), (6, size, size, 16), jnp.float64))
        rhs = jax.random.normal(jax.random.key(1), (3, 3, 16, 17), jnp.float64)
        assert_same_with_gradients(ours, theirs, lhs, rhs)
        changes = jax.random.normal(jax.random.key(2), lhs.shape), jax.random.normal(jax.random.key(3), rhs.shape)
        for one, other in zip(*(jax.jvp(f, (lhs, rhs), changes) for f in (ours, theirs)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-11)
        if size > 2:
            count = str(jax.make_jaxpr(jax.grad(lambda rhs: ours(lhs, rhs).sum()))(rhs)).count("conv_general_dilated")
            assert count > 4  # forward, elsewhere and back, and one back for each part


@pytest.mark.parametrize("window", [(3, 3), (1, 3)])
@pytest.mark.parametrize("argument", [0, 1])
def test_a_penalty_on_a_convolutions_gradient_has_the_gradient_of_jax(argument, window):
    def penalty(convolution, lhs, rhs):
        return (jax.grad(lambda *a: (convolution(*a) ** 3).sum())(lhs, rhs) ** 2).sum()

    ours, theirs = ours_and_jaxs((1, 1), "SAME")
    with jax.enable_x64(True):
        lhs = jax.nn.relu(jax.random.normal(jax.random.key(0), (2, 11, 11, 16), jnp.float64))  # half of it 0
        rhs = jax.random.normal(jax.random.key(1), (*window, 16, 17), jnp.float64)
        one, other = (jax.grad(partial(penalty, each), argument)(lhs, rhs) for each in (ours, theirs))
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_whitened_patches_have_the_identity_as_second_moments():
    images = jax.random.uniform(jax.random.key(0), (50, 9, 9, 3)) * jnp.array([1.0, 2.0, 0.5]) - 0.3
    kernel = airbench.whitening(images)
    assert kernel.shape == (2, 2, 3, 24)
    np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])
    whitened = lax.conv_general_dilated(
        images, kernel[..., :12], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).reshape(-1, 12)
    np.testing.assert_allclose(whitened.T @ whitened / len(whitened), np.eye(12), atol=0.05)


def test_grouped_and_dilated_convolutions_are_those_of_jax():
    lhs = jax.random.normal(jax.random.key(0), (2, 9, 9, 4))
    rhs = jax.random.normal(jax.random.key(1), (3, 3, 2, 6))
    ours, theirs = ours_and_jaxs((1, 1), "SAME", rhs_dilation=(2, 2), feature_group_count=2)
    np.testing.assert_array_equal(ours(lhs, rhs), theirs(lhs, rhs))


def test_pooling_of_more_places_than_a_byte_counts_has_the_gradient_of_jax():
    x = jax.random.normal(jax.random.key(0), (1, 16, 17, 2))
    gradient = jax.grad(lambda x: max_pool(x, (16, 17)).sum())(x)
    np.testing.assert_array_equal(gradient, x == x.max(axis=(1, 2), keepdims=True))


@pytest.mark.parametrize(
    "options", [{}, {"joined": True}, {"window": (3, 3), "strides": (2, 2), "padding": ((1, 1), (1, 1))}]
)
@pytest.mark.parametrize("size", [8, 9])
def test_pooling_is_that_of_jax(options, size):
    x = jnp.round(jax.random.normal(jax.random.key(0), (2, size, size + 1, 3)))  # with equals, of which one is chosen
    window, strides = options.get("window", (2, 2)), options.get("strides", (2, 2))
    pads = ((0, 0), *options.get("padding", ((0, 0), (0, 0))), (0, 0))

    def theirs(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), pads)

    np.testing.assert_array_equal(max_pool(x, **options), theirs(x))
    (found, back), (wanted, their_back) = (jax.vjp(f, x) for f in (partial(max_pool, **options), theirs))
    np.testing.assert_array_equal(found, wanted)
    gradient = jax.random.normal(jax.random.key(1), found.shape)
    np.testing.assert_allclose(*back(gradient), *their_back(gradient), rtol=1e-6, atol=1e-6)
    change = jax.random.normal(jax.random.key(2), x.shape)
    again, theirs_again = (
        jax.jvp(jax.grad(lambda x, f=f: (f(x) ** 3).sum()), (x,), (change,))[1]
        for f in (partial(max_pool, **options), theirs)
    )
    np.testing.assert_allclose(again, theirs_again, rtol=1e-5, atol=1e-5)


def test_a_dense_layer_on_a_map_is_that_of_flax():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    layers = [kind(7, precision="highest") for kind in (Dense, nn.Dense)]
    params = layers[0].init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, layers[1].init(jax.random.key(1), x))
    ours, theirs = (jax.value_and_grad(lambda p, x, m=m: (m.apply(p, x) ** 3).sum(), (0, 1))(params, x) for m in layers)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), ours, theirs)


def test_adaptive_pooling_takes_overlapping_and_repeated_windows():
    x = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0])
    down, up = (adaptive_average_pool(x[None, :length, None, None], (size, 1)) for length, size in ((5, 3), (2, 3)))
    np.testing.assert_allclose(down[0, :, 0, 0], [1.5, 14 / 3, 12.0])  # of 0 to 2, 1 to 4, 3 to 5
    np.testing.assert_allclose(up[0, :, 0, 0], [1.0, 1.5, 2.0])  # of 0 to 1, 0 to 2, 1 to 2


def test_images_too_small_are_told_how_large():
    with pytest.raises(ValueError, match=r"images of 8x8 pixels are too small for cnn.*takes 18x18 and larger"):
        count("cnn", (8, 8, 1), 10)
    assert count("cnn", (18, 18, 1), 10) > 0
    with pytest.raises(ValueError, match="too small for concat_cnn"):
        count("concat_cnn", (17, 40, 1), 10)
    with pytest.raises(ValueError, match="too small for vgg, which takes 32x32 and larger; enlarge them"):
        count("vgg11", (31, 32, 3), 10)
    with pytest.raises(ValueError, match="too small for densenet, which takes 29x29"):
        count("densenet121", (29, 28, 3), 10)
    assert count("cnn(padding='SAME')", (4, 4, 1), 10) > 0
    with pytest.raises(ValueError, match=r"31x40 pixels are too small for convnext, which takes 32x32 and larger"):
        count("convnext_tiny", (31, 40, 3), 10)


@pytest.mark.parametrize(
    "spec",
    [
        "cnn(channels=())",
        "cnn(dropout=1.0)",
        "concat_cnn(channels=(0,))",
        "wide_resnet28_10(dropout=1.0)",
        "vgg11(dropout=-0.1)",
    ],
)
def test_impossible_networks_are_refused(spec):
    with pytest.raises(ValueError, match="expected"):
        registry.models.build(spec, output_size=2)


def test_dropout_acts_in_training_alone():
    model = registry.models.build("mlp(hidden=(64,), dropout=0.9)", output_size=4)
    x = jnp.ones((1, 4, 4, 1))
    params, state = model.init(jax.random.key(0), x)

    def apply(train, key):
        return model.apply(params, state, x, train=train, key=jax.random.key(key))[0]

    assert not np.array_equal(apply(True, 1), apply(True, 2))
    assert np.array_equal(apply(False, 1), apply(False, 2))


def smallest_of_families():
    """The variant of each family with the fewest parameters: its factories hand their options on in one place."""
    names = sorted(
        registry.models.names(), key=lambda name: registry.models.entry(name).metadata.get("num_parameters", 0)
    )
    return {registry.models.entry(name).factory.__module__: name for name in reversed(names)}.values()


def optional(*options):
    """Specs with one of these options set, for each family that takes it."""
    wanted = [(name, *option) for name in smallest_of_families() for option in options]
    return [f"{name}({option}={value})" for name, option, value in wanted if registry.models.takes(name, option)]


def traced(spec, train, *, remat=False):
    """What a model is to JAX, as text."""
    metadata = registry.models.entry(spec.partition("(")[0]).metadata
    size = (metadata.get("least_size", 32),) * 2 + (3,)
    model = registry.models.build(spec, output_size=metadata.get("output_size", 10), input_size=size)
    model = model.remat() if remat else model
    key, inputs = jax.random.key(0), jax.ShapeDtypeStruct((2, *size), np.float32)
    params, state = jax.eval_shape(model.init, key, inputs)
    apply = jax.make_jaxpr(lambda params, state, inputs: model.apply(params, state, inputs, train=train, key=key))
    return str(apply(params, state, inputs))


@pytest.mark.parametrize("spec", optional(("dropout", 0.5), ("drop_path", 0.5)))
def test_what_is_dropped_is_drawn_in_training_alone(spec):
    assert "random_bits" in traced(spec, True)
    assert "random_bits" not in traced(spec, False)
    name, _, option = spec.partition("(")
    assert registry.models.default(name, option.partition("=")[0]) == 0


WITH_BLOCKS = [
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "inception_v3",
    "mobilenet_v3_small",
    "resnet20",
    "vgg11",
    "vit_tiny_patch16",
    "wide_resnet28_10",
]


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_blocks_are_computed_again_in_training_alone(name):
    assert "remat" in traced(name, True, remat=True)
    assert "remat" not in traced(name, False, remat=True)
    assert "remat" not in traced(name, True)


@pytest.mark.parametrize("name", ["airbench94", "cnn", "concat_cnn", "dcgan", "lstm", "mlp"])
def test_models_without_blocks_have_no_remat(name):
    assert registry.models.build(name, output_size=1, input_size=(32, 32, 3)).remat is None


def test_from_linen_takes_a_module_without_train():
    import flax.linen as nn

    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(x.reshape(len(x), -1))

    model = from_linen(Plain())
    params, state = model.init(jax.random.key(0), jnp.ones((2, 4, 4, 1)))
    assert model.apply(params, state, jnp.ones((2, 4, 4, 1)), train=True, key=None)[0].shape == (2, 3)
    assert state == {}


class SmallBlock(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        return x + nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(4, name="dense")(x)))


class SmallNormed(nn.Module):
    @nn.compact
    def __call__(self, x, *, train: bool):
        x = nn.Dense(4, name="stem")(x.reshape(len(x), -1))
        for index in (1, 2):
            x = SmallBlock(name=f"block{index}")(x, train)
        return nn.Dense(3, name="head")(x)


def test_variations_compose_in_any_order():
    plain = from_linen(SmallNormed(), blocks=(SmallBlock,))
    frozen = frozenset({"block1/norm"})
    variations = [lambda m: m.freeze(frozen), lambda m: m.synchronize("shares"), lambda m: m.remat()]

    def gradient(model, num_shares):
        def loss(params, inputs):
            outputs, new = model.apply(params, state, inputs, train=True, key=None)
            return (outputs**2).mean(), new

        function = jax.vmap(jax.grad(loss, has_aux=True), in_axes=(None, 0), axis_name="shares")
        return jax.jit(function), (params, inputs.reshape(num_shares, -1, 2, 2, 3))

    with jax.enable_x64(True):
        inputs = jax.random.normal(jax.random.key(1), (4, 2, 2, 3), jnp.float64)
        params, state = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), plain.init(jax.random.key(0), inputs))
        orders = list(itertools.permutations(variations))
        models = [functools.reduce(lambda model, vary: vary(model), order, plain) for order in orders]
        texts = {function.lower(*each).as_text() for function, each in (gradient(model, 2) for model in models)}
        assert len(texts) == 1
        function, arguments = gradient(models[0], 2)
        assert str(jax.make_jaxpr(function)(*arguments)).count("remat") >= 2
        found, new = jax.tree.map(np.asarray, function(*arguments))
        function, arguments = gradient(plain.freeze(frozen), 1)
        wanted, wanted_new = jax.tree.map(np.asarray, function(*arguments))
    first, second = (new["batch_stats"][f"block{index}"]["norm"]["mean"] for index in (1, 2))
    assert not first.any() and second.any()
    close = partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-9)
    jax.tree.map(lambda one, other: close(one, np.concatenate([other, other])), new, wanted_new)
    jax.tree.map(lambda one, other: close(one.mean(axis=0), other[0]), found, wanted)


def test_blocks_computed_again_change_no_gradient_and_hold_less():
    inputs = jax.random.normal(jax.random.key(1), (16, 32, 32, 3))

    def computed(remat):
        model = registry.models.build("resnet20", output_size=10)
        model = model.remat() if remat else model
        params, state = jax.jit(model.init)(jax.random.key(0), inputs)

        def loss(params):
            return (model.apply(params, state, inputs, train=True, key=None)[0] ** 2).mean()

        held = jax.tree.leaves(jax.eval_shape(lambda params: jax.vjp(loss, params)[1], params))
        return jax.jit(jax.grad(loss))(params), sum(leaf.size for leaf in held)

    (kept, size), (again, smaller) = computed(False), computed(True)
    assert smaller < 0.3 * size  # what the backward pass is handed; what a compiler makes of it differs
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "spec", ["mobilenet_v2(dropout=1.0)", "efficientnet_b0(drop_path=-0.1)", "convnext_tiny(drop_path=1.5)"]
)
def test_impossible_rates_are_refused(spec):
    with pytest.raises(ValueError, match="expected a probability of at least 0 and below 1"):
        registry.models.build(spec, output_size=4)


def test_epsilon_of_a_norm_acts():
    inputs = jax.random.normal(jax.random.key(1), (1, 32, 32, 3))
    one, other = (
        registry.models.build(f"mobilenet_v3_small{each}", output_size=4) for each in ("", "(norm_epsilon=0.1)")
    )
    params, state = jax.jit(one.init)(jax.random.key(0), inputs)
    evaluate = [jax.jit(partial(model.apply, train=False, key=None)) for model in (one, other)]
    outputs = [each(params, state, inputs)[0] for each in evaluate]
    assert not np.allclose(*outputs)
