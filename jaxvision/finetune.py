"""Fine-tune a pretrained model on a dataset of images: a linear head first, then all layers, within a time budget."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np

from jaxvision import data as datas
from jaxvision import evaluation, failures, features, label_next, learning_curve, linear_head, storage
from jaxvision import run as runs
from jaxvision import workdir as workdirs
from jaxvision.config import Config, Execution
from jaxvision.distributed import mesh as meshes
from jaxvision.engine import inference, pipeline
from jaxvision.features import Backbone
from jaxvision.image_files import find_images
from jaxvision.interfaces import Dataset
from jaxvision.linear_head import Examples, LinearHead
from jaxvision.new_workdir import new_workdir
from jaxvision.reports import learning_curves
from jaxvision.splits import FEW
from jaxvision.train import train
from jaxvision.training_setup import prepare

FILE, PLOT = "finetune.json", "learning_curve.png"
MOST_EPOCHS = 20
NUM_EVALUATIONS, PATIENCE = 10, 4
UNBALANCED = 3.0  # times as many images in the largest class as in the smallest, from which on classes are balanced
RESERVED = 0.1  # of the time that is left for training, as steps vary
LEAST_STEPS = 20  # of the whole learning rate; with fewer it is lower in proportion, and less is lost
HALF_LIFE = 50  # of the average of the weights, in steps; the whole of a shorter training, half of it the linear head's
RECIPE = Config(
    freeze="batch_norm",
    optimizer="adamw(weight_decay=0.01)",
    learning_rate=1e-3,
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

    def line(self, name: str) -> str:
        """The stage with its metrics, in one line."""
        found = {"validation": self.validation, "test": self.test}
        parts = [f"{split} accuracy {m['accuracy']:.4f} loss {m['loss']:.4f}" for split, m in found.items() if m]
        return f"{name:10} {' | '.join(parts)} (step {self.step})"


class Finetuned(NamedTuple):
    """The workdir, whose checkpoint that counts is that of the stage that won, and the figures of both stages."""

    workdir: Path
    winner: str
    probe: Stage
    finetuned: Stage
    curve: learning_curve.LearningCurve
    num_validation: int

    def __str__(self) -> str:
        few = ", which are few to choose by" if self.num_validation < FEW else ""
        is_tie = self.probe.validation["accuracy"] == self.finetuned.validation["accuracy"]
        tie = "; both are equal there, and the later one counts" if is_tie else ""
        chosen = f"chosen: {self.winner}, by accuracy on {self.num_validation} validation images{few}{tie}"
        lines = [self.probe.line("probe"), self.finetuned.line("finetuned"), chosen, self.curve.answer]
        return "\n".join(lines)


def finetune(
    dataset: str | Dataset,
    *,
    model: str | None = None,
    init_from: str | None = None,
    minutes: float = 10.0,
    unlabeled: str | Path | None = None,
    label: int = 50,
    on_bad_image: Literal["error", "skip"] = "error",
    seed: int = 0,
    workdir: str | Path | None = None,
    data_dir: str | None = None,
    plugins: Sequence[str] = (),
) -> Finetuned:
    """Fine-tune a pretrained model on images with one class each.

    First a linear head is fitted to the features of the pretrained model, by logistic regression. Then the layers are
    trained from there, lower layers at lower rates, for as many steps as the time allows (A. Kumar et al., Fine-Tuning
    can Distort Pretrained Features, ICLR 2022). What counts are averages of the weights, in a short training half those
    of the linear head (M. Wortsman et al., Robust Fine-Tuning of Zero-Shot Models, CVPR 2022). The checkpoint with the
    best accuracy on validation counts, which may be that of the linear head. With fewer than 100 validation images,
    only the linear head and the last step compete.

    Args:
        dataset: The spec of a dataset, as in "folder(path='photos')", or a Dataset.
        model: The model spec. If None, that of `init_from` if it is given, or else one whose pretrained weights are
            installed: on CPUs the smallest, on GPUs the largest.
        init_from: The weights. If None, the registered ones of the model.
        minutes: About the time for all of it, as the number of steps follows from a measurement of the first ones. If a
            run in the workdir goes on, its number of steps is kept.
        unlabeled: A folder of images without labels. label_next.csv then names those to label next.
        label: How many of them.
        on_bad_image: What to do with an unreadable image file of the dataset.
        seed: The seed of training and of the splits that are held out.
        workdir: The folder of the run. If None, a new one in ./workdirs.
        data_dir: The folder of TensorFlow Datasets.
        plugins: Modules or .py files that register further models or datasets.

    Returns:
        The workdir, the figures of both stages, and the learning curve.

    Raises:
        ValueError: No pretrained weights are at hand, or the images do not have one class each.
    """
    began = time.monotonic()
    unlabeled_files = _unlabeled(unlabeled, label)
    backbone = features.open_backbone(model or (None if init_from else _usual_model()), init_from, plugins=plugins)
    _say(f"{backbone.model} with the weights of {backbone.weights.origin}")
    given = None if isinstance(dataset, str) else dataset
    config = RECIPE.replace(
        dataset=dataset if isinstance(dataset, str) else datas.IN_MEMORY,
        model=backbone.model,
        init_from=backbone.init_from,
        head_init="probe",
        on_bad_image=on_bad_image,
        seed=seed,
        split_seed=seed,
    )
    data = datas.open_dataset(config, data_dir=data_dir, dataset=given, preprocessing=backbone.preprocessing)
    if data.train.kind != "multiclass":
        raise ValueError(failures.only_multiclass("finetune", config.dataset, data.train.kind))
    path = Path(workdir or new_workdir(config, prefix="finetune-"))
    previous = _previous(path, config)
    assert data.validation is not None  # a fraction of train, if the dataset has none
    head, probe, curve = _fit_probe(backbone, data, seed=seed)
    _say(f"{probe.line('probe')} after {time.monotonic() - began:.0f} s")
    _say(curve.answer)
    if previous is None:
        left = max(60 * minutes - (time.monotonic() - began), 0.0)
        config = _scheduled(_fitting(config, data), data, seconds=left)
    train(previous[0] if previous else config, workdir=path, data_dir=data_dir, dataset=given, plugins=plugins)
    winner = "probe" if runs.load(path, plugins=plugins).step == 0 else "finetuned"
    found = Finetuned(path, winner, probe, _finetuned(path, data, plugins), curve, len(data.validation))
    _save(found, head)
    if unlabeled is not None:
        shape = data.preprocessing
        count = label_next.label_next(unlabeled_files, backbone, head, data.classes, shape, count=label, out=path)
        _say(f"label next: {count} images of {unlabeled}, in {path / label_next.FILE}")
    return found


def _unlabeled(folder: str | Path | None, count: int) -> list[str]:
    """Return the images without labels. Raises an error if there are none, or for a number below 1."""
    if count < 1:
        raise ValueError(f"label={count}; expected a number of images to label, 1 or more")
    return [] if folder is None else find_images([str(folder)])


def _previous(path: Path, config: Config) -> tuple[Config, Execution] | None:
    """Return the settings of the run in a folder, or None. Raises ValueError for other settings or other files."""
    settings = workdirs.settings_in(path)
    if settings is None:
        if storage.foreign_files(path, workdirs.FIRST_FILES):
            raise ValueError(failures.other_files(path))
        return None
    stated = ("dataset", "model", "init_from", "head_init", "on_bad_image", "seed")
    differences = {name: pair for name, pair in settings[0].differences(config).items() if name in stated}
    if differences:
        raise ValueError(failures.other_settings(path, differences))
    return settings


def _usual_model() -> str | None:
    """Return the model to start from: the largest whose weights are installed, on CPUs the smallest."""
    from jaxvision.weights import packages

    at_hand = packages.at_hand()
    return at_hand[-1 if jax.default_backend() == "cpu" else 0] if at_hand else None


def _say(line: str) -> None:
    print(line, flush=True)


def _fit_probe(
    backbone: Backbone, data: Dataset, *, seed: int
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


def _fitting(config: Config, data: Dataset) -> Config:
    """Return the config with the settings that follow from the size of the images and the number in each class."""
    counts = np.bincount(data.train.targets, minlength=len(data.classes))
    padding = max(min(data.preprocessing.size) // 12, 1)
    return config.replace(
        augmentations=f"horizontal_flip, random_crop(padding={padding}, mode='reflect')",
        sampling="balanced" if counts.max() > UNBALANCED * counts.min() else "shuffled",
        batch_size=_batch_size(config.batch_size, len(data.train)),
        checkpoint_rule="best",
    )


def _batch_size(most: int, num_images: int) -> int:
    """Return the largest power of two up to both, rounded down to a multiple of the devices if they are fewer."""
    size, devices = min(most, 1 << (num_images.bit_length() - 1)), jax.device_count()
    return max(size // devices, 1) * devices


class _Costs(NamedTuple):
    """Seconds of compiling a training step, of a step, and of the evaluation of an image."""

    compilation: float
    step: float
    evaluation: float


def _scheduled(config: Config, data: Dataset, *, seconds: float) -> Config:
    """Return the config with as many steps as a time allows, up to MOST_EPOCHS, and its evaluations."""
    began, most = time.monotonic(), max(MOST_EPOCHS * len(data.train) // config.batch_size, 1)
    costs = _costs(config.replace(steps=most), data)
    num_validation, num_test = (len(split) if split else 0 for split in (data.validation, data.test))
    evaluations = NUM_EVALUATIONS if num_validation >= FEW else 1
    seconds -= time.monotonic() - began + costs.compilation
    seconds -= costs.evaluation * ((evaluations + 2) * num_validation + 3 * num_test)  # with the reports at the end
    steps = int(np.clip((1 - RESERVED) * seconds / costs.step, 1, most))
    every, patience = (max(steps // evaluations, 1), PATIENCE) if evaluations > 1 else (steps, None)
    epochs = steps * config.batch_size / len(data.train)
    cut = f"; {MOST_EPOCHS} epochs would take {_time(most * costs.step)}" if steps < most else ""
    steps_of = f"{steps:,} step{'s' * (steps > 1)} of {config.batch_size} images"
    _say(f"fine-tuning: {steps_of} ({epochs:.1f} epochs), {costs.step:.2g} s each{cut}")
    decay, rate = 0.5 ** (1 / min(steps, HALF_LIFE)), RECIPE.learning_rate * min(steps / LEAST_STEPS, 1.0)
    averaged = config.replace(ema=decay, ema_warmup="none", learning_rate=rate)
    return averaged.replace(steps=steps, eval_every=every, patience=patience)


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def _costs(config: Config, data: Dataset) -> _Costs:
    """Measure what a training step and an evaluation cost; the cache of compiled programs keeps both."""
    setup = prepare(runs.build(config.replace(head_init="new", init_from=None), data), data)
    state, _ = setup.make_state()
    rows, times = meshes.local_slice(config.batch_size, setup.run.mesh), []
    few = data.train.select(np.arange(min(64, len(data.train))))
    size = setup.run.execution.eval_batch_size
    for _ in range(2):
        began = time.monotonic()
        inference.infer_split(
            setup.eval_step, state.params, state.model_state, few, batch_size=size, mesh=setup.run.mesh
        )
        evaluation = (time.monotonic() - began) / size  # a batch is padded
    batches = pipeline.train_batches(setup.source, config.batch_size, seed=0, start=0, rows=rows)
    with contextlib.closing(batches):
        for batch in itertools.islice(batches, 3):
            began = time.monotonic()
            if setup.train_steps:
                state, means = setup.train_steps(state, [batch])
            else:
                state, means, _ = setup.train_step(state, batch, 0)
            jax.block_until_ready(means)
            times.append(time.monotonic() - began)
    return _Costs(times[0], min(times[1:]), evaluation)


def _finetuned(path: Path, data: Dataset, plugins: Sequence[str]) -> Stage:
    """Return the figures of the fine-tuned stage: of the best checkpoint if it has steps, or else of the last."""
    trained = runs.load(path, plugins=plugins)
    if trained.step == 0:
        trained = runs.load(path, checkpoint="last", plugins=plugins)
    measure = evaluation.make_measure(trained)

    def figures(split):
        values, outputs = measure(split)
        return {"accuracy": inference.metrics_of(trained.run.task, split, outputs)["accuracy"], "loss": values["loss"]}

    test = None if data.test is None else figures(data.test)
    return Stage(figures(data.validation), test, trained.step)


def _save(found: Finetuned, head: LinearHead) -> None:
    """Write the figures into the workdir, and draw the learning curve."""
    content = found._asdict() | {
        "workdir": str(found.workdir),
        "probe": found.probe._asdict() | {"strength": head.strength},
        "finetuned": found.finetuned._asdict(),
        "curve": {**found.curve._asdict(), "points": [point._asdict() for point in found.curve.points]},
    }
    storage.write_json(found.workdir / FILE, content)
    points = [(float(point.num_images), point.accuracy, point.deviation) for point in found.curve.points]
    learning_curves.over_examples(
        {"linear head": points},
        found.workdir / PLOT,
        label="training images",
        value="accuracy on validation",
        title=found.curve.answer,
    )
