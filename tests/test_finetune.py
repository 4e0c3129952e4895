"""finetune: a linear head on pretrained features, then all layers, within a time budget."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import jaxvision as jv
from jaxvision import cli
from jaxvision.config import Config
from jaxvision.finetune import Finetuned, finetune
from jaxvision.weights import packages


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photographs of three colors, unbalanced, and a tiny network that was trained on other images."""
    folder = tmp_path_factory.mktemp("finetune")
    rng = np.random.default_rng(0)
    for kind, count in enumerate((60, 40, 12)):
        for number in range(count):
            pixels = rng.integers(0, 160, (16, 16, 3))
            pixels[..., kind] += 60
            path = folder / "photos" / f"{'abc'[kind]}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    config = Config(model="cnn(channels=(8, 8), dense=())", dataset="synthetic(num_examples=200, image_size=16)")
    jv.train(config.replace(steps=20, batch_size=20), workdir=folder / "pretrained")
    return folder


def run(place, workdir, **options) -> Finetuned:
    spec = f"folder(path={str(place / 'photos')!r}, image_size=16)"
    model = "cnn(channels=(8, 8), dense=())"
    return finetune(spec, model=model, init_from=str(place / "pretrained"), workdir=workdir, **options)


@pytest.fixture(scope="module")
def found(place):
    return run(place, place / "run", minutes=0.5)


def test_the_first_checkpoint_is_the_probe_and_the_best_wins(found, place):
    rows = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    first = next(row for row in rows if row["split"] == "validation")
    assert first["step"] == 0
    assert first["accuracy"] == pytest.approx(found.probe.validation["accuracy"], abs=1e-6)
    assert first["loss"] == pytest.approx(found.probe.validation["loss"], abs=1e-4)
    best = max(row["accuracy"] for row in rows if row["split"] == "validation")
    assert max(found.probe.validation["accuracy"], found.finetuned.validation["accuracy"]) == pytest.approx(best)
    report = jv.evaluate(place / "run")
    winner = found.probe if found.winner == "probe" else found.finetuned
    assert report["step"] == winner.step and report["accuracy"] == pytest.approx(winner.test["accuracy"], abs=1e-6)


def test_the_run_is_balanced_within_its_time_and_says_what_it_did(found, place):
    config = Config.load(place / "run" / "config.json")
    assert config.sampling == "balanced" and config.head_init == "probe" and config.layer_decay == 0.8
    assert 1 <= config.steps <= 20 * 72 // config.batch_size
    text = str(found)
    few = int(found.num_validation)
    assert f"chosen: {found.winner}, by accuracy on {few} validation images, which are few to choose by" in text
    assert found.curve.answer in text
    saved = json.loads((place / "run" / "finetune.json").read_text())
    assert saved["winner"] == found.winner and saved["probe"]["test"] == found.probe.test
    assert [point["num_images"] for point in saved["curve"]["points"]][-1] == 72


def test_the_same_command_goes_on(found, place):
    steps = Config.load(place / "run" / "config.json").steps
    again = run(place, place / "run", minutes=0.01)
    assert Config.load(place / "run" / "config.json").steps == steps
    assert again.winner == found.winner and again.finetuned == found.finetuned


def test_the_folder_of_another_run_is_refused_before_any_work(found, place, tmp_path, capsys):
    with pytest.raises(ValueError, match="seed=0 in the run, 1 now"):
        run(place, place / "run", seed=1)
    with pytest.raises(ValueError, match="head_init='new' in the run, 'probe' now"):
        run(place, place / "pretrained")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="files that do not belong to a training run"):
        run(place, tmp_path)
    assert "probe" not in capsys.readouterr().out


def test_the_command(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    words = ["--dataset=folder(path='photos', image_size=16)", "--model=cnn(channels=(8, 8), dense=())"]
    assert cli.run("finetune", [*words, "--init_from=./pretrained", "--minutes=0.01", "--workdir=short"]) == 0
    out = capsys.readouterr().out
    assert "fine-tuning: 1 step of" in out and "predict more images: jaxvision predict --workdir=short" in out
    assert cli.run("predict", ["--workdir=short", "photos/a/0.png"]) == 0


@pytest.mark.filterwarnings("default")
def test_the_images_to_label_next_are_named(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    (place / "photos" / "b" / "broken.png").write_bytes(b"no image")
    words = ["--dataset=folder(path='photos', image_size=16)", "--model=cnn(channels=(8, 8), dense=())", "--label=7"]
    words += ["--init_from=./pretrained", "--minutes=0.01", "--workdir=next", "--unlabeled=photos/b"]
    try:
        assert cli.run("finetune", words) == 2  # the same file is an error among the labeled images
        (place / "unlabeled").mkdir()
        (place / "photos" / "b" / "broken.png").rename(place / "unlabeled" / "broken.png")
    finally:
        (place / "photos" / "b" / "broken.png").unlink(missing_ok=True)
    for number in range(20):
        shutil.copy(place / "photos" / "abc"[number % 3] / f"{number // 2}.png", place / "unlabeled" / f"{number}.png")
    words[-1] = "--unlabeled=unlabeled"
    assert cli.run("finetune", words) == 0
    said = capsys.readouterr()
    assert "warning: unlabeled: skipped 1 unreadable image: cannot read the image 'unlabeled/broken.png'" in said.err
    assert "label next: 7 images of unlabeled, in next/label_next.csv" in said.out
    rows = list(csv.DictReader((place / "next" / "label_next.csv").open()))
    assert len({row["file"] for row in rows}) == 7 and "unlabeled/broken.png" not in {row["file"] for row in rows}
    assert all(row["predicted"] in "abc" and 1 / 3 <= float(row["probability"]) <= 1 for row in rows)
    assert (place / "next" / "label_next.png").exists()
    (place / "junk").mkdir()
    (place / "junk" / "x.png").write_bytes(b"no image")
    words[-2:] = "--workdir=junked", "--unlabeled=junk"
    assert cli.run("finetune", words) == 2 and (place / "junked" / "finetune.json").exists()  # no work is lost
    words[-2:] = "--workdir=other", "--unlabeled=nowhere"
    assert cli.run("finetune", words) == 2 and not (place / "other").exists()


def test_without_weights_at_hand_the_message_has_the_command_that_installs_them(place, monkeypatch, capsys):
    monkeypatch.setattr(packages, "at_hand", lambda: [])
    monkeypatch.chdir(place)
    assert cli.run("finetune", ["--dataset=folder(path='photos')"]) == 2
    assert "pip install" in capsys.readouterr().err
    assert cli.run("finetune", []) == 2
    assert "finetune needs --dataset" in capsys.readouterr().err


def test_images_with_several_labels_are_refused(place, tmp_path):
    rows = [f"a/{n}.png,{n % 2},{n % 3 % 2}" for n in range(12)]
    (place / "photos" / "table.csv").write_text("\n".join(["image,red,big", *rows]) + "\n")
    spec = f"table(path={str(place / 'photos' / 'table.csv')!r}, target=('red', 'big'), image_size=16)"
    with pytest.raises(ValueError, match=r"finetune needs a class for each image, and .* has multilabel targets"):
        finetune(
            spec,
            model="cnn(channels=(8, 8), dense=())",
            init_from=str(place / "pretrained"),
            workdir=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()
