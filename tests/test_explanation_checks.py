"""The measures of the checks of explanations, by hand."""

import numpy as np
from explanation_checks import _layers, center_prior, correlation, edge_map, is_hit, planted


def test_edges_are_where_the_gray_value_changes_and_the_center_prior_is_highest_in_the_middle():
    image = np.zeros((1, 6, 8, 3), np.uint8)
    image[:, :, 4:] = 255
    assert (edge_map(image)[0].argmax(axis=1) // 2 == 1).all() and edge_map(image)[0, :, 0].max() == 0
    assert np.unravel_index(center_prior(np.zeros((1, 5, 7, 3)))[0].argmax(), (5, 7)) == (2, 3)


def test_rank_correlation_is_of_each_image():
    one = np.arange(8.0).reshape(2, 2, 2)
    assert correlation(one, one**3) == 1 and correlation(one, np.stack([one[0], -one[1]])) == 0
    assert correlation(one, np.zeros_like(one)) == 0


def test_a_hit_is_within_half_a_cell_of_the_patch():
    maps, corners = np.zeros((3, 8, 8)), np.array([[8, 8]] * 3)  # the patch covers 8 to 12 pixels, which is cell 2
    maps[0, 2, 2] = maps[1, 2, 3] = maps[2, 4, 2] = 1  # centers at 10, 14 and 18 pixels
    assert is_hit(maps, corners, 4).tolist() == [True, True, False]


def test_patches_are_where_they_are_said_to_be_and_have_the_pattern_of_their_class():
    images, targets, corners = planted(np.full((50, 32, 32, 3), 128, np.uint8), seed=0)
    assert set(targets) == {0, 1, 2, 3} and len({tuple(corner) for corner in corners}) > 30
    for image, target, (top, left) in zip(images, targets, corners, strict=True):
        patch = image[
            top : top + 4,
            left : left + 4,
            :,
        ]
        assert set(patch.ravel()) == {0, 255} and (image == 128).sum() == 3 * (32 * 32 - 16)
        if target == 0:
            assert (patch == patch[:1]).all()  # columns


def test_layers_are_in_order():
    params = {name: {"kernel": 0} for name in ("head", "dense1", "conv2", "conv1")}
    assert _layers(params) == ["conv1", "conv2", "dense1", "head"]
