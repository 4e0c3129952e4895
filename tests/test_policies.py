"""RandAugment and TrivialAugment: operations against Pillow's, sampling against the papers."""

import importlib.util
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from jaxvision import registry
from jaxvision.augmentations import policies
from jaxvision.augmentations.policies import ENHANCING, GEOMETRIC, HIGHEST, OPERATIONS

SIZE = (24, 36)  # height, width
LEVEL = 1 / 255


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="module")
def pictures():
    """Three colour pictures of 256 levels: smooth ones, of which one is dark and another has few colours."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (3, 5, 7, 3)).astype(np.uint8)
    found = np.stack([np.asarray(Image.fromarray(each).resize(SIZE[::-1], Image.Resampling.BICUBIC)) for each in small])
    found[1] = found[1] // 3 + 20
    found[2] = found[2] // 64 * 64
    return found


@jax.jit
def apply(images, which, magnitudes):
    moved = policies.moved(images, which, magnitudes, fill=0.0)
    return policies.retouched(moved, which, magnitudes)


def applied(name, pictures, magnitude):
    which = jnp.full(len(pictures), OPERATIONS.index(name))
    return np.asarray(apply(pictures.astype(np.float32) / 255, which, jnp.full(len(pictures), magnitude, jnp.float32)))


def posterized(picture, bits):
    return ImageOps.posterize(picture, int(bits))


OF_PILLOW = {
    "brightness": lambda picture, magnitude: ImageEnhance.Brightness(picture).enhance(1 + magnitude),
    "color": lambda picture, magnitude: ImageEnhance.Color(picture).enhance(1 + magnitude),
    "contrast": lambda picture, magnitude: ImageEnhance.Contrast(picture).enhance(1 + magnitude),
    "sharpness": lambda picture, magnitude: ImageEnhance.Sharpness(picture).enhance(1 + magnitude),
    "posterize": posterized,
    "solarize": lambda picture, magnitude: ImageOps.solarize(picture, math.ceil(magnitude)),
    "autocontrast": lambda picture, magnitude: ImageOps.autocontrast(picture),
    "equalize": lambda picture, magnitude: ImageOps.equalize(picture),
    "identity": lambda picture, magnitude: picture,
}
MAGNITUDES = {
    **dict.fromkeys(ENHANCING, (-0.9, -0.3, 0.0, 0.27, 0.9)),
    "posterize": (8, 7, 4, 2),
    "solarize": (255, 204, 178.5, 100, 0),
}
# Pillow rounds down what it blends and spreads, its smoothed image and its mean to whole levels; the rest is exact.
MOST = {**dict.fromkeys(ENHANCING, 2.1), "autocontrast": 1.1}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OF_PILLOW)
def test_operations_on_colours_are_pillows(name, channels, pictures):
    pictures = pictures[..., :channels]
    for magnitude in MAGNITUDES.get(name, (0.0,)):
        result = applied(name, pictures, magnitude)
        for image, picture in zip(result, pictures, strict=True):
            picture = Image.fromarray(picture[..., 0] if channels == 1 else picture)
            wanted = np.asarray(OF_PILLOW[name](picture, magnitude)).reshape(image.shape) / 255
            np.testing.assert_allclose(image, wanted, atol=(MOST.get(name, 0) + 0.01) * LEVEL)


def test_an_image_of_one_colour_stays(pictures):
    flat = np.full_like(pictures, 77)
    for name in ("autocontrast", "equalize", "sharpness", "contrast", "color"):
        np.testing.assert_allclose(applied(name, flat, 0.5), flat / 255, atol=1e-6)


def test_smoothing_is_pillows(pictures):
    result = policies.smoothed(jnp.asarray(pictures, jnp.float32) / 255)
    for image, picture in zip(result, pictures, strict=True):
        wanted = np.asarray(Image.fromarray(picture).filter(ImageFilter.SMOOTH)) / 255
        np.testing.assert_allclose(image, wanted, atol=0.51 * LEVEL)


def pillows_map(name, magnitude):
    """The six numbers of PIL.Image.transform: where in the picture each pixel of the result comes from."""
    height, width = SIZE
    radians = math.radians(magnitude)
    cosine, sine = math.cos(radians), math.sin(radians)
    return {
        "shear_x": (1, magnitude, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, magnitude, 1, 0),
        "translate_x": (1, 0, -int(magnitude), 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, -int(magnitude)),
        "rotate": (
            *(cosine, -sine, width / 2 - cosine * width / 2 + sine * height / 2),
            *(sine, cosine, height / 2 - sine * width / 2 - cosine * height / 2),
        ),
    }[name]


@pytest.mark.parametrize("magnitude", [0.0, 0.3, -0.3, 0.99])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometric_operations_are_pillows(name, magnitude, pictures):
    """Within a border of a pixel, where Pillow has either the picture or nothing and we the mean of both."""
    magnitude *= {"rotate": 100, "translate_x": 13, "translate_y": 13}.get(name, 1)
    result = applied(name, pictures, magnitude)
    for image, picture in zip(result, pictures, strict=True):
        transform = SIZE[::-1], Image.Transform.AFFINE, pillows_map(name, magnitude)
        wanted = np.asarray(Image.fromarray(picture).transform(*transform, Image.Resampling.BILINEAR)) / 255
        inside = np.asarray(Image.fromarray(np.full(SIZE, 255, np.uint8)).transform(*transform))
        neighbours = np.stack([np.roll(inside, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        is_clear = (neighbours == inside).all(axis=0)[..., None]
        is_clear[[0, -1]] = is_clear[:, [0, -1]] = False
        np.testing.assert_allclose(np.where(is_clear, image, 0), np.where(is_clear, wanted, 0), atol=1.01 * LEVEL)
        assert is_clear.mean() > 0.5


@pytest.mark.skipif(not importlib.util.find_spec("torchvision"), reason="torchvision not installed")
@pytest.mark.parametrize("policy", ["RandAugment", "TrivialAugmentWide"])
def test_magnitudes_and_operations_are_torchvisions(policy, pictures):
    import parity

    parity.import_torchvision()
    import torch
    from torchvision.transforms import InterpolationMode, autoaugment

    theirs = getattr(autoaugment, policy)()
    if policy == "RandAugment":
        space, ranges = theirs._augmentation_space(31, SIZE), policies.ranges_of_rand_augment(SIZE)
    else:
        space, ranges = theirs._augmentation_space(31), policies.TRIVIAL
    assert {name.lower() for name in space} == {name.replace("_", "") for name in OPERATIONS}
    signs = jnp.ones(31)
    for name in OPERATIONS:
        (magnitudes, is_signed), spelt = next((v, k) for k, v in space.items() if k.lower() == name.replace("_", ""))
        assert is_signed == (name in policies.SIGNED)
        which = jnp.full(31, OPERATIONS.index(name))
        found = policies.magnitudes_of(which, jnp.arange(31, dtype=jnp.float32), signs, ranges)
        if magnitudes.ndim:
            found = np.round(found) if name == "posterize" else found
            np.testing.assert_allclose(found, magnitudes, atol=1e-4)
        for level in (4, 9, 22):
            magnitude = float(magnitudes[level]) if magnitudes.ndim else 0.0
            result = applied(name, pictures, magnitude)
            images = torch.tensor(pictures).permute(0, 3, 1, 2)
            wanted = [
                autoaugment._apply_op(each, spelt, magnitude, InterpolationMode.BILINEAR, None).permute(1, 2, 0) / 255
                for each in images
            ]
            # They cut blends off to whole levels and round what they sample.
            np.testing.assert_allclose(result, np.stack(wanted), atol=2.1 * LEVEL, err_msg=name)


@pytest.fixture
def drawn(monkeypatch):
    """What a policy draws for 8192 images: pairs of operations and magnitudes."""
    found = []

    def note(images, which, magnitudes, **options):
        found.append((np.asarray(which), np.asarray(magnitudes)))
        return images

    monkeypatch.setattr(policies, "moved", note)
    monkeypatch.setattr(policies, "retouched", lambda images, which, magnitudes: images)

    def draw(spec):
        augment = registry.augmentations.build(spec)
        augment(jax.random.key(0), {"inputs": jnp.zeros((8192, *SIZE, 1))})
        return found

    return draw


def test_rand_augment_draws_all_operations_alike_at_one_magnitude(drawn):
    found = drawn("randaugment(num_ops=3, magnitude=9)")
    assert len(found) == 3 and not np.array_equal(found[0][0], found[1][0])
    ends = policies.ranges_of_rand_augment(SIZE)
    for which, magnitudes in found:
        counts = np.bincount(which, minlength=14)
        assert len(counts) == 14 and counts.min() > 490 and counts.max() < 690  # 585 each
        for name in GEOMETRIC + ENHANCING:
            of_it = magnitudes[which == OPERATIONS.index(name)]
            np.testing.assert_allclose(np.abs(of_it), 0.3 * ends[name][1], rtol=1e-5)
            assert 0.4 < (of_it > 0).mean() < 0.6
    assert ends["rotate"] == (0, 30) and ends["translate_x"] == pytest.approx((0, 36 * 150 / 331))
    assert ends["translate_y"] == pytest.approx((0, 24 * 150 / 331)) and ends["posterize"] == (8, 4)


def test_trivial_augment_draws_operations_and_magnitudes_alike(drawn):
    ((which, magnitudes),) = drawn("trivial_augment")
    counts = np.bincount(which, minlength=14)
    assert len(counts) == 14 and counts.min() > 490 and counts.max() < 690
    of_rotate = magnitudes[which == OPERATIONS.index("rotate")]
    levels, counts = np.unique(np.abs(of_rotate).round(3), return_counts=True)
    np.testing.assert_allclose(levels, np.linspace(0, 135, HIGHEST + 1), atol=1e-3)
    assert counts.min() >= 5 and 0.4 < (of_rotate > 0).mean() < 0.6


@pytest.mark.parametrize("spec", ["randaugment(num_ops=2, magnitude=30, fill=1.0)", "trivial_augment(fill=1.0)"])
def test_what_lies_outside_is_the_fill(spec):
    """Black images whose corner gets the fill, and nothing else does so but what inverts."""
    augment = jax.jit(registry.augmentations.build(spec))
    images = np.asarray(augment(jax.random.key(0), {"inputs": jnp.zeros((64, 16, 16, 3))})["inputs"])
    corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]].max(axis=(1, 2))
    assert 0.15 < (corners > 0.9).mean() < 0.9
