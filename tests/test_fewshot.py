"""Few-shot evaluation: the figures are those of scikit-learn on the same features, and nothing chooses on test."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photos
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

import jaxvision as jv
from jaxvision import cli, features
from jaxvision.data import open_dataset
from jaxvision.feature_classifiers import CLASSIFIERS, Fitted
from jaxvision.weights import packages

fewshot = jv.fewshot
module = importlib.import_module("jaxvision.fewshot")  # the attribute of the package is the function


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    make_photos(folder / "train", num_images=12)
    make_photos(folder / "test", num_images=8)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, photos):
    """The workdir of a tiny model, trained on the photographs."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    dataset = f"folder(path='{photos}', image_size=12)"
    config = jv.Config(model="mlp(hidden=(8,))", dataset=dataset, batch_size=8, steps=3, validation_fraction=0.0)
    jv.train(config, workdir=workdir)
    return workdir


@pytest.fixture
def config(photos, trained):
    return jv.Config(dataset=f"folder(path='{photos}')", init_from=str(trained))


def with_features(monkeypatch, *, num_classes=4, per_class=30, distance=1.2, kind="multiclass"):
    """Return a dataset of noise, and replace the features of its images by overlapping normal distributions."""
    rng = np.random.default_rng(0)
    means = distance * rng.normal(size=(num_classes, 6))
    targets = np.tile(np.arange(num_classes), per_class)
    values = {name: means[targets] + rng.normal(size=(len(targets), 6)) for name in ("train", "test")}
    monkeypatch.setattr(features, "pooled_features", lambda *given: values)
    inputs = np.zeros((len(targets), 12, 12, 3), np.uint8)
    split = jv.Split.of(inputs, targets, kind=kind)
    names = tuple(f"class {i}" for i in range(num_classes))
    return jv.Dataset(split, None, split, names, jv.Preprocessing((12, 12), 3, (0.5,) * 3, (0.2,) * 3)), values


def rows_of(report, classifier):
    return {row["shots"]: row for row in report["results"] if row["classifier"] == classifier}


def test_from_a_workdir_to_figures_and_files(config, tmp_path):
    report = fewshot(config, shots=(1, 5, 20), seeds=3, out=tmp_path / "out", ways=2, episodes=20)
    assert report == json.loads((tmp_path / "out" / "fewshot.json").read_text())
    assert report["model"] == "mlp(hidden=(8,))" and report["split"] == "test" and report["num_test"] == 16
    assert {*rows_of(report, "knn")} == {1, 5}
    assert "shots=20: left out, as the class 'dark' has 12 images in train" in report["notes"]
    assert "episodes with shots=5 predict 3 images of each class, not 15" in report["notes"]
    for name in CLASSIFIERS:
        assert rows_of(report, name)[5]["accuracy"] > 0.9  # dark and light photographs
    assert {row["shots"] for row in report["episodes"]} == {1, 5}
    for file in ("fewshot.png", "episodes.png"):
        assert (tmp_path / "out" / file).stat().st_size > 5_000
    again = fewshot(config, shots=(1,), seeds=3, out=tmp_path / "out")
    assert rows_of(again, "ridge")[1] == rows_of(report, "ridge")[1]
    assert not (tmp_path / "out" / "episodes.png").exists()


def test_the_figures_are_those_of_scikit_learn_on_the_same_features(config, monkeypatch, tmp_path):
    dataset, values = with_features(monkeypatch)
    report = fewshot(config, dataset=dataset, shots=(2, 4), seeds=4, out=tmp_path / "out")
    targets = dataset.train.targets
    for shots in (2, 4):
        accuracies, neighbors = [], []
        for seed in range(4):
            rng = np.random.default_rng(seed)
            drawn = np.concatenate([rng.permutation(np.flatnonzero(targets == c))[:shots] for c in range(4)])
            model = NearestCentroid().fit(values["train"][drawn], targets[drawn])
            accuracies.append((model.predict(values["test"]) == targets).mean())
            k = int(rows_of(report, "knn")[shots]["chosen"][seed]["k"])
            model = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
            model.fit(values["train"][drawn], targets[drawn])
            neighbors.append((model.predict(values["test"]) == targets).mean())
        row = rows_of(report, "nearest_mean")[shots]
        assert row["values"] == pytest.approx(accuracies)
        assert row["accuracy"] == pytest.approx(np.mean(accuracies))
        assert row["deviation"] == pytest.approx(np.std(accuracies, ddof=1)) and row["deviation"] > 0
        assert rows_of(report, "knn")[shots]["values"] == pytest.approx(neighbors)


def test_features_without_information_reach_chance(config, monkeypatch, tmp_path):
    dataset, _ = with_features(monkeypatch, distance=0.0)
    report = fewshot(config, dataset=dataset, shots=(10,), seeds=5, out=tmp_path, ways=3, episodes=60)
    for name in CLASSIFIERS:
        assert rows_of(report, name)[10]["accuracy"] == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 120))
    for row in report["episodes"]:
        assert row["accuracy"] == pytest.approx(1 / 3, abs=0.06)


def test_nothing_is_chosen_on_test(config, monkeypatch, tmp_path):
    """Other test features and targets leave the choices as they are."""
    dataset, values = with_features(monkeypatch)
    before = fewshot(config, dataset=dataset, shots=(5,), out=tmp_path)
    values["test"] = -values["test"][::-1]
    after = fewshot(config, dataset=dataset, shots=(5,), out=tmp_path)
    for name in ("knn", "logistic", "ridge"):
        old, new = rows_of(before, name)[5], rows_of(after, name)[5]
        assert old["chosen"] == new["chosen"] and old["values"] != new["values"]


def test_episodes_keep_support_and_queries_apart(monkeypatch):
    seen = []

    def memorize(features, targets, num_classes, **options):
        def predict(queries):
            assert num_classes == 3 and np.array_equal(np.bincount(targets), [2, 2, 2]) and len(queries) == 12
            support = features[:, 0].astype(int)
            assert not {*support} & {*queries[:, 0].astype(int)} and len({*queries[:, 0]}) == 12
            classes = support.reshape(3, 2) // 10  # images 0 to 9 are of class 0, and so on
            assert (classes[:, 0] == classes[:, 1]).all() and len({*classes[:, 0]}) == 3
            assert np.array_equal(np.repeat(classes[:, 0], 4), queries[:, 0].astype(int) // 10)
            seen.append(tuple(classes[:, 0]))
            truth = np.repeat(np.arange(3), 4)
            right = np.arange(12) % 4 < len(seen) % 5  # 1, 2, 3, 4, 0, 1, … of 4
            return np.eye(3)[np.where(right, truth, (truth + 1) % 3)]

        return Fitted(predict)

    monkeypatch.setattr(module, "IN_EPISODES", {"memorize": memorize})
    test = np.arange(50.0)[:, None], np.repeat(np.arange(5), 10)
    rows, notes = module._evaluate_episodes(test, "abcde", [2], 3, 10, 4, "test")
    assert len(seen) == 10 and len(set(seen)) > 3 and not notes
    accuracies = np.array([1, 2, 3, 4, 0, 1, 2, 3, 4, 0]) / 4
    assert rows[0]["accuracy"] == pytest.approx(accuracies.mean())
    assert rows[0]["half_interval"] == pytest.approx(1.96 * accuracies.std(ddof=1) / np.sqrt(10))


def test_fewer_images_are_a_part_of_more():
    targets = np.random.default_rng(0).integers(3, size=60)
    few, many = (module.draw(targets, shots, seed=0) for shots in (2, 7))
    assert np.array_equal(np.bincount(targets[many]), [7, 7, 7]) and {*few} < {*many}
    assert {*many} != {*module.draw(targets, 7, seed=1)}


def test_validation_is_named_where_there_is_no_test(config, photos, tmp_path):
    roles = f"folder(path='{photos}', validation='test')"
    report = fewshot(config.replace(dataset=roles), shots=(1,), seeds=1, out=tmp_path)
    assert report["split"] == "validation" and report["results"][0]["deviation"] is None
    assert "there is no test split: the figures are of validation" in report["notes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": ()}, "shots=0; expected 1 or more"),
        ({"seeds": 0}, "seeds=0; expected 1 or more"),
        ({"ways": 1}, "ways=1; expected 2 or more"),
        ({"ways": 3}, "ways=3, and the dataset .* has 2 classes"),
        ({"shots": (13, 50)}, "shots=13: the class 'dark' has 12 images in train; use fewer shots"),
        (
            {"classifiers": ["logistics"]},
            "no classifier 'logistics'; did you mean 'logistic'.; they are nearest_mean, knn",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused(config, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        fewshot(config, out=tmp_path, **options)


def test_other_targets_and_other_folders_are_refused(config, trained, tmp_path, monkeypatch):
    dataset, _ = with_features(monkeypatch, kind="continuous")
    with pytest.raises(ValueError, match=r"fewshot needs a class for each image, .* has continuous targets"):
        fewshot(config, dataset=dataset, out=tmp_path)
    with pytest.raises(ValueError, match="holds other things than a report of fewshot; give a new"):
        fewshot(config, out=trained)


def test_the_command_prints_tables_or_json(config, photos, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = [f"--dataset={config.dataset}", f"--init_from={trained}", "--seeds=2", "--classifiers=knn,ridge"]
    assert cli.run("fewshot", [*argv, "--shots=1,5", "--ways=2", "--episodes=5"]) == 0
    printed = capsys.readouterr().out
    assert "accuracy on 16 images of test, mean ± standard deviation over 2 draws" in printed
    assert "k nearest neighbors  1.000 ± 0.000" in printed and "5 episodes of 2 classes of test" in printed
    assert Path("fewshot/fewshot.json").exists()
    assert cli.run("fewshot", [*argv, "--shots=5", "--format=json"]) == 0
    assert {row["classifier"] for row in json.loads(capsys.readouterr().out)["results"]} == {"knn", "ridge"}
    assert cli.run("fewshot", [*argv, "--shots=few"]) == 2
    assert "--shots=few is not whole numbers" in capsys.readouterr().err


@pytest.mark.slow
def test_real_weights_reach_what_was_measured_with_pytorch(shared_data, tmp_path):
    """Logistic regression on these features, computed by PyTorch: 0.72 ± 0.03 on clothes, 0.97 ± 0.01 on animals."""
    if "efficientnet_lite0" not in packages.at_hand():
        pytest.skip("the extra `weights` is not installed")
    for name, least in (("clothing", 0.66), ("cats_dogs", 0.95)):
        config = jv.Config(dataset=f"folder(path='{shared_data / name}')", model="efficientnet_lite0")
        report = fewshot(config, shots=(10,), out=tmp_path / name)
        assert rows_of(report, "logistic")[10]["accuracy"] > least


def test_the_dataset_is_opened_with_the_preprocessing_of_the_weights(config):
    backbone = features.backbone_of(config)
    assert open_dataset(config, preprocessing=backbone.preprocessing).preprocessing.size == (12, 12)
