"""Preprocessing equals torchvision's and timm's; runs of earlier versions keep the rule that they began with."""

import importlib
import importlib.util
import json
import math
import shutil

import numpy as np
import pytest
from conftest import SHARED
from PIL import Image

from jaxvision import data as datas
from jaxvision.config import Config
from jaxvision.image_decoding import read_image
from jaxvision.image_files import measure_files, read_images
from jaxvision.interfaces import Preprocessing
from jaxvision.train import train
from jaxvision.weights import files as weight_files
from jaxvision.workdir import Signature

reports = importlib.import_module("jaxvision.dataset_report")  # the package has a function of that name
OLD = SHARED.parent / "workdirs" / "v0.1"


def wanted(size, crop=1.0, interpolation="bilinear", channels=3, **options) -> Preprocessing:
    return Preprocessing(size, channels, (0.0,) * channels, (1.0,) * channels, crop, interpolation, **options)


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng((width, height))
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def short_side_then_crop(image: Image.Image, size: int, crop: float, interpolation: str) -> np.ndarray:
    """Return the definition, literally: torchvision's Resize and CenterCrop with timm's size."""
    short, (width, height) = math.floor(size / crop), image.size
    resized = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    image = image.resize(resized, Image.Resampling[interpolation.upper()])
    left, top = round((resized[0] - size) / 2.0), round((resized[1] - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
@pytest.mark.parametrize("crop", [0.875, 0.9, 0.95, 1.0])
def test_the_short_side_is_resized_before_the_crop(crop, interpolation, tmp_path):
    for width, height in ((50, 37), (33, 46), (225, 31), (32, 32)):
        image = picture(width, height)
        image.save(tmp_path / "x.png")
        for size in (22, 29, 32):
            read = read_image(tmp_path / "x.png", wanted((size, size), crop, interpolation))
            np.testing.assert_array_equal(read, short_side_then_crop(image, size, crop, interpolation))


def test_a_jpeg_is_decoded_in_full_unless_it_is_for_training(tmp_path):
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    small.resize((600, 400), Image.Resampling.BICUBIC).save(tmp_path / "x.jpg")
    preprocessing = wanted((32, 32), 0.875, "bicubic")
    with Image.open(tmp_path / "x.jpg") as image:
        expected = short_side_then_crop(image, 32, 0.875, "bicubic")
    np.testing.assert_array_equal(read_image(tmp_path / "x.jpg", preprocessing), expected)
    ((_, (read,)),) = read_images([tmp_path / "x.jpg"], preprocessing)
    np.testing.assert_array_equal(read, expected)
    scaled = read_image(tmp_path / "x.jpg", preprocessing, is_scaled=True).astype(int)
    assert 0 < np.abs(scaled - expected).mean() < 2 and np.abs(scaled - expected).max() < 20


def test_a_very_narrow_image_takes_no_more_memory_than_its_box(tmp_path):
    Image.fromarray(np.arange(200_000, dtype=np.uint32).astype(np.uint8)[None].repeat(2, 0)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", wanted((64, 64))).shape == (64, 64, 3)


def test_pad_keeps_all_of_the_image_and_its_aspect_ratio(tmp_path):
    Image.new("RGB", (40, 20), "white").save(tmp_path / "x.png")
    read = read_image(tmp_path / "x.png", wanted((20, 20), "pad"))
    assert (read[5:15] == 255).all() and (read[[0, 4, 15, 19]] == (124, 116, 104)).all()
    gray = read_image(tmp_path / "x.png", wanted((12, 4), "pad", channels=1))[..., 0]
    assert (gray[5:7] == 255).all() and (gray[[0, 4, 7, 11]] == 114).all()
    with pytest.raises(ValueError, match=r"crop='fill'; expected a fraction from 0.001 to 1, 'pad', or None"):
        wanted((8, 8), "fill")


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "torchvision", "timm"))), reason="needs the extra parity"
)
def test_timm_and_torchvision_make_the_same_pixels(monkeypatch):
    import numerics_preprocessing as numerics

    monkeypatch.setattr(numerics, "SIZES", ((333, 250), (225, 401)))
    monkeypatch.setattr(numerics, "INPUTS", ((224, 224), (160, 224)))
    monkeypatch.setattr(numerics, "CROPS", (0.875, 0.95, 1.0))
    monkeypatch.setattr(numerics, "INTERPOLATIONS", ("bicubic", "nearest"))
    rows = numerics.resizing_rows()
    assert len(rows) == 8 and all(difference <= 1 for _, _, difference in rows), rows


def test_earlier_versions_cropped_first(tmp_path):
    image = picture(50, 37)
    image.save(tmp_path / "x.png")
    read = read_image(tmp_path / "x.png", wanted((20, 20), 0.8, resize="crop_first"))
    side = 37 * 0.8
    box = ((50 - side) / 2, (37 - side) / 2, (50 + side) / 2, (37 + side) / 2)
    expected = image.resize((20, 20), Image.Resampling.BILINEAR, box=box)
    np.testing.assert_array_equal(read, np.asarray(expected))


def photos(folder, sizes=((40, 20),) * 10) -> str:
    for kind in ("cat", "dog"):
        (folder / kind).mkdir(parents=True)
        for number, size in enumerate(sizes):
            picture(*size).save(folder / kind / f"{number}.png")
    return str(folder)


@pytest.mark.parametrize("crop, size", [("'pad'", (8, 8)), ("'squash'", (8, 8)), ("0.9", (8, 8))])
def test_a_folder_takes_each_way_to_resize_and_the_rule_of_its_run(crop, size, tmp_path):
    config = Config(dataset=f"folder(path={photos(tmp_path / 'data')!r}, image_size=8, crop={crop})")
    today, then = (datas.open_dataset(config, rules=datas.DataRules(rule)) for rule in ("short_side", "crop_first"))
    assert (today.preprocessing.resize, then.preprocessing.resize) == ("short_side", "crop_first")
    assert today.preprocessing.size == size
    pixels = [dataset.train.read(np.arange(4)) for dataset in (today, then)]
    assert np.array_equal(*pixels) == (crop != "0.9")


@pytest.mark.skipif(not OLD.is_dir(), reason="there is no ../shared/workdirs beside the checkout")
def test_a_signature_names_its_rule_and_one_without_it_keeps_the_old(tmp_path):
    file = tmp_path / "signature.json"
    assert datas.rules_of(tmp_path).resize == "short_side"
    shutil.copy(OLD / "folder_resnet" / "signature.json", file)
    shutil.copy(OLD / "folder_resnet" / "config.json", tmp_path / "config.json")
    assert "resize" not in json.loads(file.read_text())["preprocessing"]
    signature = Signature.load(file)
    assert signature.preprocessing.resize == datas.rules_of(tmp_path).resize == "crop_first"
    signature.save(file)
    assert json.loads(file.read_text())["preprocessing"]["resize"] == "crop_first"
    assert Signature.load(file) == signature


@pytest.mark.parametrize("crop, mode", [(0.95, "center"), (None, "squash"), ("pad", "border")])
def test_weights_state_how_images_are_resized(crop, mode, tmp_path):
    options = {"architecture": "resnet18", "classes": ("a", "b"), "num_outputs": 2}
    weight_files.write(tmp_path / "w", {"x": np.zeros(2, np.float32)}, preprocessing=wanted((32, 32), crop), **options)
    stated = json.loads((tmp_path / "w" / "config.json").read_text())["pretrained_cfg"]
    assert stated["crop_mode"] == mode
    read = weight_files.read(str(tmp_path / "w")).preprocessing
    assert read is not None and read.crop == crop and read.resize == "short_side"


def test_a_run_from_weights_names_the_way_that_it_resizes(tmp_path, capsys):
    spec = f"folder(path={photos(tmp_path / 'data')!r}, image_size=8, crop={{}})"
    config = Config(model="mlp(hidden=(2,))", steps=1, batch_size=4, validation_fraction=0.0)
    train(config.replace(dataset=spec.format(1.0)), workdir=tmp_path / "first")
    for crop, said in (
        ("'pad'", "8x8 pixels, padded"),
        ("'squash'", "8x8 pixels, squashed"),
        (0.9, "8x8 pixels, crop 0.9"),
    ):
        run = config.replace(dataset=spec.format(crop), init_from=str(tmp_path / "first"))
        train(run, workdir=tmp_path / said[12:])
        assert said in capsys.readouterr().out


def test_a_dataset_report_warns_of_a_crop_that_drops_much(tmp_path):
    spec = f"folder(path={photos(tmp_path / 'wide')!r}, image_size=16)"
    report = reports.dataset_report(Config(dataset=spec), out=tmp_path / "out")
    assert report["splits"]["train"]["kept_fraction"] == 0.5
    assert "train: warning: the crop drops 50% of a typical image; crop='pad'" in reports.text(report)
    files = sorted((tmp_path / "wide").rglob("*.png"))
    for crop in (None, "pad"):
        assert measure_files(files, wanted((16, 16), crop))["kept_fraction"] == 1
    picture(20, 18).save(tmp_path / "almost_square.png")
    almost = measure_files([tmp_path / "almost_square.png"], wanted((16, 16)))
    report["splits"] = {"train": {"num_examples": 1, **almost}}
    assert "warning" not in reports.text(report)
