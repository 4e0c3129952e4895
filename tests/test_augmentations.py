"""Augmentations against their definitions: results of other libraries, or computed by hand."""

import colorsys
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxvision import registry
from jaxvision import specs as jv_specs
from jaxvision.augmentations import color, mix, random_ops, resampling
from jaxvision.augmentations.geometry import turning
from jaxvision.engine.augmentation import chain
from jaxvision.materialize import materialize

NUM = 64
IMAGES = np.asarray(jax.random.uniform(jax.random.key(0), (NUM, 6, 7, 3)))
TARGETS = np.arange(NUM, dtype=np.int32)
NEW = [  # the arguments that make small images show what an augment does
    *(
        "alternating_flip",
        "translation(fraction=0.3)",
        "random_resized_crop",
        "rotation(degrees=40.0)",
        "color_jitter",
        "grayscale",
    ),
    *("gaussian_blur", "cutout(size=4)", "random_erasing", "mixup(alpha=1.0)", "cutmix", "randaugment(magnitude=20)"),
    *("trivial_augment", "autoaugment", "autoaugment(policy='cifar10')", "augmix(depth=1)"),
]


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_rank_promotion("raise"):
        yield


def batch_of(images=IMAGES, **rows):
    num = len(images)
    batch = {"inputs": images, "targets": np.arange(num, dtype=np.int32), "mask": np.ones(num, np.float32)}
    batch |= {"index": np.arange(num, dtype=np.int32), "epoch": np.zeros(num, np.int32)}
    return {name: jnp.asarray(row) for name, row in (batch | rows).items()}


@functools.cache
def compiled(spec):
    specs = jv_specs.parse_list(spec)
    return jax.jit(chain([registry.augmentations.build(each, num_classes=NUM, seed=0) for each in specs]))


def applied(spec, images=IMAGES, *, key=0, **rows):
    return {k: np.asarray(v) for k, v in compiled(spec)(jax.random.key(key), batch_of(images, **rows)).items()}


def augmented(spec, images=IMAGES, *, key=0, **rows):
    result = applied(spec, images, key=key, **rows)
    assert np.array_equal(result["targets"], np.arange(len(images)))
    return result["inputs"]


def smooth_images(num, height, width, channels):
    noise = np.random.default_rng(0).random((num, height, width, channels))
    images = scipy.ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 0), mode="nearest")
    return ((images - images.min()) / (images.max() - images.min())).astype(np.float32)


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spec", NEW)
def test_two_grey_pixels_are_enough(spec):
    images = np.random.default_rng(0).random((8, 1, 2, 1), np.float32).round()  # black and white
    result = applied(spec, images)
    assert result["inputs"].shape == images.shape and result["inputs"].dtype == np.float32
    assert np.isfinite(result["inputs"]).all() and result["inputs"].min() >= 0 and result["inputs"].max() <= 1


@pytest.mark.parametrize("spec", NEW)
def test_double_precision_elsewhere_changes_no_type(spec):
    with jax.enable_x64(True):
        augment = registry.augmentations.build(spec, num_classes=NUM, seed=0)
        result = jax.eval_shape(augment, jax.random.key(0), batch_of())
    assert result["inputs"].dtype == np.float32
    assert result["targets"].dtype in (np.float32, np.int32)


def test_a_chain_applies_in_order_with_keys_of_its_own():
    assert np.array_equal(augmented(""), IMAGES)
    assert not np.array_equal(augmented("random_crop, random_crop"), augmented("random_crop"))
    twice = augmented("horizontal_flip(probability=1.0), horizontal_flip(probability=1.0)")
    np.testing.assert_array_equal(twice, IMAGES)


def test_settling_changes_nothing_and_a_chain_settles_after_each():
    values = jnp.array([[-1.0, 0.0, jnp.nan, jnp.inf, 0.3]])
    for key in range(4):  # either branch
        np.testing.assert_array_equal(jax.jit(materialize)(jax.random.key(key), values), values)
    text = compiled("horizontal_flip, random_crop").lower(jax.random.key(0), batch_of()).as_text()
    assert text.count("stablehlo.optimization_barrier") + text.count('"stablehlo.case"') >= 2


BAD = [
    *(
        "horizontal_flip(probability=2.0)",
        "random_crop(padding=-1)",
        "translation(fraction=1.5)",
        "translation(fill=2.0)",
        "rotation(degrees=-1.0)",
    ),
    *("rotation(fill=-0.5)", "random_resized_crop(scale=(0.0, 1.0))", "random_resized_crop(scale=(0.5, 1.5))"),
    *("random_resized_crop(ratio=(2.0, 1.0))", "color_jitter(brightness=-0.1)", "color_jitter(hue=0.6)"),
    *("color_jitter(probability=1.1)", "grayscale(probability=-1.0)", "gaussian_blur(sigma=(0.0, 1.0))"),
    *("gaussian_blur(probability=2.0)", "cutout(size=0)", "cutout(fill=1.5)", "random_erasing(probability=2.0)"),
    *("random_erasing(scale=(0.3, 0.2))", "random_erasing(ratio=(0.0, 1.0))", "random_erasing(fill=3.0)"),
    *("mixup(alpha=0.0)", "mixup(probability=2.0)", "cutmix(alpha=-1.0)", "randaugment(num_ops=0)"),
    *("randaugment(magnitude=31)", "randaugment(fill=2.0)", "trivial_augment(fill=-1.0)"),
]


@pytest.mark.parametrize("spec", BAD)
def test_impossible_arguments_are_refused(spec):
    (name, arguments), *_ = jv_specs.parse_list(spec)
    with pytest.raises(ValueError, match=f"^{name}: {next(iter(arguments))}=.*; expected "):
        registry.augmentations.build(spec, num_classes=2, seed=0)


# ── geometry ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_flip_mirrors_left_and_right():
    result = augmented("horizontal_flip")
    same = [np.array_equal(a, b) for a, b in zip(result, IMAGES, strict=True)]
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(result, IMAGES, strict=True)]
    assert all(s != m for s, m in zip(same, mirrored, strict=True))
    assert 15 < sum(mirrored) < 50
    np.testing.assert_array_equal(augmented("horizontal_flip(probability=1.0)"), IMAGES[:, :, ::-1])
    np.testing.assert_array_equal(augmented("horizontal_flip(probability=0.0)"), IMAGES)


def is_mirrored(result, images):
    assert all(np.array_equal(a, b) or np.array_equal(a, b[:, ::-1]) for a, b in zip(result, images, strict=True))
    return np.array([np.array_equal(a, b[:, ::-1]) for a, b in zip(result, images, strict=True)])


def test_alternating_flip_shows_each_image_both_ways_in_two_epochs():
    epochs = [is_mirrored(augmented("alternating_flip", key=e, epoch=np.full(NUM, e)), IMAGES) for e in range(4)]
    assert 15 < epochs[0].sum() < 50
    for one, other in itertools.pairwise(epochs):
        np.testing.assert_array_equal(one, ~other)
    mixed = is_mirrored(augmented("alternating_flip", epoch=np.arange(NUM) % 2), IMAGES)
    np.testing.assert_array_equal(mixed, np.where(np.arange(NUM) % 2, epochs[1], epochs[0]))


def test_alternating_flip_goes_by_the_index_and_the_seed_and_not_by_the_place_in_the_batch():
    order = np.random.default_rng(0).permutation(NUM)
    straight = is_mirrored(augmented("alternating_flip"), IMAGES)
    shuffled = is_mirrored(augmented("alternating_flip", IMAGES[order], key=7, index=order), IMAGES[order])
    np.testing.assert_array_equal(shuffled, straight[order])
    other = registry.augmentations.build("alternating_flip", seed=1)(jax.random.key(0), batch_of())
    assert (is_mirrored(np.asarray(other["inputs"]), IMAGES) != straight).sum() > 15
    with pytest.raises(ValueError, match="no rows 'index' and 'epoch'; expected both, int32"):
        registry.augmentations.build("alternating_flip", seed=0)(jax.random.key(0), {"inputs": jnp.array(IMAGES)})


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_crop_is_a_window_of_the_padded_image(mode):
    result = augmented(f"random_crop(padding=2, mode='{mode}')")
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)), mode=mode)
    places = set()
    for image, pad in zip(result, padded, strict=True):
        found = [(i, j) for i in range(5) for j in range(5) if np.array_equal(image, pad[i : i + 6, j : j + 7])]
        assert len(found) == 1
        places.update(found)
    assert {i for i, _ in places} == {j for _, j in places} == set(range(5))


def test_reflection_of_small_images_is_refused():
    with pytest.raises(ValueError, match="padding=6; expected less than the image size 6x7 for mode='reflect'"):
        augmented("random_crop(padding=6, mode='reflect')")


def test_translate_shifts_by_whole_pixels_up_to_the_share_of_each_side():
    result = augmented("translation(fraction=0.3, fill=0.25)")  # 2 of 6 and 2 of 7 pixels
    found = set()
    for image, original in zip(result, IMAGES, strict=True):
        shifts = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(image, scipy.ndimage.shift(original, (down, right, 0), order=0, cval=0.25))
        ]
        assert len(shifts) == 1
        found.update(shifts)
    assert {d for d, _ in found} == {r for _, r in found} == set(range(-2, 3))


@pytest.mark.parametrize("fill", [0.0, 0.7])
def test_affine_maps_are_scipys(fill):
    images = smooth_images(3, 12, 17, 3)
    maps = np.array([[[1.1, 0.3, 2.0], [-0.2, 0.8, -1.5]], [[1, 0, 0.25], [0, 1, 3]], [[0, 1, 0], [-1, 0, 0]]])
    result = jax.jit(functools.partial(resampling.affine, fill=fill))(images, jnp.asarray(maps, jnp.float32))
    centre = np.array([(12 - 1) / 2, (17 - 1) / 2])
    for image, original, each in zip(result, images, maps, strict=True):
        matrix, offset = each[::-1, 1::-1], each[::-1, 2]  # scipy's axes are (down, right)
        offset = centre + offset - matrix @ centre
        for channel in range(3):
            wanted = scipy.ndimage.affine_transform(
                original[..., channel], matrix, offset, order=1, mode="grid-constant", cval=fill
            )
            np.testing.assert_allclose(image[..., channel], wanted, atol=1e-4)


def test_the_identity_maps_images_to_themselves_exactly():
    maps = jnp.broadcast_to(jnp.eye(2, 3), (NUM, 2, 3))
    np.testing.assert_array_equal(resampling.affine(jnp.array(IMAGES), maps, fill=0.0), IMAGES)


def test_quarter_turns_are_counter_clockwise():
    images = smooth_images(4, 9, 9, 1)
    result = resampling.affine(images, turning(jnp.arange(4) * jnp.float32(math.pi / 2)), fill=0.0)
    for quarters, image in enumerate(result):
        np.testing.assert_allclose(image, np.rot90(images[quarters], quarters), atol=1e-5)


def test_rotate_is_scipys_rotation_by_an_angle_in_range():
    images = np.repeat(smooth_images(1, 15, 15, 1), NUM, axis=0)
    result = augmented("rotation(degrees=30.0, fill=0.5)", images)
    grid = np.arange(-30, 30.01, 0.25)
    turned = [
        scipy.ndimage.rotate(images[0, ..., 0], angle, reshape=False, order=1, mode="grid-constant", cval=0.5)
        for angle in grid
    ]
    errors = np.abs(np.array(turned)[None] - result[:, None, ..., 0]).max(axis=(2, 3))
    assert errors.min(axis=1).max() < 0.02
    angles = grid[errors.argmin(axis=1)]
    assert angles.min() < -20 and angles.max() > 20 and abs(np.mean(angles)) < 8
    np.testing.assert_array_equal(augmented("rotation(degrees=0.0)"), IMAGES)


def ramp(height, width):
    """Two channels of which one tells the row and the other the column, as shares."""
    rows, columns = np.meshgrid(np.arange(height) / height, np.arange(width) / width, indexing="ij")
    return np.stack([rows, columns, np.zeros((height, width))], axis=-1).astype(np.float32)


def test_resize_crop_shows_a_part_of_the_area_and_ratio_asked_for():
    height, width, num = 40, 60, 512
    images = np.repeat(ramp(height, width)[None], num, axis=0)
    result = augmented("random_resized_crop(scale=(0.2, 0.6), ratio=(0.8, 2.0), is_relative=True)", images)
    tall = height * (result[:, -1, 0, 0] - result[:, 0, 0, 0]) + 1  # from the centre of the first to that of the last
    wide = width * (result[:, 0, -1, 1] - result[:, 0, 0, 1]) + 1
    tall, wide = tall.round(), wide.round()
    top, left = (height * result[:, 0, 0, 0]).round(), (width * result[:, 0, 0, 1]).round()
    assert (top >= 0).all() and (top + tall <= height).all() and (left >= 0).all() and (left + wide <= width).all()
    share, ratio = tall * wide / (height * width), (wide / width) / (tall / height)
    assert 0.19 < share.min() < 0.23 and 0.55 < share.max() < 0.62
    assert abs(share.mean() - 0.39) < 0.02  # a little below the middle, as what is large fits less often
    assert 0.75 < ratio.min() < 0.85 and 1.7 < ratio.max() < 2.15 and 0.17 < np.log(ratio).mean() < 0.27
    room = top[tall < height] / (height - tall[tall < height])
    assert room.min() < 0.05 and room.max() > 0.95 and abs(room.mean() - 0.5) < 0.06


def test_resize_crop_of_all_is_the_image_and_what_never_fits_becomes_a_centred_part():
    whole = "random_resized_crop(scale=(1.0, 1.0), ratio=(1.0, 1.0), is_relative=True)"
    np.testing.assert_allclose(augmented(whole), IMAGES, atol=1e-6)
    images = np.repeat(ramp(40, 60)[None], 4, axis=0)
    result = augmented(
        "random_resized_crop(scale=(1.0, 1.0), ratio=(2.0, 4.0), is_relative=True)", images
    )  # half the height, all the width
    np.testing.assert_allclose(result[:, 0, 0, 0] * 40, 10, atol=1e-4)
    np.testing.assert_allclose(result[:, -1, 0, 0] * 40, 29, atol=1e-4)
    np.testing.assert_allclose(result[..., 1], images[..., 1], atol=1e-6)


def test_stretching_a_part_is_what_torch_does():
    torch = pytest.importorskip("torch")
    images = smooth_images(3, 11, 14, 3)
    spans = [(2, 7, 0, 14), (0, 11, 3, 4), (5, 1, 6, 8)]
    top, tall, left, wide = (jnp.array(values) for values in zip(*spans, strict=True))
    result = resampling.along_axes(images, resampling.stretching(11, top, tall), resampling.stretching(14, left, wide))
    for image, original, (top, tall, left, wide) in zip(result, images, spans, strict=True):
        part = torch.tensor(original[top : top + tall, left : left + wide]).permute(2, 0, 1)[None]
        wanted = torch.nn.functional.interpolate(part, (11, 14), mode="bilinear", align_corners=False)
        np.testing.assert_allclose(image, wanted[0].permute(1, 2, 0), atol=1e-5)


# ── colour ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def enhanced(image, name, factor):
    """What Pillow makes of an image of floats, which it rounds to levels."""
    from PIL import Image, ImageEnhance

    levels = (255 * image).round().astype(np.uint8)
    picture = Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
    return np.asarray(getattr(ImageEnhance, name)(picture).enhance(factor)).reshape(image.shape) / 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("which", "name"), list(enumerate(("Brightness", "Contrast", "Color"))))
def test_enhancements_are_pillows(which, name, channels):
    images = smooth_images(4, 8, 9, channels)
    factors = np.array([0.0, 0.4, 1.0, 1.7], np.float32)
    result = color._enhanced(images, jnp.full(4, which), jnp.array(np.stack([factors] * 3, axis=1)))
    for image, original, factor in zip(result, images, factors, strict=True):
        np.testing.assert_allclose(image, enhanced(original, name, float(factor)), atol=2.6 / 255)


def test_hue_is_turned_as_by_the_standard_library():
    turns = np.linspace(-0.5, 0.5, NUM, dtype=np.float32)
    images = IMAGES.copy()
    images[:, 0, 0], images[:, 0, 1], images[:, 0, 2] = 0, 1, (0.2, 0.7, 0.7)  # black, white, and two equal channels
    result = color.turn_hue(images, jnp.array(turns))
    for image, original, turn in zip(result, images, turns, strict=True):
        for pixel, before in zip(np.asarray(image).reshape(-1, 3), original.reshape(-1, 3), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*map(float, before))
            wanted = colorsys.hsv_to_rgb((hue + float(turn)) % 1, saturation, value)
            np.testing.assert_allclose(pixel, wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_color_jitter_multiplies_one_thing_by_a_factor_in_range(name):
    others = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, name: 0.5}
    spec = f"color_jitter({', '.join(f'{k}={v}' for k, v in others.items())})"
    images = 0.3 + 0.2 * IMAGES  # so that nothing is clipped
    result = augmented(spec, images)
    greys = images @ np.array(color.LUMA, np.float32)
    other = {
        "brightness": np.zeros_like(images),
        "contrast": np.broadcast_to(greys.mean(axis=(1, 2))[:, None, None, None], images.shape),
        "saturation": np.repeat(greys[..., None], 3, axis=-1),
    }[name]
    factors = (((result - other) * (images - other)).sum((1, 2, 3))) / ((images - other) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(result, other + factors[:, None, None, None] * (images - other), atol=1e-5)
    assert 0.5 <= factors.min() < 0.6 and 1.4 < factors.max() <= 1.5 and abs(factors.mean() - 1) < 0.1


def test_color_jitter_turns_hues_and_happens_with_its_probability():
    images = np.tile(np.float32([0.8, 0.2, 0.2]), (NUM, 4, 4, 1))
    turned = augmented("color_jitter(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.25)", images)
    hues = [(colorsys.rgb_to_hsv(*map(float, image[0, 0]))[0] + 0.5) % 1 - 0.5 for image in turned]
    assert -0.25 <= min(hues) < -0.2 and 0.2 < max(hues) <= 0.25
    changed = (augmented("color_jitter(probability=0.5)") != IMAGES).any(axis=(1, 2, 3))
    assert 15 < changed.sum() < 50


def test_the_orders_of_color_jitter_are_all_drawn(monkeypatch):
    """With steps that write their number behind those before, the result tells the order."""
    monkeypatch.setattr(color, "_enhanced", lambda images, which, factors: 10 * images + random_ops.each(which + 1.0))
    monkeypatch.setattr(color, "turn_hue", lambda images, turns: 10 * images + 4.0)
    augment = registry.augmentations.build("color_jitter")
    result = augment(jax.random.key(0), batch_of(np.zeros((2048, 1, 1, 3), np.float32)))["inputs"]
    orders, counts = np.unique(np.asarray(result)[:, 0, 0, 0].round().astype(int), return_counts=True)
    assert len(orders) == 24 and all(sorted(str(order)) == list("1234") for order in orders)
    assert counts.min() > 50 and counts.max() < 125  # 85 each


def test_greyscale_is_pillows_grey_in_all_channels():
    from PIL import Image

    result = augmented("grayscale(probability=1.0)")
    for image, original in zip(result, IMAGES, strict=True):
        wanted = np.asarray(Image.fromarray((255 * original).round().astype(np.uint8)).convert("L")) / 255
        for channel in range(3):
            np.testing.assert_allclose(image[..., channel], wanted, atol=1.1 / 255)
    some = (augmented("grayscale(probability=0.5)") != IMAGES).any(axis=(1, 2, 3))
    assert 15 < some.sum() < 50
    np.testing.assert_array_equal(augmented("grayscale", IMAGES[..., :1]), IMAGES[..., :1])


def test_blur_is_scipys_gaussian():
    images, sigmas = smooth_images(4, 13, 18, 3), np.array([0.1, 0.7, 2.0, 5.0], np.float32)
    rows, columns = (resampling.smoothing(size, jnp.array(sigmas)) for size in (13, 18))
    result = resampling.along_axes(images, rows, columns)
    for image, original, sigma in zip(result, images, sigmas, strict=True):
        options = {"sigma": (sigma, sigma, 0), "mode": "constant", "truncate": 30.0}
        inside = scipy.ndimage.gaussian_filter(np.ones_like(original), **options)
        np.testing.assert_allclose(image, scipy.ndimage.gaussian_filter(original, **options) / inside, atol=1e-4)


def test_blur_draws_its_deviation_in_range():
    spike = np.zeros((256, 21, 21, 1), np.float32)
    spike[:, 10, 10] = 1
    result = augmented("gaussian_blur(sigma=(1.0, 2.0), probability=0.5)", spike)[..., 0]
    blurred = result[:, 10, 10] < 1
    assert 95 < blurred.sum() < 160
    squares = (np.arange(21) - 10) ** 2
    deviations = np.sqrt((result[blurred].sum(axis=1) * squares).sum(axis=1))
    assert 0.99 < deviations.min() < 1.1 and 1.9 < deviations.max() < 2.01


# ── what hides ────────────────────────────────────────────────────────────────────────────────────────────────────────


def holes(result, images):
    """The hidden part of each image: (top, bottom, left, right), the ends beyond; None where nothing is."""
    found = []
    for image, original in zip(result, images, strict=True):
        hidden = (image != original).all(axis=-1)
        rows, columns = np.flatnonzero(hidden.any(axis=1)), np.flatnonzero(hidden.any(axis=0))
        if len(rows):
            box = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
            assert hidden[box[0] : box[1], box[2] : box[3]].all() and hidden.sum() == len(rows) * len(columns)
        found.append(box if len(rows) else None)
    return found


def test_cutout_hides_a_square_about_any_pixel():
    images = np.random.default_rng(0).random((600, 10, 12, 3), np.float32) / 2
    result = augmented("cutout(size=4, fill=0.75)", images)
    found = holes(result, images)
    assert None not in found and set(np.unique(result[result > 0.5])) == {0.75}
    starts = {
        (max(down - 2, 0), min(down + 2, 10), max(right - 2, 0), min(right + 2, 12))
        for down in range(10)
        for right in range(12)
    }
    assert set(found) <= starts and len(set(found)) == len(starts)


def test_random_erasing_hides_rectangles_of_the_area_and_ratio_asked_for():
    images = np.full((1024, 40, 60, 3), 0.123, np.float32)
    result = augmented("random_erasing(scale=(0.05, 0.2), ratio=(1.5, 3.0))", images)
    found = holes(result, images)
    boxes = np.array([box for box in found if box])
    assert 440 < len(boxes) < 590
    tall, wide = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    share, ratio = tall * wide / 2400, wide / tall
    assert 0.045 < share.min() < 0.06 and 0.19 < share.max() < 0.21 and abs(share.mean() - 0.125) < 0.01
    assert 1.3 < ratio.min() < 1.6 and 2.8 < ratio.max() < 3.4
    assert abs(np.log(ratio).mean() - np.log(4.5) / 2) < 0.03  # the middle of the logarithms
    noise = np.concatenate(
        [image[box[0] : box[1], box[2] : box[3]].ravel() for image, box in zip(result, found, strict=True) if box]
    )
    assert abs(noise.mean() - 0.5) < 0.01 and abs(noise.std() - math.sqrt(1 / 12)) < 0.01
    assert noise.min() == 0 and noise.max() == 1
    levels = result[next(i for i, box in enumerate(found) if box)]
    assert len(np.unique(levels)) > 100  # each number for itself, not one for all
    dark = augmented("random_erasing(probability=1.0, fill=0.0)", images)
    assert set(np.unique(dark)) == {0, np.float32(0.123)} and (dark == 0).any(axis=(1, 2, 3)).all()


# ── what mixes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def partners_of(targets):
    """The weights of the examples themselves, and the partners where they show, of soft targets with a class each."""
    own = targets[np.arange(NUM), np.arange(NUM)]
    others = targets - np.diag(own)
    return own, np.where(others.max(axis=1) > 0, others.argmax(axis=1), np.arange(NUM))


def test_mixup_averages_images_and_targets_alike():
    result = applied("mixup(alpha=1.0)")
    own, partners = partners_of(result["targets"])
    np.testing.assert_allclose(result["targets"].sum(axis=1), 1, atol=1e-6)
    weights = own[:, None, None, None]
    np.testing.assert_allclose(result["inputs"], weights * IMAGES + (1 - weights) * IMAGES[partners], atol=1e-6)
    assert sorted(partners) == list(range(NUM)) and (partners != np.arange(NUM)).sum() > 55
    assert len(np.unique(own.round(4))) > 55  # a weight for each


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_draws_weights_from_the_beta_distribution(alpha):
    import scipy.stats

    augment = jax.jit(registry.augmentations.build(f"mixup(alpha={alpha})", num_classes=2))
    targets, own = np.arange(4096) % 2, []
    images = np.eye(2, dtype=np.float32)[targets].reshape(-1, 1, 2, 1)
    batch = {"inputs": jnp.array(images), "targets": jnp.array(targets)}
    mixed = np.asarray(augment(jax.random.key(0), batch)["targets"])
    own = mixed[np.arange(4096), targets]
    own = own[own < 1]  # those with a partner of the other class
    assert 1900 < len(own) < 2200
    assert scipy.stats.kstest(own, scipy.stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_cutmix_lays_a_rectangle_over_and_mixes_targets_by_area():
    images = np.asarray(jax.random.uniform(jax.random.key(1), (NUM, 20, 30, 3)))
    result = applied("cutmix", images)
    own, partners = partners_of(result["targets"])
    np.testing.assert_allclose(result["targets"].sum(axis=1), 1, atol=1e-6)
    for image, original, other, weight in zip(result["inputs"], images, images[partners], own, strict=True):
        (box,) = holes([image], [original])
        shown = np.zeros((20, 30, 1), bool)
        if box:
            shown[box[0] : box[1], box[2] : box[3]] = True
        np.testing.assert_array_equal(image, np.where(shown, other, original))
        assert weight == pytest.approx(1 - shown.mean(), abs=1e-6) or np.array_equal(original, other)
    assert sorted(partners) == list(range(NUM))


def test_cutmix_keeps_the_proportions_and_draws_areas_from_beta():
    """With alpha 1 the share of the area is uniform before what lies outside is cut off."""
    num = 2048
    targets = np.arange(num) % 2
    images = np.tile(targets[:, None, None, None], (1, 40, 80, 1)).astype(np.float32)
    augment = jax.jit(registry.augmentations.build("cutmix", num_classes=2))
    mixed = np.asarray(augment(jax.random.key(0), batch_of(images, targets=targets))["inputs"])
    boxes = np.array([box for box in holes(mixed, images) if box])
    inside = boxes[(boxes[:, 0] > 0) & (boxes[:, 1] < 40) & (boxes[:, 2] > 0) & (boxes[:, 3] < 80)]
    tall, wide = inside[:, 1] - inside[:, 0], inside[:, 3] - inside[:, 2]
    assert len(inside) > 100 and (np.abs(wide - 2 * tall) <= 1).all()  # whole pixels, rounded down
    # Of a square's part s a side, about a uniform centre, a share of (s - s²/4)² shows; its mean over uniform s² is:
    side = np.sqrt((np.arange(10000) + 0.5) / 10000)
    shares = (mixed != images).mean(axis=(1, 2, 3))[np.array([b is not None for b in holes(mixed, images)])]
    assert abs(shares.mean() - ((side - side**2 / 4) ** 2).mean()) < 0.03


def test_targets_that_are_floats_are_averaged_as_they_are():
    partners, weights = np.random.default_rng(0).permutation(NUM), np.linspace(0, 1, NUM, dtype=np.float32)
    mixed = functools.partial(mix._mix, partners=jnp.array(partners), weights=jnp.array(weights), num_classes=NUM)
    np.testing.assert_allclose(mixed(jnp.array(TARGETS)), mixed(jnp.eye(NUM)), atol=1e-6)
    numbers = np.linspace(-3, 9, NUM, dtype=np.float32)
    wanted = weights * numbers + (1 - weights) * numbers[partners]
    np.testing.assert_allclose(mixed(jnp.array(numbers)), wanted, atol=1e-5)
    several = np.stack([numbers, 1 - numbers], axis=1)
    wanted = weights[:, None] * several + (1 - weights[:, None]) * several[partners]
    np.testing.assert_allclose(mixed(jnp.array(several)), wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_happens_with_its_probability(name):
    result = applied(f"{name}(alpha=4.0, probability=0.5)")
    some = (result["inputs"] != IMAGES).any(axis=(1, 2, 3))
    assert 15 < some.sum() < 50
    np.testing.assert_array_equal(result["targets"][~some], np.eye(NUM)[~some])


@pytest.mark.parametrize("task", ["multiclass", "binary"])
def test_mixed_targets_train(task):
    """The loss of mixed targets is the weighted mean of those of both classes, in every task that has classes."""
    built = registry.tasks.build(task, num_classes=2)
    model = registry.models.build("mlp(hidden=(4,))", output_size=built.output_size)
    params, state = model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    batch = batch_of(IMAGES[:8, :4, :4], targets=np.arange(8) % 2)
    mixed = registry.augmentations.build("mixup(alpha=1.0)", num_classes=2)(jax.random.key(0), batch)
    values, _ = built.loss(model, params, state, mixed, train=True, key=None)
    both = [
        built.loss(model, params, state, {**mixed, "targets": jnp.full(8, i)}, train=True, key=None)[0] for i in (0, 1)
    ]
    wanted = mixed["targets"][:, 0] * both[0]["loss"] + mixed["targets"][:, 1] * both[1]["loss"]
    np.testing.assert_allclose(values["loss"], wanted, atol=1e-5)
