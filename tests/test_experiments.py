"""Two steps of every experiment, on small data of the same shape (ResNets small too)."""

import functools
import importlib.util
import math
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photos
from PIL import Image

import jaxvision as jv
from jaxvision import registry, specs
from jaxvision.cli.experiments import load_experiment
from jaxvision.data import open_dataset
from jaxvision.reports.start import num_trained
from jaxvision.run import build
from jaxvision.training_setup import prepare

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "experiments").glob("*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """Trains an experiment for two steps, and before it the one whose run it begins with, each but once."""
    folder = tmp_path_factory.mktemp("experiments")
    photos, table = make_photos(folder / "photos"), make_table(folder / "table")

    @functools.cache
    def train(path):
        config, execution, *_ = load_experiment(str(path))
        if config.init_from:
            source = train(path.with_name(f"{Path(config.init_from).name}.py"))
            config = config.replace(init_from=str(source.workdir))
        return jv.train(shortened(config, photos, table), execution=execution, workdir=folder / path.stem)

    return train


def make_table(folder):
    """Writes tables with the columns that the experiments name, and images; twenty rows."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["id,image,articleType,gender,season,usage,mos,Passengers,Temp"]
    for index in range(20):
        Image.fromarray(rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)).save(folder / "images" / f"{index}.jpg")
        tags = ",".join("ab"[bool(index & bit)] for bit in (1, 2, 4, 8))
        lines.append(f"{index},{index}.jpg,{tags},{rng.random():.3f},{100 + 3 * index},{10 + index % 7}.5")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


def shortened(config, photos, table):
    """The config for two steps on small data of the same shape, with a network that compiles fast."""
    name = specs.parse(config.dataset).name
    if name == "folder":
        dataset = re.sub(r"path='[^']*'", f"path='{photos}'", config.dataset)
        dataset = re.sub(r", test='[^']*'", "", dataset)  # the photographs here have no folders of splits
    elif name in ("table", "time_series"):
        dataset = re.sub(r"(path|test)='[^']*'", rf"\1='{table / 'table.csv'}'", config.dataset)
        for argument, value in (("window", 4), ("season", 5), ("min_count", 1)):
            dataset = re.sub(rf"{argument}=\d+", f"{argument}={value}", dataset)
    elif name in ("digits", "synthetic"):
        dataset = config.dataset
    else:
        metadata = registry.datasets.entry(name).metadata
        size, _, channels = metadata["input_size"]
        dataset = f"synthetic(image_size={size}, channels={channels}, num_classes={metadata['num_classes']})"
    model = "cnn(batch_norm=True)" if config.model.startswith("resnet") else config.model
    model = "airbench94(channels=(4, 4, 4))" if model == "airbench94" else model
    return config.replace(dataset=dataset, model=model, steps=2, eval_every=2, batch_size=8)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_two_steps(path, two_steps):
    result = two_steps(path)
    assert result.history[-1]["step"] == 2
    figures = set.union(*map(set, result.test["baseline"].values())) if result.test["baseline"] else {"generator_loss"}
    assert figures and all(math.isfinite(result.test[name]) for name in figures)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_docstring_states_command_hardware_time_and_score(path):
    text = load(path).__doc__
    assert f"jaxvision train --experiment={path.stem}" in text
    is_repeated = re.search(r"\d\.\d+ ± \d+\.\d+", text) is not None
    is_one_long_run = "(seed 0)" in text and int(re.findall(r"(\d+) min", text)[0]) >= 60  # and says that it is one
    assert is_repeated or is_one_long_run or load(path).CONFIG.task == "gan", "the score has no deviation over seeds"
    assert "CPU cores" in text and re.search(r"\d+ (s|min)\b", text)


RESNETS = [path for path in FILES if load(path).CONFIG.model.startswith("resnet")]


@pytest.mark.parametrize("path", RESNETS, ids=lambda p: p.stem)
def test_its_own_network_takes_a_step(path, tmp_path):
    """Traced, not compiled: what is frozen, and the rates of layers, are named as this network names them."""
    config = load(path).CONFIG
    own = shortened(config.replace(init_from=None), make_photos(tmp_path / "photos"), tmp_path)
    data = open_dataset(own)
    prepared = prepare(build(own.replace(model=config.model), data), data)
    assert prepared.run.config.model == config.model and num_trained(prepared) > 0


def test_digits_keep_the_readmes_promise(tmp_path):
    """The README's first command, whole."""
    result = jv.train(load(ROOT / "experiments" / "digits.py").CONFIG, workdir=tmp_path / "run")
    assert result.test["accuracy"] >= 0.97


@pytest.mark.slow
def test_cats_and_dogs(shared_data, tmp_path):
    config = load(ROOT / "experiments" / "cats_dogs.py").CONFIG
    config = config.replace(dataset=f"folder(path='{shared_data / 'cats_dogs'}', image_size=64, test='validation')")
    results = [jv.train(config.replace(seed=seed), workdir=tmp_path / f"{seed}").test for seed in range(3)]
    assert sum(result["accuracy"] for result in results) / 3 >= 0.68
    assert results[0]["num_parameters"] == 3_937_409 and results[0].keys() >= {"macro", "confusion_matrix", "auroc"}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["cnn", "concat_cnn"])
def test_mnist_by_the_defaults(model, shared_data, tmp_path):
    import shutil

    shutil.copytree(shared_data / "archives" / "mnist", tmp_path / "data" / "downloads" / "manual" / "mnist")
    config = jv.Config(model=model, dataset="mnist", epochs=5)
    result = jv.train(config, workdir=tmp_path / "run", data_dir=str(tmp_path / "data"))
    assert result.test["accuracy"] >= 0.990
