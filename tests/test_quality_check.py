"""Image quality checks: each word for the defect that it names, and for nothing else."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

import jaxvision as jv
from jaxvision.quality_check import measure


@pytest.fixture
def sharp():
    """A chequered wall: edges, black and white."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(40, 215, (16, 16, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(tiles).resize((320, 320), Image.Resampling.NEAREST))


def test_nothing_is_said_of_a_good_photograph(sharp):
    assert jv.check_quality(sharp) == [] and jv.check_quality((sharp / 255).astype(np.float32)) == []


@pytest.mark.parametrize("word", ["blurred", "dark", "bright", "flat"])
def test_each_fault_is_named(sharp, word, tmp_path):
    spoiled = {
        "blurred": lambda image: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(6))),
        "dark": lambda image: image // 4,
        "bright": lambda image: 255 - image // 4,
        "flat": lambda image: 110 + image // 8,
    }[word](sharp)
    assert word in jv.check_quality(spoiled)
    Image.fromarray(spoiled).save(tmp_path / "photo.png")
    assert jv.check_quality(tmp_path / "photo.png") == jv.check_quality(spoiled)


def test_measures_are_those_of_their_definition():
    image = np.zeros((256, 256, 1), np.uint8)
    image[::2, ::2] = 255
    found = measure(image)
    # a white pixel's Laplacian is -4, that of its four neighbours in line 2, of those between them 0: shares 1/4, 1/2
    assert found.sharpness == pytest.approx(np.std([-4, 2, 2, 0]), rel=0.01)
    assert found.brightness == pytest.approx(0.25) and found.contrast == pytest.approx(np.sqrt(0.25 * 0.75))


def test_no_image_is_told(tmp_path):
    (tmp_path / "photo.png").write_text("no image")
    with pytest.raises(ValueError, match="cannot read the image"):
        jv.check_quality(tmp_path / "photo.png")
