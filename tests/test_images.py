"""Image files of all kinds decode to the expected pixels."""

import numpy as np
import pytest
from PIL import Image

from jaxvision.image_files import find_images, random_part, read_image, read_images
from jaxvision.images import from_array
from jaxvision.interfaces import Preprocessing


def asked(size, channels=3, **options):
    return Preprocessing(size, channels, (0.0,) * channels, (1.0,) * channels, **options)


def gradient(width, height):
    """Red grows to the right, green to the bottom."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 0 * x + 128], axis=-1).astype(np.uint8)


def test_exif_turns_the_picture(tmp_path):
    image = Image.fromarray(gradient(40, 20))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    turned = read_image(tmp_path / "turned.png", asked((40, 20)))
    np.testing.assert_array_equal(turned, np.rot90(gradient(40, 20), -1))


def test_transparent_parts_are_white(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "half.png")
    read = read_image(tmp_path / "half.png", asked((8, 8)))
    assert (read[:4] == 0).all() and (read[4:] == 255).all()


def test_sixteen_bits_are_scaled(tmp_path):
    Image.fromarray(np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)).save(tmp_path / "deep.png")
    read = read_image(tmp_path / "deep.png", asked((8, 8), 1))[..., 0]
    np.testing.assert_allclose(read.ravel(), np.linspace(0, 255, 64), atol=1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_all_modes_become_what_is_asked(mode, channels, tmp_path):
    file = tmp_path / ("image.tif" if mode in ("CMYK", "YCbCr") else "image.png")
    Image.new("RGB", (9, 7), (204, 204, 204)).convert(mode).save(file)
    read = read_image(file, asked((7, 9), channels))
    assert read.shape == (7, 9, channels) and read.dtype == np.uint8
    assert (mode == "1") or np.abs(read.astype(int) - 204).max() <= 3


def test_numbers_without_a_black_and_white_are_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match=r"float\.tif.*mode 'F', which does not define black and white"):
        read_image(tmp_path / "float.tif", asked((8, 8)))


def test_crop_keeps_the_aspect_and_squash_the_whole(tmp_path):
    Image.fromarray(gradient(90, 30)).save(tmp_path / "wide.png")
    cropped = read_image(tmp_path / "wide.png", asked((30, 30)))
    np.testing.assert_array_equal(cropped, gradient(90, 30)[:, 30:60])
    squashed = read_image(tmp_path / "wide.png", asked((30, 30), crop=None))
    assert squashed[0, 0, 0] < 10 and squashed[0, -1, 0] > 245
    half = read_image(tmp_path / "wide.png", asked((15, 15), crop=0.5))
    assert half[..., 0].min() > 85 and half[..., 0].max() < 170 and half[..., 1].min() > 50


def test_decoding_at_a_smaller_scale_changes_little(tmp_path):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(small).resize((640, 512), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg", quality=95)
    read = read_image(tmp_path / "large.jpg", asked((32, 40)))
    with Image.open(tmp_path / "large.jpg") as image:
        whole = np.asarray(image.resize((40, 32), Image.Resampling.BILINEAR))
    assert np.abs(read.astype(int) - whole).mean() < 2


def test_what_is_damaged_or_no_image_is_named(tmp_path):
    Image.fromarray(gradient(64, 64)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:600])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut.jpg", "text.png", "empty.png"):
        with pytest.raises(ValueError, match=f"cannot read the image '.*{name}'"):
            read_image(tmp_path / name, asked((8, 8)))
    with pytest.raises(FileNotFoundError, match=r"no image file '.*gone\.png'"):
        read_image(tmp_path / "gone.png", asked((8, 8)))


def test_many_files_come_in_order_with_their_errors(tmp_path):
    files = [tmp_path / f"{index}.png" for index in range(7)]
    for index, file in enumerate(files):
        Image.new("L", (4, 4), index).save(file)
    files[3].write_text("broken")
    found, counts = [], []
    for _, results in read_images(files, asked((4, 4), 1), advance=counts.append, chunk_size=3):
        found += results
    assert counts == [3, 3, 1] and isinstance(found[3], ValueError)
    assert [int(image[0, 0, 0]) for index, image in enumerate(found) if index != 3] == [0, 1, 2, 4, 5, 6]


def test_images_are_found(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/1.png", "a/b/2.JPG", "a/notes.txt", "3.webp"):
        (tmp_path / name).write_bytes(b"")
    names = [path.removeprefix(f"{tmp_path}/") for path in find_images([str(tmp_path)])]
    assert sorted(names) == ["3.webp", "a/1.png", "a/b/2.JPG"]
    assert find_images([str(tmp_path / "a" / "notes.txt")]) == [str(tmp_path / "a" / "notes.txt")]
    assert find_images([str(tmp_path / "**" / "*.JPG")]) == [str(tmp_path / "a" / "b" / "2.JPG")]
    (tmp_path / "empty").mkdir()
    for path in ("gone.png", "*.gif", "empty"):
        with pytest.raises(FileNotFoundError, match=r"no (file|images)"):
            find_images([str(tmp_path / path)])


def test_arrays_are_fitted():
    grey, colour = np.full((6, 6), 0.5), np.zeros((6, 8, 3), np.uint8)
    assert from_array(grey, asked((3, 3), 1)).tolist() == [[[128]] * 3] * 3
    assert from_array(grey, asked((6, 6), 3)).shape == (6, 6, 3)
    assert from_array(colour, asked((6, 8))) is colour
    assert from_array(colour, asked((4, 4), 1)).shape == (4, 4, 1)


def test_random_parts_are_shares_of_the_area_that_lie_within_the_picture():
    rng, shares, aspects = np.random.default_rng(0), [], []
    for _ in range(500):
        left, top, right, bottom = random_part(60, 40, area_range=(0.1, 0.5), rng=rng)
        assert 0 <= left < right <= 60 and 0 <= top < bottom <= 40
        shares.append((right - left) * (bottom - top) / 2400)
        aspects.append((right - left) / (bottom - top))
    assert 0.1 <= min(shares) < 0.12 and 0.48 < max(shares) <= 0.5
    assert 3 / 4 - 1e-9 <= min(aspects) < 0.77 and 1.3 < max(aspects) <= 4 / 3 + 1e-9
    assert abs(np.mean(np.log(aspects))) < 0.02  # as often high as wide
    assert random_part(1, 1000, area_range=(1.0, 1.0), rng=rng) == pytest.approx((0, 499.333333, 1, 500.666667))


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg", "picture.tif"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_part_of_a_picture_is_of_the_upright_one(name, turned, tmp_path):
    upright = gradient(640, 480)
    image = Image.fromarray(np.rot90(upright, 1) if turned else upright)
    exif = image.getexif()
    exif[0x0112] = 6 if turned else 1
    image.save(tmp_path / name, exif=exif, quality=100, subsampling=0)
    read = read_image(tmp_path / name, asked((24, 32)), part=lambda width, height: (320, 120, 320 + 256, 120 + 192))
    assert read.shape == (24, 32, 3)
    expected = upright[120:312, 320:576].reshape(24, 8, 32, 8, 3).mean(axis=(1, 3))  # JPEG is decoded at a quarter
    np.testing.assert_allclose(read[1:-1, 1:-1, :2], expected[1:-1, 1:-1, :2], atol=1.5)
    assert (read_image(tmp_path / name, asked((8, 8)), part=lambda width, height: (0, 0, width, height)) != 0).any()


def test_a_part_of_a_transparent_or_deep_picture_is_as_the_whole(tmp_path):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:8, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "half.png")
    read = read_image(tmp_path / "half.png", asked((4, 4)), part=lambda width, height: (4, 4, 12, 12))
    assert (read[0] == 0).all() and (read[3] == 255).all()
    Image.fromarray(np.full((8, 8), 257 * 40, np.uint16)).save(tmp_path / "deep.png")
    assert (read_image(tmp_path / "deep.png", asked((2, 2), 1), part=lambda width, height: (1, 1, 5, 5)) == 40).all()


def test_no_files_are_no_images():
    assert list(read_images([], asked((8, 8)))) == []
