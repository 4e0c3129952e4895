"""Weights of classes: numbered classes are in natural order, and weights may be given by name."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from jaxvision import registry
from jaxvision.interfaces import TargetStats
from jaxvision.losses.cross_entropy import cross_entropy

STATS = TargetStats("multiclass", 12, (4, 4, 4), classes=("1", "2", "10"))


@pytest.fixture
def numbered(tmp_path):
    for name in range(12):
        (tmp_path / f"{name}").mkdir()
        for index in range(3):
            Image.new("L", (8, 8), 20 * name).save(tmp_path / f"{name}" / f"{index}.png")
    return tmp_path


def test_numbered_folders_are_in_natural_order(numbered):
    spec = f"folder(path='{numbered}', image_size=8)"
    data = registry.datasets.build(spec, split_seed=0, on_bad_image="error")
    assert data.classes == tuple(str(number) for number in range(12))
    levels = data.train.read(np.arange(len(data.train)))[:, 0, 0, 0]
    np.testing.assert_array_equal(levels, 20 * data.train.targets)


def losses(class_weights, stats=STATS):
    loss = cross_entropy(activation="softmax", num_classes=3, targets=stats, class_weights=class_weights)
    return np.asarray(loss(np.zeros((3, 3), np.float32), np.eye(3, dtype=np.float32)))


def test_weights_by_name_are_those_by_position():
    by_name = losses({"10": 9.0, "1": 1.0, "2": 2.0})
    np.testing.assert_array_equal(by_name, losses((1.0, 2.0, 9.0)))
    np.testing.assert_allclose(by_name / np.log(3), np.array([1, 2, 9]) / 4, rtol=1e-6)
    spec = "multiclass(loss=cross_entropy(class_weights={'1': 1.0, '2': 2, '10': 9.0}))"
    registry.tasks.check(spec)
    assert registry.tasks.build(spec, num_classes=3, targets=STATS).output_size == 3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"1": 1.0, "2": 1.0}, "no weight of the class '10'"),
        ({"1": 1.0, "2": 1.0, "01": 1.0}, "has '01', which is no class"),
        ({"1": 1.0, "2": 1.0, "10": 0.0}, "expected 3 numbers above 0"),
        ({"1": 1.0, "2": 1.0, "10": float("inf")}, "expected 3 numbers above 0"),
        ((1.0, 2.0, float("nan")), "expected 3 numbers above 0"),
        ({}, "no weight of the class '1'"),
    ],
)
def test_weights_that_do_not_fit_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        losses(weights)


def test_stored_statistics_have_no_names():
    assert dataclasses.asdict(TargetStats("multiclass", 12, (4, 4, 4)))["classes"] == ()
