"""Weights of other libraries converted to ours and back, on a network of two layers."""

import numpy as np

from jaxvision import registry
from jaxvision.trees import flatten_with_paths
from jaxvision.weights import mapping

NAMES = {
    "dense": ((r"^first/", "classifier/0/"), (r"^head/", "fc/")),
    "convolution": ((r"^first/kernel", "logits/kernel2x3"), (r"^first/", "logits/"), (r"^head/", "fc/")),
}


def network():
    generator = np.random.default_rng(0)
    return {
        "first": {"kernel": generator.normal(size=(4 * 2 * 3, 5)), "bias": generator.normal(size=5)},
        "head": {"kernel": generator.normal(size=(5, 7)), "bias": generator.normal(size=7)},
    }


def test_a_dense_layer_goes_and_comes_as_a_convolution_over_the_whole_map():
    params = network()
    theirs = mapping.export(params, {}, NAMES["convolution"])
    assert theirs["logits.weight"].shape == (5, 4, 2, 3) and theirs["fc.weight"].shape == (7, 5)
    image = np.random.default_rng(1).normal(size=(4, 2, 3))  # channels first, as a dense layer sees it there
    convolved = np.einsum("ochw,chw->o", theirs["logits.weight"], image)
    np.testing.assert_allclose(convolved, image.reshape(-1) @ params["first"]["kernel"])
    fitted = mapping.fit(theirs, {k: {n: v * 0 for n, v in e.items()} for k, e in params.items()}, {}, NAMES)
    assert fitted.source == "convolution" and not (fitted.missing or fitted.unexpected or fitted.misshapen)
    for path, leaf in flatten_with_paths(params).items():
        np.testing.assert_array_equal(flatten_with_paths(fitted.params)[path], leaf)


def test_parts_that_ours_leave_out_are_not_unexpected():
    params = network()
    theirs = mapping.export(params, {}, NAMES["dense"])
    theirs |= {"Auxiliary.fc.weight": np.zeros((7, 5)), "AuxiliaryToo.bias": np.zeros(5)}
    fitted = mapping.fit(theirs, params, {}, NAMES, unused=("Auxiliary",))
    assert fitted.source == "dense" and list(fitted.unexpected) == ["AuxiliaryToo.bias"]


def test_older_files_are_known_by_their_names():
    names = registry.models.entry("densenet121").metadata["names"]
    path = "stage2_block3/norm1/mean"
    assert mapping.their_name(path, names["timm"]) == "features.denseblock2.denselayer3.norm1.running_mean"
    assert mapping.their_name(path, names["files"]) == "features.denseblock2.denselayer3.norm.1.running_mean"
