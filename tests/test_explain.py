"""Explanations against definitions computed by hand; runs, targets, refusals and files of the command `explain`."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxvision as jv
from jaxvision import heat_maps, registry
from jaxvision import run as runs
from jaxvision.cli import run as command
from jaxvision.data import open_dataset
from jaxvision.explanations.maps import chosen_map
from jaxvision.reports import overlays

KEY = jax.random.key(0)
SYNTHETIC = "synthetic(num_examples=60, num_classes={}, image_size=16)"


def trained(tmp_path, **settings):
    """Return a run with new parameters, as if it were loaded."""
    config = jv.Config(**{"dataset": SYNTHETIC.format(3), "model": "cnn(channels=(4, 6), dense=())", **settings})
    dataset = settings.pop("data", None) or open_dataset(config)
    run = runs.build(config, dataset, execution=jv.Execution(mesh="data=1"))
    params, state = run.model.init(KEY, runs.example_inputs(run).dtype.type(0) * np.ones((1, 16, 16, 3), np.uint8))

    def step(params, state, batch):
        return run.task.predict(run.model, params, state, {**batch, "inputs": batch["inputs"] / 255})

    return runs.Trained(run, tmp_path, 0, params, state, step)


def images(count=3, size=16):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def explain(spec, model, params, state, inputs, target, key=KEY):
    explanation = registry.explanations.build(spec)
    return np.asarray(jax.jit(lambda *a: explanation.explain(model, *a, key=key))(params, state, inputs, target))


def toy(inputs_to_outputs):
    """Return a model without parameters."""

    def apply(params, state, inputs, *, train, key):
        return inputs_to_outputs(inputs), state

    return jv.Model(init=lambda key, inputs: ({}, {}), apply=apply)


@pytest.fixture(scope="module")
def linear_head():
    """A model with a map of 4x4 cells of 5 channels, and a head that is linear in the map's mean."""
    rng = np.random.default_rng(0)
    kernel, head = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 5), (5, 3)))

    def features(params, state, inputs, *, add=None):
        cells = inputs.reshape(len(inputs), 4, 4, 4, 4, 3).mean(axis=(2, 4)) @ params["kernel"]
        cells = jax.nn.relu(cells) + (add or {}).get("cells", 0)
        return {"cells": cells, "outputs": cells.mean(axis=(1, 2)) @ params["head"]}

    def apply(params, state, inputs, *, train, key):
        return jnp.tanh(features(params, state, inputs)["outputs"]), state

    model = jv.Model(init=lambda key, inputs: ({}, {}), apply=apply, features=features)
    inputs = rng.normal(size=(3, 16, 16, 3)).astype(np.float32)
    return model, {"kernel": kernel, "head": head}, {}, inputs, np.eye(3, dtype=np.float32)


def test_grad_cam_of_a_linear_head_is_its_class_activation_map(linear_head):
    """B. Zhou et al. 2016: the channels weighted by the kernel of the head, for each class."""
    model, params, state, inputs, target = linear_head
    activation = np.asarray(model.features(params, state, inputs)["cells"])
    weighted = np.einsum("bhwc,cb->bhw", activation, np.asarray(params["head"])) / 16
    found = explain("grad_cam", model, params, state, inputs, target)
    assert found.shape == (3, 4, 4) and weighted.min() < 0 < weighted.max()
    np.testing.assert_allclose(found, np.maximum(weighted, 0), atol=1e-6)


def test_grad_cam_plus_plus_and_layer_cam_of_a_linear_head(linear_head):
    model, params, state, inputs, target = linear_head
    activation = np.asarray(model.features(params, state, inputs)["cells"], np.float64)
    gradient = np.asarray(params["head"], np.float64).T[:, None, None] / 16  # that of each cell
    share = gradient**2 / (2 * gradient**2 + activation.sum(axis=(1, 2), keepdims=True) * gradient**3)
    weights = 16 * share * np.maximum(gradient, 0)  # summed over the 16 cells, which are alike
    expected = np.maximum((weights * activation).sum(axis=-1), 0)
    found = explain("grad_cam_plus_plus", model, params, state, inputs, target)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    by_cell = (np.maximum(gradient, 0) * activation).sum(axis=-1)
    np.testing.assert_allclose(explain("layer_cam", model, params, state, inputs, target), by_cell, rtol=1e-4)


def test_integrated_gradients_of_a_square_are_exact():
    model = toy(lambda inputs: (inputs**3).sum(axis=(1, 2, 3))[:, None] * jnp.ones(2))
    inputs = np.random.default_rng(0).normal(size=(2, 3, 3, 2)).astype(np.float32)
    found = explain("integrated_gradients(steps=4)", model, {}, {}, inputs, np.eye(2, dtype=np.float32))
    np.testing.assert_allclose(found, (inputs**3).sum(axis=-1), rtol=1e-4, atol=1e-5)
    moved = explain("integrated_gradients(steps=4, baseline=0.5)", model, {}, {}, inputs, np.eye(2, dtype=np.float32))
    np.testing.assert_allclose(moved, (inputs**3 - 0.125).sum(axis=-1), rtol=1e-4, atol=1e-4)


def test_the_steps_of_integrated_gradients_double_until_the_map_is_complete():
    model = toy(
        lambda inputs: jax.nn.sigmoid(200 * (inputs.mean(axis=(1, 2, 3)) - 0.9))[:, None]
    )  # a step at 0.9 of the way, which few nodes miss
    inputs, target = np.ones((1, 2, 2, 1), np.float32), np.ones((1, 1), np.float32)
    few = explain("integrated_gradients(steps=8)", model, {}, {}, inputs, target)
    assert abs(few.sum() - 1) < 0.01
    nodes, weights = np.polynomial.legendre.leggauss(8)
    sigmoid = 1 / (1 + np.exp(-200 * ((nodes + 1) / 2 - 0.9)))
    assert abs((weights / 2 * 200 * sigmoid * (1 - sigmoid)).sum() - 1) > 0.1  # what 8 alone give


def test_smooth_grad_without_noise_is_the_gradient_and_noise_is_that_of_the_key(linear_head):
    model, params, state, inputs, target = linear_head

    def score(inputs):
        return (model.apply(params, state, inputs, train=False, key=None)[0] * target).sum()

    plain = np.abs(jax.jit(jax.grad(score))(inputs)).max(axis=-1)
    found = explain("smooth_grad(samples=2, noise=0.0)", model, params, state, inputs, target)
    np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-6)
    noisy = [explain("smooth_grad(samples=2)", model, params, state, inputs, target, jax.random.key(k)) for k in (0, 1)]
    alone = explain("smooth_grad(samples=2)", model, params, state, inputs[1:2], target[1:2], jax.random.key(1))
    np.testing.assert_allclose(noisy[1][1:2], alone, rtol=1e-3, atol=1e-6)
    assert not np.allclose(*noisy)


def test_occlusion_by_hand():
    model = toy(lambda inputs: inputs[:, 2:4, 2:4].sum(axis=(1, 2, 3))[:, None])
    inputs, target = np.ones((1, 6, 6, 1), np.float32), np.ones((1, 1), np.float32)
    (apart,) = explain("occlusion(window=2, stride=2, value=0.0)", model, {}, {}, inputs, target)
    expected = np.zeros((6, 6))
    expected[2:4, 2:4] = 4
    np.testing.assert_array_equal(apart, expected)
    (overlapping,) = explain("occlusion(window=4, stride=2, value=0.0)", model, {}, {}, inputs, target)
    np.testing.assert_array_equal(overlapping, np.full((6, 6), 4))  # every window covers the square
    (larger,) = explain("occlusion(window=9, value=0.0)", model, {}, {}, inputs, target)
    np.testing.assert_array_equal(larger, np.full((6, 6), 4))


def test_attention_rollout_by_hand():
    """Of twelve blocks, whose names JAX sorts as block1, block10, block11, block12, block2."""
    shares = np.random.default_rng(0).dirichlet(np.ones(7), size=(12, 2, 3, 7)).astype(np.float32)  # block, B, heads, N
    named = {f"block{number}_attention": each for number, each in enumerate(shares, 1)}

    def features(params, state, inputs, *, add=None, attention=False):
        return {"block12": jnp.zeros((2, 2, 3, 4)), **(dict(sorted(named.items())) if attention else {})}

    model = toy(lambda inputs: inputs)._replace(features=features)
    rolled = np.eye(7)
    for each in shares.astype(np.float64).mean(axis=2):
        rolled = (0.5 * each + 0.5 * np.eye(7)) @ rolled
    found = explain("attention_rollout", model, {}, {}, np.zeros((2, 8, 12, 3), np.float32), np.eye(3)[:2])
    np.testing.assert_allclose(found, rolled[:, 0, 1:].reshape(2, 2, 3), rtol=1e-5)
    source = registry.explanations.build("attention_rollout").source
    assert source(model, {}, {}, np.zeros((2, 8, 12, 3))) == "the attention of all blocks (2x3)"


def test_the_deepest_map_of_four_cells_is_chosen_and_others_by_name(tmp_path):
    run = trained(tmp_path)
    assert heat_maps.make_explainer(run).source == "conv2 (5x5)"
    by_name = heat_maps.make_explainer(run, "layer_cam(layer='conv1')")
    assert by_name.source == "conv1 (14x14)" and by_name.maps(images(), np.zeros(3, int)).shape == (3, 14, 14)
    small = trained(tmp_path, model="cnn(channels=(4, 4, 4, 4), dense=(), num_pools=3, padding='SAME')")
    assert heat_maps.make_explainer(small).source == "conv3 (4x4)"  # conv4 has 2x2
    with pytest.raises(
        ValueError, match=r"none of its maps has 4x4 cells or more: a \(9x3\), b \(2x2\); name one, as "
    ):
        chosen_map({"a": (9, 3), "b": (2, 2)}, None)


@pytest.mark.parametrize(
    ("settings", "method", "message"),
    [
        ({"model": "mlp(hidden=(4,))"}, "grad_cam", r"'mlp\(hidden=\(4,\)\)': it has no feature maps.*integrated_grad"),
        ({"model": "lstm"}, "layer_cam", r"'lstm': it has no feature maps .*it names lstm1.*integrated_gradients"),
        ({}, "grad_cam(layer='conv9')", r"it has no map 'conv9'; did you mean .*; its maps are conv1 \(14x14\), conv2"),
        ({}, "attention_rollout", r"it has no attention with a class token; use --method=integrated_gradients"),
        ({}, "grad_camm", "unknown explanation 'grad_camm'; did you mean 'grad_cam'"),
        ({}, "occlusion(window=2, stride=3)", "a stride of at most window"),
        ({}, "integrated_gradients(steps=0)", "expected 1 <= steps <= max_steps"),
        (
            {"task": "gan", "model": "gan(hidden=8)"},
            "integrated_gradients",
            "the task 'gan' has 1 outputs for 3 classes",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(settings, method, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        heat_maps.make_explainer(trained(tmp_path, **settings), method)


def test_the_one_logit_of_two_classes_counts_for_the_second_and_against_the_first(tmp_path):
    run = trained(tmp_path, task="binary", dataset=SYNTHETIC.format(2))
    first, second = (
        heat_maps.heat_maps(run, images(), np.full(3, target), method="integrated_gradients") for target in (0, 1)
    )
    np.testing.assert_allclose(first, -second, atol=1e-6)
    logit, _ = run.run.model.apply(run.params, run.model_state, images(), train=False, key=None)
    black, _ = run.run.model.apply(run.params, run.model_state, 0 * images(), train=False, key=None)
    np.testing.assert_allclose(second.sum(axis=(1, 2)), (logit - black)[:, 0], rtol=0.011)


def test_the_target_is_the_predicted_class_unless_given(tmp_path):
    run = trained(tmp_path)
    predicted = run.predict_step(run.params, run.model_state, {"inputs": images()}).argmax(axis=-1)
    chosen = heat_maps.heat_maps(run, images())
    assert chosen.shape == (3, 16, 16) and chosen.dtype == np.float32
    np.testing.assert_allclose(chosen, heat_maps.heat_maps(run, images(), np.asarray(predicted)), atol=1e-6)
    other = heat_maps.heat_maps(run, images(), (np.asarray(predicted) + 1) % 3)
    assert not np.allclose(chosen, other)
    with pytest.raises(ValueError, match="targets are from 0 to 3; expected indices"):
        heat_maps.heat_maps(run, images(), np.array([0, 1, 3]))


def test_maps_do_not_depend_on_the_batch_and_64_images_are_one_call(tmp_path, monkeypatch):
    run, calls = trained(tmp_path), []
    compile_eval = heat_maps.compilation.compile_eval

    def counting(step, mesh):
        compiled = compile_eval(step, mesh)
        return lambda *a: calls.append(len(a[2]["inputs"])) or compiled(*a)

    monkeypatch.setattr(heat_maps.compilation, "compile_eval", counting)
    inputs, targets = images(64), np.arange(64) % 3
    whole = heat_maps.make_explainer(run).maps(inputs, targets)
    assert calls == [64]
    parts = heat_maps.make_explainer(run, batch_size=16).maps(inputs[:35], targets[:35])
    assert calls == [64, 16, 16, 16]
    np.testing.assert_allclose(parts, whole[:35], atol=1e-6)
    assert heat_maps.make_explainer(run).maps(inputs[:0], targets[:0]).shape == (0, 5, 5)


def test_maps_are_of_the_image_without_test_time_augmentation(tmp_path):
    run = trained(tmp_path)
    config, dataset = run.run.config, open_dataset(run.run.config)
    flipped = runs.build(config, dataset, execution=jv.Execution(mesh="data=1", tta="flip"))
    for method in ("grad_cam", "integrated_gradients"):
        one, other = (
            heat_maps.heat_maps(each, images(), np.zeros(3, int), method=method)
            for each in (run, run._replace(run=flipped))
        )
        np.testing.assert_array_equal(one, other)


def test_an_explanation_that_returns_other_shapes_is_refused(tmp_path):
    @registry.explanations.register("flat_map_for_a_test")
    def flat():
        return jv.Explanation(lambda model, params, state, inputs, target, *, key: inputs.mean(axis=(1, 2, 3)))

    try:
        with pytest.raises(
            TypeError, match=r"'flat_map_for_a_test' returned maps of shape \(4,\); expected \[B, h, w\]"
        ):
            heat_maps.heat_maps(trained(tmp_path), images(), method="flat_map_for_a_test")
    finally:
        del registry.explanations._entries["flat_map_for_a_test"]


def test_an_overlay_is_gray_without_evidence_and_has_two_colors():
    image = np.full((1, 3, 3), 100, np.uint8)
    plain = overlays.overlay(image, np.zeros((1, 3)))
    assert np.ptp(plain) == 0
    ((positive, nothing, negative),) = overlays.overlay(image, np.array([[2.0, 0.0, -1.0]]))
    assert positive[0] > positive[2] and negative[2] > negative[0] and np.ptp(nothing) == 0
    assert overlays.in_color(np.ones((2, 2, 1), np.float32)).shape == (2, 2, 3)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run that was trained for two steps."""
    place = tmp_path_factory.mktemp("run") / "run"
    model = "cnn(channels=(4, 6), dense=())"
    jv.train(jv.Config(dataset=SYNTHETIC.format(3), model=model, steps=2, batch_size=16), workdir=place)
    return place


def test_the_command_writes_a_picture_and_a_raw_map_of_each_image(workdir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.png", "b/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(images(1, 20)[0]).save(name)
    (tmp_path / "b/3.png").write_bytes(b"no image")
    words = ["a", "b", f"--workdir={workdir}", "--target=class 1", "--method=grad_cam(layer='conv1')"]
    assert command("explain", words) == 2
    assert "3.png" in capsys.readouterr().err
    assert command("explain", [*words, "--on_bad_image=skip"]) == 0
    out, err = capsys.readouterr()
    assert "skipped 1 unreadable images, the first: cannot read the image 'b/3.png'" in err
    assert re.search(r"^explanations/a_1.png  class 1 0\.\d+$", out, re.MULTILINE)
    assert out.endswith(
        "grad_cam(layer='conv1') of conv1 (14x14): wrote 3 .png, and raw maps as .npy, to explanations\n"
    )
    written = sorted(path.name for path in (tmp_path / "explanations").iterdir())
    assert written == [f"{stem}.{suffix}" for stem in ("2", "a_1", "b_1") for suffix in ("npy", "png")]
    raw = np.load(tmp_path / "explanations" / "2.npy")
    assert raw.shape == (14, 14) and raw.dtype == np.float32
    with Image.open(tmp_path / "explanations" / "2.png") as picture:
        assert picture.size[0] > 1.5 * picture.size[1]


def test_photographs_are_not_replaced_by_their_heat_maps(workdir, tmp_path):
    for name in ("one.png", "two.png"):
        Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"one\.png' is one of the images, .*: name another --out"):
        jv.explain(workdir, tmp_path, out=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_explain_from_python(workdir, tmp_path):
    loaded = jv.load(workdir)
    result = jv.explain(loaded, images(2), out=tmp_path / "maps")
    predicted = jv.predict(loaded, images(2))
    assert result.targets == predicted.labels and result.maps.shape == (2, 5, 5)
    np.testing.assert_allclose(result.values, predicted.probabilities.max(axis=-1), rtol=1e-5)
    by_index = jv.explain(loaded, images(2), target=1, out=tmp_path / "maps")
    assert by_index.targets == ["class 1"] * 2 and "2 images, grad_cam of conv2 (5x5)" in repr(by_index)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target=clas 1"], "the run has no such class; did you mean 'class 1'"),
        (["--target=3"], "index from 0 to 2"),
        (["--method=grad_cam(layer='stage3')"], "does not fit the model"),
        (["--batch_size=0"], "must be at least 1"),
    ],
)
def test_the_command_refuses_in_one_line(words, message, workdir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(images(1)[0]).save("1.png")
    assert command("explain", ["1.png", f"--workdir={workdir}", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1 and not (tmp_path / "explanations").exists()
