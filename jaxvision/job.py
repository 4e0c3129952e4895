"""What the training loop calls, built from a config and checked before anything is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision import parallel, pipeline, pretrained, registry, transfer
from jaxvision import run as runs
from jaxvision import step as steps
from jaxvision.config import Config
from jaxvision.evaluate import run_split
from jaxvision.interfaces import Augment, Dataset, Model, Split, TrainState, Tree

NUM_ADAPTED = 5_000  # training images to which a model is fitted before the first step, where it is
MOST_ADAPTED = 2**24  # numbers that they have at most: 5,461 images of 32 pixels, 111 of 224


NUM_AT_ONCE = 8  # steps that are dispatched together, as that takes longer than a small network's step on a GPU


class Job(NamedTuple):
    """A run with its data and all that its loop calls.

    `make_state` gives the state before the first step, and in words the weights that it begins with ("" for new ones).
    `source` is what batches are read from: the training split, or its positions where the devices hold the inputs.
    `num_trained` counts the numbers that training changes.
    Where the devices hold the inputs, `train_steps(state, batches)` takes several steps at once; else it is None.
    `on_features(params, model_state)` gives the job on features in the place of images; None where the run has images.
    """

    run: runs.Run
    data: Dataset
    source: Split
    num_steps: int
    num_trained: int
    schedule: Callable[[int], Any]
    make_state: Callable[[], tuple[TrainState, str]]
    train_step: Callable[..., Any]
    train_steps: Callable[..., Any] | None
    eval_step: Callable[..., Any]
    on_features: Callable[[Tree, Tree], Job] | None = None


def make_optimizer(config: Config, num_steps: int):
    """Builds (optimizer, schedule); the peak rate is the config's, or else the optimizer's own default."""
    name = registry.parse(config.optimizer).name
    peak = config.learning_rate or registry.optimizers.default(name, "learning_rate")
    if peak is None:
        raise ValueError(f"the optimizer {name!r} has no learning rate of its own: give --learning_rate")
    schedule = registry.schedules.build(config.schedule, learning_rate=peak, num_steps=num_steps)
    optimizer = registry.optimizers.build(config.optimizer, learning_rate=schedule)
    if config.clip_norm:
        from jaxvision.optimizers import clipped

        optimizer = clipped(optimizer, config.clip_norm)
    return optimizer, schedule


def make_augment(config: Config, *, num_classes: int) -> Augment:
    """Builds the chain of the config's augments, for targets of a number of classes."""
    from jaxvision.augments import chain

    specs = registry.parse_list(config.augment)
    return chain([registry.augments.build(spec, num_classes=num_classes, seed=config.seed) for spec in specs])


def check_specs(config: Config, is_dataset_named: bool) -> None:
    """Raises for names and arguments that cannot be, before the data are opened, which may take long."""
    parallel.make_mesh(config.mesh)
    for each in (registry.models, registry.tasks, registry.optimizers, registry.schedules):
        each.check(getattr(config, each.kind))
    for spec in registry.parse_list(config.augment):
        registry.augments.check(spec)
    if is_dataset_named and config.dataset != runs.IN_MEMORY:
        registry.datasets.check(config.dataset)


def prepare(run: runs.Run, data: Dataset, found: pretrained.Weights | None = None) -> Job:
    """Builds the job of a run, which begins with the weights found, if any. Raises for what does not fit together."""
    config, mesh = run.config, run.mesh
    parallel.check_batch_size(config.batch_size, mesh)
    pipeline.check_batch_size(config.step_size, data.train)
    if run.task.choose is not None and data.validation is None:
        raise ValueError(
            f"the task {config.task!r} chooses its thresholds on validation, and there is none: give "
            "--validation_fraction, or the task a number as threshold"
        )
    if config.sampling == "balanced" and data.train.kind != "classes":
        raise ValueError(f"sampling='balanced' is for classes, and these targets are {data.train.kind}")
    if config.patience is not None and (data.validation is None or run.task.best is None):
        raise ValueError(f"patience={config.patience} watches a value on validation, and there is none to watch")
    num_steps = runs.count_steps(config, len(data.train))
    optimizer, schedule = make_optimizer(config, num_steps)
    like = runs.example_inputs(run)
    shapes = jax.eval_shape(run.model.init, jax.random.key(0), like)
    frozen = _frozen(run, data.train, shapes)
    optimizer = _transferring(run, shapes[0], optimizer, frozen)

    def make_state(start):
        inputs = jnp.zeros(like.shape, like.dtype)
        return steps.init_state(run.model, optimizer, inputs, seed=config.seed, ema=config.ema is not None, start=start)

    state = jax.eval_shape(make_state, shapes)
    made = jax.jit(make_state, out_shardings=parallel.split_state(state, mesh))
    start = _start(run, data.train, found)

    def begin():
        return made((start.params, start.state)), start.said

    # Features that are cached stand in for the images, which then need not be held.
    source, train_step, train_steps = _compile_step(
        run, data.train, optimizer, state, like, frozen, is_trained_on=not config.cache_features
    )
    eval_step = parallel.compile_eval(steps.make_eval_step(run.model, run.task), mesh)
    marks = transfer.trained(shapes[0], frozen)
    num_trained = sum(leaf.size for leaf, own in zip(*map(jax.tree.leaves, (shapes[0], marks)), strict=True) if own)
    job = Job(run, data, source, num_steps, num_trained, schedule, begin, train_step, train_steps, eval_step)

    def on_features(params, model_state):
        return _on_features(job, optimizer, state, frozen, params, model_state)

    return job._replace(on_features=on_features) if config.cache_features else job


def _start(run: runs.Run, images: Split, found: pretrained.Weights | None) -> pretrained.Start:
    """Makes the run's initial parameters and state, with weights in their place where some were found.

    A program of its own makes them, on one device: were they split as they are made, their last bits would be others.
    """
    like = runs.example_inputs(run)
    key, _ = jax.random.split(jax.random.key(run.config.seed))
    params, state = parallel.compile_init(run.model.init)(key, jnp.zeros(like.shape, like.dtype))
    if run.model.adapt is not None and found is None:
        count = min(NUM_ADAPTED, MOST_ADAPTED // int(np.prod(like.shape[1:])) + 1, len(images))
        few = images.read(np.linspace(0, len(images) - 1, count, dtype=int))
        params, state = jax.jit(run.model.adapt)(params, state, few)
    start = pretrained.Start(params, state)
    if found is not None:
        size, classes = run.signature.preprocessing.size, run.signature.classes
        start = pretrained.begin(
            run.model, run.config.model, params, state, found, size=size, classes=classes, replace_head=True
        )
        if found.preprocessing is None:
            usual = pretrained.preprocessing_of(run.config.model, found) is not None
            whose = "torchvision's for ImageNet" if usual else "the data's own"
            start = start._replace(notes=(*start.notes, f"nothing states their preprocessing, so it is {whose}"))
    return start._replace(params=jax.device_get(start.params), state=jax.device_get(start.state))


def _frozen(run: runs.Run, images: Split, shapes: tuple[Tree, Tree]) -> frozenset[str]:
    """Names the parameters that the config freezes. Raises ValueError where it cannot be done as it says."""
    config, (params, state) = run.config, shapes
    if not config.freeze:
        return frozenset()
    frozen = transfer.frozen(params, state, config.freeze, head=run.model.head)
    if config.cache_features:
        if config.views != "one":
            raise ValueError(f"cache_features=True keeps the features of one view, not views={config.views!r}")
        if frozen != transfer.frozen(params, state, transfer.BACKBONE, head=run.model.head):
            raise ValueError(f"cache_features=True wants freeze='backbone', all but the head, not {config.freeze!r}")
        transfer.head_alone(run.model, params)
        _check_pooled(run, params, state)
        model = transfer.freeze(run.model, params, state, frozen)
        transfer.check_repeatable(model, params, state, runs.example_inputs(run))
        _check_whole(images)
    return frozen


def _check_whole(images: Split) -> None:
    """Raises ValueError where training takes random parts of images."""
    if images.is_random:
        raise ValueError(
            "cache_features=True keeps the features of whole images, and these are cut at random: leave "
            "random_crop out of the data set's spec"
        )


def _check_pooled(run: runs.Run, params: Tree, state: Tree) -> None:
    """Raises ValueError where the model does not name the features that its head takes."""
    features, head = run.model.features, run.model.head
    maps = jax.eval_shape(features, params, state, runs.example_inputs(run)) if features else {}
    assert head is not None
    wanted = (1, params[head]["kernel"].shape[0])
    found = maps["pooled"].shape if "pooled" in maps else None
    if found != wanted:
        raise ValueError(
            f"features cannot be cached: the head of {run.config.model!r} takes {wanted}, and the model names as "
            f"'pooled' {found or 'nothing'}"
        )


def _transferring(
    run: runs.Run, params: Tree, optimizer: optax.GradientTransformation, frozen: frozenset[str]
) -> optax.GradientTransformation:
    """Makes the optimizer one of the trained parameters alone, whose rates decay from layer to layer where wished."""
    from jaxvision import optimizers

    if run.config.layer_decay is not None:
        order = transfer.order(run.model, runs.example_inputs(run))
        scales = transfer.layer_scales(params, order, run.config.layer_decay, head=run.model.head)
        optimizer = optimizers.scaled(optimizer, scales)
    return optimizers.only(optimizer, transfer.trained(params, frozen)) if frozen else optimizer


def _held(run: runs.Run, images: Split) -> jax.Array | None:
    """Puts all inputs of a split on the devices where they are to stay there."""
    if images.decode is not None or runs.device_axis(run.config):
        return None
    if not parallel.fits(len(images) * images.read(np.arange(1)).nbytes, run.mesh):
        return None
    return parallel.hold(np.asarray(images.read(np.arange(len(images)))), run.mesh)


def _compile_step(
    run: runs.Run,
    images: Split,
    optimizer,
    state: TrainState,
    inputs: jax.ShapeDtypeStruct,
    frozen: frozenset[str],
    *,
    is_trained_on: bool = True,
) -> tuple[Split, Callable[..., Any], Callable[..., Any] | None]:
    """Compiles the run's training step for its mesh: (what its batches are read from, the step, several at once).

    What cannot be trained shows here, at no cost.
    """
    config, axis_name = run.config, runs.device_axis(run.config)
    augment = make_augment(config, num_classes=len(run.signature.classes))
    if axis_name and config.augment:
        augment = parallel.over_whole_batch(augment, axis_name)
    gradient = steps.mean_gradient
    if frozen:
        gradient = steps.trained_gradient(transfer.trained(state.params, frozen), gradient)
    train_step = steps.make_train_step(
        transfer.freeze(run.model, state.params, state.model_state, frozen),
        run.task,
        optimizer,
        augment,
        gradient=parallel.gathering(gradient, run.mesh),
        accumulate=config.accumulate,
        ema=config.ema or 0.0,
        skip_nonfinite=config.on_nonfinite == "skip",
        axis_name=axis_name,
    )
    batch = runs.example_batch(run, inputs, config.step_size)
    one = parallel.compile_step(train_step, state, batch, run.mesh, axis_name=axis_name)
    held = _held(run, images) if is_trained_on else None
    if held is None:
        return images, one, None
    positions = dataclasses.replace(images, read=lambda chosen: chosen.astype(np.int32))
    return positions, one, parallel.compile_steps(train_step, state, run.mesh, held=held, most=NUM_AT_ONCE)


def _check_alike(run: runs.Run, alone: Model, params: Tree, state: Tree, images: Split, features: Split) -> None:
    """Raises ValueError where the head makes other outputs of cached features than the whole model of the images."""
    few = np.arange(min(8, len(images)))

    def outputs(model: Model, split: Split) -> np.ndarray:
        def step(params, state, batch):
            return {"count": batch["mask"].sum()}, model.apply(params, state, batch["inputs"], train=False, key=None)[0]

        return run_split(run, parallel.compile_eval(step, run.mesh), params, state, split.take(few), len(few))[1]

    whole, head = outputs(run.model, images), outputs(alone, features)
    tolerance = 0.05 if run.config.precision == "bf16" else 1e-3
    if not np.allclose(whole, head, rtol=tolerance, atol=tolerance * float(np.abs(whole).max())):
        raise ValueError(
            f"features cannot be cached: the model {run.config.model!r} does more after 'pooled' than its head does"
        )


def _on_features(
    job: Job, optimizer, state: TrainState, frozen: frozenset[str], params: Tree, model_state: Tree
) -> Job:
    """Computes the pooled features of all training and validation images, and gives the job of the head on them."""
    run = job.run

    def feature_step(params, model_state, batch):
        assert run.model.features is not None
        return {"count": batch["mask"].sum()}, run.model.features(params, model_state, batch["inputs"])["pooled"]

    step = parallel.compile_eval(feature_step, run.mesh)

    def features(split: Split | None) -> Split | None:
        if split is None:
            return None
        _, pooled = run_split(run, step, params, model_state, split, run.config.eval_batch_size, doing="features")
        return dataclasses.replace(split, read=lambda chosen: pooled[chosen], decode=None, is_random=False)

    train = features(job.data.train)
    assert train is not None
    data = job.data._replace(train=train, validation=features(job.data.validation))
    example = train.read(np.arange(1))
    like = jax.ShapeDtypeStruct(example.shape, example.dtype)
    dtype = jnp.bfloat16 if run.config.precision == "bf16" else None
    alone = transfer.head_alone(run.model, params, dtype=dtype)
    _check_alike(run, alone, params, model_state, job.data.train, train)
    run = run._replace(model=alone)
    source, train_step, train_steps = _compile_step(run, train, optimizer, state, like, frozen)
    eval_step = parallel.compile_eval(steps.make_eval_step(run.model, run.task), run.mesh)
    return job._replace(
        run=run,
        data=data,
        source=source,
        train_step=train_step,
        train_steps=train_steps,
        eval_step=eval_step,
        on_features=None,
    )
