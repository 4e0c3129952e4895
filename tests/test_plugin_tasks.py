"""A custom loss and task from a file: listed, trained on, and reported in the last lines."""

import json

import pytest

from jaxvision import registry
from jaxvision.cli import run

LOSS = '''
import jax.numpy as jnp

import jaxvision as jv


@jv.losses.register("{name}", activation="softmax")
def squared(*, scale: float = 1.0):
    """Squared distance of logits and shares."""
    return lambda logits, targets: scale * jnp.square(logits - targets).sum(axis=-1)
'''

TASK = '''
import numpy as np

import jaxvision as jv
from jaxvision import registry
from jaxvision.interfaces import Monitor, TargetStats


@jv.tasks.register("{name}", targets="multiclass")
def ordered(*, num_classes: int, targets: TargetStats | None = None) -> jv.Task:
    """Classes whose order counts."""
    plain = registry.tasks.build("multiclass", num_classes=num_classes, targets=targets)

    def loss(*arguments, **options):
        values, state = plain.loss(*arguments, **options)
        return {{**values, "twice_the_loss": 2 * values["loss"]}}, state

    def score(targets, predictions):
        distance = np.abs(targets - plain.predict_labels(predictions)).mean()
        return {{"class_distance": float(distance), "half_distance": float(distance / 2)}}

    return plain._replace(
        loss=loss,
        score=score,
        report=lambda targets, predictions, classes: {{"num_beyond": 3, "is_told": True}},
        monitor=Monitor("class_distance", "min"),
        headline="class_distance",
    )
'''


@pytest.fixture
def plugin(tmp_path):
    """Writes a plug-in into a file, and takes what it registers back after the test."""
    before = {kind: dict(each._entries) for kind, each in registry.REGISTRIES.items()}

    def write(source, name):
        file = tmp_path / f"{name}_plugin.py"
        file.write_text(source.format(name=name))
        return f"--plugins={file}"

    yield write
    for kind, each in registry.REGISTRIES.items():
        if each._is_loaded:
            each._entries = {
                name: entry for name, entry in each._entries.items() if name in before[kind] or _is_ours(entry)
            }


def _is_ours(entry):
    return entry.factory.__module__.startswith("jaxvision.")


def launch(tmp_path, *words):
    dataset = "--dataset=synthetic(num_examples=60, num_classes=3, image_size=8)"
    short = ["--model=mlp(hidden=(8,))", dataset, "--steps=2", "--batch_size=20", f"--workdir={tmp_path / 'run'}"]
    return run("launch", [*short, *words])


def test_a_loss_of_ones_own(plugin, tmp_path, capsys):
    plugins = plugin(LOSS, "squared")
    assert run("list", [plugins, "losses"]) == 0
    assert "squared(scale=1.0)\n      Squared distance of logits and shares." in capsys.readouterr().out
    assert launch(tmp_path, plugins, "--task=multiclass(loss=squared(scale=0.5))") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("test accuracy 0.")
    assert run("launch", [plugins, "--task=binary(loss=squred)", "--dataset=nothing_to_open"]) == 2
    assert "unknown loss 'squred'; did you mean 'squared'" in capsys.readouterr().err


def test_a_task_with_figures_of_its_own(plugin, tmp_path, capsys):
    plugins = plugin(TASK, "ordered")
    assert run("list", [plugins, "tasks", "ord*"]) == 0
    assert "Classes whose order counts." in capsys.readouterr().out
    assert launch(tmp_path, plugins, "--task=ordered") == 0
    *_, told, _, last = capsys.readouterr().out.splitlines()
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert last == f"test class distance {report['class_distance']:.4f}" and report["headline"] == "class_distance"
    figures = [part.rpartition(" ")[0] for part in told.partition(": ")[2].split(", ")]
    assert figures == ["loss", "accuracy", "twice the loss", "half distance", "num beyond", "class distance"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"class_distance", "half_distance", "twice_the_loss"} <= rows[-1].keys()
