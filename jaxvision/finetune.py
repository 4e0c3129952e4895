"""Fine-tune a pretrained model on a dataset of images: a linear head first, then all layers, within a time budget."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import data as datas
from jaxvision import evaluation, features, learning_curve, linear_head, storage
from jaxvision import run as runs
from jaxvision import workdir as workdirs
from jaxvision.config import Config
from jaxvision.distributed import mesh as meshes
from jaxvision.engine import inference, pipeline
from jaxvision.interfaces import Dataset
from jaxvision.linear_head import Examples, LinearHead
from jaxvision.new_workdir import new_workdir
from jaxvision.train import train
from jaxvision.training_setup import prepare

FILE = "finetune.json"
MOST_EPOCHS = 20
NUM_EVALUATIONS = 10
UNBALANCED = 3.0  # times as many images in the largest class as in the smallest, from which on classes are balanced
RESERVED = 0.25  # of the time that is left, for compilation and evaluations
RECIPE = Config(
    optimizer="adamw(weight_decay=0.01)",
    learning_rate=3e-4,
    layer_decay=0.8,
    schedule="cosine(warmup=0.1)",
    batch_size=32,
    validation_fraction=0.2,
)


class Stage(NamedTuple):
    """The metrics of a stage on validation and test, None without a test split, and the step of its checkpoint."""

    validation: dict[str, float]
    test: dict[str, float] | None
    step: int


class Finetuned(NamedTuple):
    """The workdir, whose best checkpoint is that of the stage that won, and the figures of both stages."""

    workdir: Path
    winner: str
    probe: Stage
    finetuned: Stage
    curve: learning_curve.LearningCurve
    num_validation: int

    def __str__(self) -> str:
        rows = [_line(name, getattr(self, name)) for name in ("probe", "finetuned")]
        chosen = f"{self.winner} has the better accuracy on {self.num_validation} validation images"
        few = "; on so few, the choice is uncertain" if self.num_validation < 100 else ""
        return "\n".join([*rows, f"chosen: {chosen}{few}", f"learning curve: {self.curve.answer}"])


def _line(name: str, stage: Stage) -> str:
    parts = [f"validation accuracy {stage.validation['accuracy']:.4f} loss {stage.validation['loss']:.4f}"]
    if stage.test is not None:
        parts.append(f"test accuracy {stage.test['accuracy']:.4f} loss {stage.test['loss']:.4f}")
    return f"{name:10} {' | '.join(parts)} (step {stage.step})"


def finetune(
    dataset: str | Dataset,
    *,
    model: str | None = None,
    init_from: str | None = None,
    minutes: float = 10.0,
    seed: int = 0,
    workdir: str | Path | None = None,
    data_dir: str | None = None,
    plugins: Sequence[str] = (),
) -> Finetuned:
    """Fine-tune a pretrained model on images with one class each.

    First a linear head is fitted to the features of the pretrained model: a logistic regression, its strength chosen on
    validation. Then all layers are trained from there, lower layers at lower rates, for as many steps as the time
    allows (A. Kumar et al., Fine-Tuning can Distort Pretrained Features, ICLR 2022). The checkpoint with the best
    accuracy on validation, which may be that of the linear head, is the best of the workdir.

    Args:
        dataset: The spec of a dataset, as in "folder(path='photos')", or a Dataset.
        model: The model spec. If None, one whose pretrained weights are installed: on CPUs the smallest.
        init_from: The weights. If None, the registered ones of the model.
        minutes: The time for all of it. If a run in the workdir goes on, its number of steps is kept.
        seed: The seed of training and of the splits that are held out.
        workdir: The folder of the run. If None, a new one in ./workdirs.
        data_dir: The folder of TensorFlow Datasets.
        plugins: Modules or .py files that register further models or datasets.

    Returns:
        The workdir, the figures of both stages, and the learning curve.

    Raises:
        ValueError: No pretrained weights are at hand, or the data have no classes or no validation split.
    """
    began = time.monotonic()
    backbone = features.open_backbone(model or _usual_model(), init_from, plugins=plugins)
    config = RECIPE.replace(
        model=backbone.model, init_from=backbone.init_from, head_init="probe", seed=seed, split_seed=seed, eval_every=1
    )
    given = None if isinstance(dataset, str) else dataset
    config = config.replace(dataset=dataset if isinstance(dataset, str) else datas.IN_MEMORY)
    data = datas.open_dataset(config, data_dir=data_dir, dataset=given, preprocessing=backbone.preprocessing)
    if data.train.kind != "multiclass" or data.validation is None:
        raise ValueError(
            f"finetune needs one class for each image, and {config.dataset!r} has {data.train.kind} targets"
        )
    path = Path(workdir or new_workdir(config, prefix="finetune-"))
    head, figures, curve = _fit_probe(backbone, data, seed=seed)
    _say(_line("probe", figures), f"after {time.monotonic() - began:.0f} s")
    _say("learning curve:", curve.answer)
    previous = workdirs.settings_in(path)
    if previous is None:
        left = max(60 * minutes - (time.monotonic() - began), 0.0)
        config = _scheduled(config, data, given, seconds=left, data_dir=data_dir, plugins=plugins)
    else:
        config = previous[0]
    result = train(config, workdir=path, data_dir=data_dir, dataset=given, plugins=plugins)
    finetuned = _finetuned(path, result.history, data, plugins)
    winner = "probe" if runs.load(path, plugins=plugins).step == 0 else "finetuned"
    found = Finetuned(path, winner, figures, finetuned, curve, len(data.validation))
    _save(found, head)
    return found


def _usual_model() -> str | None:
    """Return the model to start from: the largest whose weights are installed, on CPUs the smallest."""
    from jaxvision.weights import packages

    at_hand = packages.at_hand()
    return at_hand[-1 if jax.default_backend() == "cpu" else 0] if at_hand else None


def _say(*parts: str) -> None:
    print(" ".join(parts), flush=True)


def _fit_probe(
    backbone: features.Backbone, data: Dataset, *, seed: int
) -> tuple[LinearHead, Stage, learning_curve.LearningCurve]:
    """Fit a linear head to the features of train; return it with its figures and the learning curve."""
    pooled = features.pooled_features(backbone, data)
    examples: dict[str, Examples] = {
        name: (pooled[name], split.targets) for name, split in datas.splits_of(data).items()
    }
    train, validation, num_classes = examples["train"], examples["validation"], len(data.classes)
    head = linear_head.fit_and_choose(train, validation, num_classes)
    test = _figures(head, examples["test"]) if "test" in examples else None
    curve = learning_curve.learning_curve(train, validation, num_classes=num_classes, strength=head.strength, seed=seed)
    return head, Stage(_figures(head, validation), test, 0), curve


def _figures(head: LinearHead, examples: Examples) -> dict[str, float]:
    return {"accuracy": linear_head.accuracy(head, examples), "loss": linear_head.log_loss(head, examples)}


def _scheduled(config: Config, data: Dataset, given: Any, *, seconds: float, data_dir: Any, plugins: Any) -> Config:
    """Return the config with as many steps as a time allows, at most MOST_EPOCHS, and classes balanced if need be."""
    counts = np.bincount(data.train.targets, minlength=len(data.classes))
    sampling = "balanced" if counts.max() > UNBALANCED * counts.min() else "shuffled"
    padding = max(min(data.preprocessing.size) // 12, 1)
    augmentations = f"horizontal_flip, random_crop(padding={padding}, mode='reflect')"
    config = config.replace(
        augmentations=augmentations,
        sampling=sampling,
        batch_size=min(config.batch_size, _power_of_two(len(data.train))),
    )
    began = time.monotonic()
    per_step = _seconds_per_step(config, data)
    seconds = (seconds - (time.monotonic() - began)) * (1 - RESERVED)
    most = MOST_EPOCHS * len(data.train) // config.batch_size
    steps = int(np.clip(seconds / per_step, 1, max(most, 1)))
    _say(f"fine-tuning: {steps} steps of {config.batch_size} images, {per_step:.2g} s each")
    return config.replace(steps=steps, eval_every=max(steps // NUM_EVALUATIONS, 1))


def _power_of_two(number: int) -> int:
    return 1 << (number.bit_length() - 1)


def _seconds_per_step(config: Config, data: Dataset) -> float:
    """Return the seconds of a training step, after compilation, which the cache of compiled programs keeps."""
    setup = prepare(runs.build(config.replace(head_init="new", init_from=None), data), data)
    state, _ = setup.make_state()
    rows = meshes.local_slice(config.batch_size, setup.run.mesh)
    times = []
    with contextlib.closing(
        pipeline.train_batches(setup.source, config.batch_size, seed=0, start=0, rows=rows)
    ) as batches:
        for batch in itertools.islice(batches, 3):
            began = time.monotonic()
            state, means = (
                setup.train_steps(state, [batch]) if setup.train_steps else setup.train_step(state, batch, 0)
            )[:2]
            jax.block_until_ready(means)
            times.append(time.monotonic() - began)
    return min(times[1:])


def _finetuned(path: Path, history: Sequence[Any], data: Dataset, plugins: Sequence[str]) -> Stage:
    """Return the figures of the fine-tuned stage: of the best checkpoint if it has steps, or else of the last."""
    trained = runs.load(path, plugins=plugins)
    if trained.step == 0:
        trained = runs.load(path, checkpoint="last", plugins=plugins)
    measure = evaluation.make_measure(trained)

    def figures(split):
        values, outputs = measure(split)
        scores = inference.metrics_of(trained.run.task, split, outputs)
        return {"accuracy": scores["accuracy"], "loss": values["loss"]}

    test = None if data.test is None else figures(data.test)
    assert data.validation is not None
    return Stage(figures(data.validation), test, trained.step)


def _save(found: Finetuned, head: LinearHead) -> None:
    """Write the figures and the learning curve into the workdir."""
    content = found._asdict() | {
        "workdir": str(found.workdir),
        "probe": found.probe._asdict() | {"strength": head.strength},
        "finetuned": found.finetuned._asdict(),
        "curve": {**found.curve._asdict(), "points": [point._asdict() for point in found.curve.points]},
    }
    storage.write_json(found.workdir / FILE, content)
