"""Vision transformers: names in other libraries, randomness, feature taps, and rejected sizes."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

from jaxvision import registry
from jaxvision.models.linen import from_linen
from jaxvision.models.vit import NAMES, Block, VisionTransformer
from jaxvision.weights import mapping


def small(*, output_size=3, dropout=0.0, drop_path=0.0):
    shape = {"patch_size": 4, "width": 12, "depth": 3, "num_heads": 2}
    module = VisionTransformer(output_size, **shape, dropout=dropout, drop_path=drop_path)
    return from_linen(module, head="head", blocks=(Block,))


IMAGES = jax.random.normal(jax.random.key(1), (4, 8, 12, 3))


@pytest.mark.skipif(not importlib.util.find_spec("torchvision"), reason="torchvision not installed")
@pytest.mark.parametrize("of", ["module", "files"])
def test_names_and_logits_are_torchvisions(of):
    torchvision = parity.import_torchvision()
    theirs = torchvision.models.VisionTransformer(8, 4, num_layers=3, num_heads=2, hidden_dim=12, mlp_dim=48)
    theirs = theirs.double().eval()
    parity.randomise(theirs, size=(8, 8))
    tensors = parity.tensors_of(theirs)
    if of == "files":
        tensors = {
            re.sub(r"mlp\.([03])\.", lambda m: f"mlp.linear_{int(m[1]) // 3 + 1}.", k): v for k, v in tensors.items()
        }
    inputs = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    with jax.enable_x64(True):
        model = small(output_size=1000)
        fitted = mapping.fit(tensors, *parity.double_shapes(model, inputs), NAMES)
        assert not {**fitted.missing, **fitted.unexpected, **fitted.misshapen}
        ours = model.apply(fitted.params, fitted.state, inputs, train=False, key=None)[0]
    wanted = parity._apply_torch(theirs, inputs, False)[0]
    np.testing.assert_allclose(ours, wanted, atol=1e-12 * np.abs(wanted).max())


@pytest.mark.parametrize("option", [{}, {"dropout": 0.3}, {"drop_path": 0.5}])
def test_dropout_and_drop_path_act_in_training_alone(option):
    model = small(**option)
    params, state = model.init(jax.random.key(0), IMAGES)

    def outputs(seed, train):
        return model.apply(params, state, IMAGES, train=train, key=jax.random.key(seed))[0]

    assert np.array_equal(outputs(1, True), outputs(2, True)) == (not option)
    assert np.array_equal(outputs(1, False), outputs(2, False))
    again = model.remat().apply(params, state, IMAGES, train=True, key=jax.random.key(1))[0]
    np.testing.assert_allclose(again, outputs(1, True), rtol=1e-6)


def test_what_is_added_to_a_map_flows_on():
    model = small()
    params, state = model.init(jax.random.key(0), IMAGES)
    params = jax.tree.map(lambda leaf: 10 * leaf, params)  # to be seen through the attention of 0.02
    assert model.features is not None
    maps = model.features(params, state, IMAGES)
    assert list(maps) == ["stem", "block1", "block2", "block3", "pooled", "outputs"]
    assert maps["block2"].shape == (4, 2, 3, 12) and maps["pooled"].shape == (4, 12)
    head = params["head"]
    np.testing.assert_allclose(
        maps["pooled"] @ head["kernel"] + head["bias"],
        model.apply(params, state, IMAGES, train=False, key=None)[0],
        rtol=1e-5,
    )
    for name in ("stem", "block1", "block2"):
        added = jax.random.normal(jax.random.key(2), maps[name].shape)
        moved = model.features(params, state, IMAGES, add={name: added})
        assert not np.allclose(moved["pooled"], maps["pooled"])


def test_attention_is_given_where_asked_for():
    model = small()
    params, state = model.init(jax.random.key(0), IMAGES)
    params = jax.tree.map(lambda leaf: 10 * leaf, params)
    maps = model.features(params, state, IMAGES)
    more = model.features(params, state, IMAGES, attention=True)
    names = ["block1_attention", "block2_attention", "block3_attention"]
    assert [name for name in more if name not in maps] == names
    for name in names:
        assert more[name].shape == (4, 2, 7, 7)  # of 2x3 patches and the class token
        assert more[name].std() > 0.01
        np.testing.assert_allclose(more[name].sum(axis=-1), 1, rtol=1e-6)
    for name, each in maps.items():
        np.testing.assert_array_equal(more[name], each)
    text = str(jax.make_jaxpr(lambda *a: model.features(*a, attention=True))(params, state, IMAGES))
    assert text.count(" exp ") == 3  # one softmax a block, asked for or not


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.bfloat16, 0.1), (jnp.float64, 1e-5)])
def test_other_precisions_give_the_same_gradients(dtype, tolerance):
    model = small()
    params, state = model.init(jax.random.key(0), IMAGES)

    def gradient(params, inputs):
        def loss(params):
            outputs = model.apply(params, state, inputs, train=True, key=None)[0]
            assert outputs.dtype == inputs.dtype
            return (outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32)) ** 2).sum()

        return jax.jit(jax.grad(loss))(params)

    wanted = gradient(params, IMAGES)
    with jax.enable_x64(True):
        found = gradient(*jax.tree.map(lambda x: x.astype(dtype), (params, IMAGES)))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == dtype
        difference = np.linalg.norm(np.asarray(one, np.float64) - other)
        assert difference <= tolerance * np.linalg.norm(other) + tolerance * 1e-3


@pytest.mark.parametrize(
    ("size", "nearest"),
    [((40, 70), "32x64 or 48x80"), ((9, 16), "16x16"), ((32, 33), "32x32 or 32x48")],
)
def test_sizes_that_cannot_be_cut_into_patches_are_told_the_nearest(size, nearest):
    model = registry.models.build("vit_tiny_patch16", output_size=2)
    with pytest.raises(ValueError, match=rf"of {size[0]}x{size[1]} pixels .* patches of 16x16; .* to {nearest} \("):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *size, 3), np.float32))


@pytest.mark.parametrize("spec", ["vit_tiny_patch16(dropout=1.0)", "deit_tiny_patch16(drop_path=-0.1)"])
def test_shares_that_are_none_are_refused(spec):
    with pytest.raises(ValueError, match="expected a probability"):
        registry.models.build(spec, output_size=2)
