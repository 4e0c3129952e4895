"""Preview: it shows what training would see, next to the original images."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import jaxvision as jv
from jaxvision import cli
from jaxvision.reports import plots

CONFIG = jv.Config(
    dataset="synthetic(num_examples=40, num_classes=3, image_size=8)", augmentations="horizontal_flip(probability=1.0)"
)


@pytest.fixture
def drawn(monkeypatch):
    """What is handed to the drawing: images, captions and columns."""
    found = []
    monkeypatch.setattr(plots, "images", lambda *drawing, columns: found.append((*drawing[:2], columns)))
    return found


def test_originals_are_beside_their_versions(drawn, tmp_path):
    jv.preview(CONFIG, out=tmp_path / "a.png", num_images=4, num_versions=2)
    ((inputs, captions, columns),) = drawn
    assert inputs.shape == (12, 8, 8, 3) and columns == 3 and inputs.dtype == np.float32
    rows = inputs.reshape(4, 3, 8, 8, 3)
    for version in (1, 2):
        np.testing.assert_array_equal(rows[:, version], rows[:, 0, :, ::-1])
    assert captions[0].startswith("original: class ") and captions[1] == captions[2] == captions[0][len("original: ") :]
    assert len({image.tobytes() for image in rows[:, 0]}) == 4


def test_mixed_targets_are_captioned_with_their_shares(drawn, tmp_path):
    config = CONFIG.replace(augmentations="mixup(alpha=1.0)")
    jv.preview(config, out=tmp_path / "a.png", num_images=6, num_versions=5)
    ((_, captions, _),) = drawn
    mixed = [caption for caption in captions if "\n" in caption]
    assert mixed
    for caption in mixed:
        shares = [int(line.rsplit(" ", 1)[1].rstrip("%")) for line in caption.splitlines()]
        assert sum(shares) == pytest.approx(100, abs=1) and shares == sorted(shares, reverse=True)


def test_versions_are_epochs_and_the_seed_decides(drawn, tmp_path):
    config = CONFIG.replace(augmentations="alternating_flip")
    for seed in (0, 0, 1):
        jv.preview(config.replace(seed=seed), out=tmp_path / "a.png", num_images=5, num_versions=2)
    one, again, other = (inputs.reshape(5, 3, 8, 8, 3) for inputs, *_ in drawn)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one[:, 1], one[:, 2, :, ::-1])
    assert not np.array_equal(one, other)


def test_arrays_in_memory(drawn, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 9), np.uint8)
    jv.preview(CONFIG, out=tmp_path / "a.png", num_images=2, dataset={"train": (images, np.arange(20) % 2)})
    assert drawn[0][0].shape == (16, 6, 9, 1)


def test_the_command_draws_a_picture(tmp_path, capsys, root):
    flags = [
        f"--dataset={CONFIG.dataset}",
        "--augmentations=rotation, cutmix",
        f"--out={tmp_path / 'new' / 'seen.png'}",
    ]
    assert cli.run("preview", [*flags, "--num_images=3", "--num_versions=2"]) == 0
    assert "seen.png" in capsys.readouterr().out
    with Image.open(tmp_path / "new" / "seen.png") as picture:
        assert picture.width > 300 and picture.height > 300 and len(picture.getcolors(1 << 20)) > 50
    words = [sys.executable, "-m", "jaxvision", "preview", "--help"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and "--num_versions" in done.stdout and "--augmentations" in done.stdout


def test_an_experiments_augments(drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from jaxvision import Config\n"
        f"CONFIG = Config(dataset={CONFIG.dataset!r}, augmentations='horizontal_flip(probability=1.0)')"
    )
    assert cli.run("preview", ["--experiment=mine", "--num_images=2", "--num_versions=1"]) == 0
    rows = drawn[0][0].reshape(2, 2, 8, 8, 3)
    np.testing.assert_array_equal(rows[:, 1], rows[:, 0, :, ::-1])


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--augmentations="], "preview needs augmentations"),
        (["--augmentations=flop"], "unknown augmentation 'flop' (`jaxvision list"),
        (["--augmentations=mixup(num_classes=3)"], "'num_classes' is set by the run, not by a spec"),
        (["--augmentations=horizontal_flip", "--num_images=400"], "num_images=400; the training split has"),
        (["--augmentations=horizontal_flip", "--out=a.jpg"], "expected a file name ending in .png"),
        (["horizontal_flip"], "accepts only flags"),
    ],
)
def test_what_cannot_be_previewed_is_told_in_one_line(flags, why, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run("preview", [f"--dataset={CONFIG.dataset}", *flags]) == 2
    said = capsys.readouterr().err
    assert why in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_greys_are_drawn_as_they_are(tmp_path):
    """An image of dark greys alone stays dark: it is not spread from black to white."""
    for image in (np.array([[30, 60]], np.uint8), np.array([[0.1, 0.25]], np.float32)):
        plots.images(image[None, ..., None].repeat(20, 1).repeat(10, 2), [""], tmp_path / "a.png", columns=1)
        with Image.open(tmp_path / "a.png") as picture:
            middle = np.asarray(picture.convert("L"))[picture.height // 2]
        assert set(np.unique(middle[middle < 250])) <= set(range(20, 75))
