"""Each augment against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import registry
from jaxvision.augments import chain

IMAGES = np.asarray(jax.random.uniform(jax.random.key(0), (64, 6, 7, 3)))


def augmented(spec, key=0):
    augment = chain([registry.augments.build(s) for s in registry.parse_list(spec)])
    batch = {"inputs": jnp.array(IMAGES), "targets": jnp.arange(64), "mask": jnp.ones(64)}
    result = augment(jax.random.key(key), batch)
    assert np.array_equal(result["targets"], batch["targets"])
    return np.asarray(result["inputs"])


def test_flip_mirrors_left_and_right():
    result = augmented("flip")
    same = [np.array_equal(a, b) for a, b in zip(result, IMAGES, strict=True)]
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(result, IMAGES, strict=True)]
    assert all(s != m for s, m in zip(same, mirrored, strict=True))
    assert 15 < sum(mirrored) < 50
    np.testing.assert_array_equal(augmented("flip(probability=1.0)"), IMAGES[:, :, ::-1])
    np.testing.assert_array_equal(augmented("flip(probability=0.0)"), IMAGES)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_crop_is_a_window_of_the_padded_image(mode):
    result = augmented(f"crop(padding=2, mode='{mode}')")
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)), mode=mode)
    places = set()
    for image, pad in zip(result, padded, strict=True):
        found = [(i, j) for i in range(5) for j in range(5) if np.array_equal(image, pad[i : i + 6, j : j + 7])]
        assert len(found) == 1
        places.update(found)
    assert {i for i, _ in places} == {j for _, j in places} == set(range(5))


def test_a_chain_applies_in_order_with_keys_of_its_own():
    assert np.array_equal(augmented(""), IMAGES)
    assert not np.array_equal(augmented("crop, crop"), augmented("crop"))
    twice = augmented("flip(probability=1.0), flip(probability=1.0)")
    np.testing.assert_array_equal(twice, IMAGES)


@pytest.mark.parametrize("spec", ["flip(probability=2.0)", "crop(padding=-1)"])
def test_impossible_arguments_are_refused(spec):
    with pytest.raises(ValueError, match="wanted"):
        augmented(spec)


def test_reflection_of_small_images_is_refused():
    with pytest.raises(ValueError, match="padding=6 cannot be reflected from images of 6x7"):
        augmented("crop(padding=6, mode='reflect')")
