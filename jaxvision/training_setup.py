"""Build all that the training loop needs from a config, and check it before anything is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision import failures, registry, specs
from jaxvision import run as runs
from jaxvision.config import Config
from jaxvision.distributed import compilation
from jaxvision.distributed import mesh as meshes
from jaxvision.engine import step as steps
from jaxvision.engine.ema import make_update_ema
from jaxvision.interfaces import Augment, Dataset, Gradient, Split, TrainState, Tree

NUM_ADAPTED = 5_000  # training images for the data-dependent initialization of models that have one
MOST_ADAPTED = 2**24  # most numbers in these images: about 5,461 images of 32 pixels, 112 of 224
LARGE = 2**24  # numbers in the state and a batch, from which on a run is compared with the memory
NUM_AT_ONCE = 8  # steps dispatched together: dispatch takes longer than a small network's step on a GPU


class TrainingSetup(NamedTuple):
    """A run with its data and the functions that its training loop calls.

    `make_state` returns the state before the first step, and a description of the weights that it starts from ("" for
    new ones). `state` has its shapes. `frozen` names the frozen parameters. `source` is what batches are read from: the
    training split, or positions in it if the devices hold the inputs; then `train_steps(state, batches)` takes several
    steps in one call, otherwise it is None.
    """

    run: runs.Run
    data: Dataset
    source: Split
    num_steps: int
    schedule: Callable[[int], Any]
    optimizer: optax.GradientTransformation
    frozen: frozenset[str]
    state: TrainState
    make_state: Callable[[], tuple[TrainState, str]]
    train_step: Any = None  # this and the following are set by `compile_setup`
    train_steps: Callable[..., Any] | None = None
    eval_step: Any = None


def make_optimizer(config: Config, num_steps: int):
    """Build (optimizer, schedule). The peak learning rate is the config's, or else the default of the optimizer."""
    name = specs.parse(config.optimizer).name
    peak: Any = config.learning_rate or registry.optimizers.default(name, "learning_rate")
    if peak is None:
        raise ValueError(f"the optimizer {name!r} has no default learning rate: set --learning_rate")
    schedule = registry.schedules.build(config.schedule, learning_rate=peak, num_steps=num_steps)
    optimizer = registry.optimizers.build(config.optimizer, learning_rate=schedule)
    if config.grad_clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(config.grad_clip_norm), optimizer)
    return optimizer, schedule


def make_augment(config: Config, *, num_classes: int) -> Augment:
    """Build the chain of the config's augmentations for targets with a number of classes."""
    from jaxvision.engine.augmentation import chain

    listed = specs.parse_list(config.augmentations)
    return chain([registry.augmentations.build(spec, num_classes=num_classes, seed=config.seed) for spec in listed])


def prepare(run: runs.Run, data: Dataset, weights: Any = None) -> TrainingSetup:
    """Build the training setup of a run, initialized from weights if given. Raises ValueError on a mismatch."""
    config, mesh = run.config, run.mesh
    _check(run, data)
    num_steps = runs.count_steps(config, len(data.train))
    optimizer, schedule = make_optimizer(config, num_steps)
    inputs_shape = runs.example_inputs(run)
    shapes = jax.eval_shape(run.model.init, jax.random.key(0), inputs_shape)
    frozen: frozenset[str] = frozenset()
    if config.freeze or config.layer_decay is not None:
        from jaxvision.engine import transfer

        if config.freeze:
            frozen = transfer.frozen(shapes[0], shapes[1], config.freeze, head=run.model.head)
        optimizer = transfer.with_groups(
            optimizer, run.model, shapes[0], inputs_shape, frozen=frozen, layer_decay=config.layer_decay
        )

    def make_state(start):
        inputs = jnp.zeros(inputs_shape.shape, inputs_shape.dtype)
        return steps.init_state(run.model, optimizer, inputs, seed=config.seed, ema=config.ema is not None, start=start)

    state = jax.eval_shape(make_state, shapes)
    if runs.num_parameters(state) + config.batch_size * inputs_shape.size > LARGE:
        from jaxvision.engine import footprint

        footprint.check_training(run.model, config, run.execution, state, run.signature.preprocessing, mesh)
    jitted_make_state = jax.jit(make_state, out_shardings=meshes.state_shardings(state, mesh))
    params, model_state, weights_note = _init_or_load(run, data, weights)
    setup = TrainingSetup(
        run=run,
        data=data,
        source=data.train,
        num_steps=num_steps,
        schedule=schedule,
        optimizer=optimizer,
        frozen=frozen,
        state=state,
        make_state=lambda: (jitted_make_state((params, model_state)), weights_note),
    )
    return compile_setup(setup, inputs_shape)


def _check(run: runs.Run, data: Dataset) -> None:
    """Raise ValueError if the data or the task do not support a setting of the config."""
    config = run.config
    meshes.check_batch_size(config.batch_size, run.mesh)
    if config.effective_batch_size > len(data.train):
        raise ValueError(failures.too_few_examples(config.batch_size, config.grad_accum_steps, len(data.train)))
    if run.task.fit_thresholds is not None and data.validation is None:
        raise ValueError(failures.no_validation(config.task))
    if config.sampling == "balanced" and data.train.kind != "multiclass":
        raise ValueError(f"sampling='balanced' needs multiclass targets, not {data.train.kind}")
    if config.patience is not None and (data.validation is None or run.task.monitor is None):
        raise ValueError(failures.nothing_to_monitor(config.patience, config.task, data.validation is not None))


def _init_or_load(run: runs.Run, data: Dataset, weights: Any) -> tuple[Tree, Tree, str]:
    """Initialize parameters and state, and replace them with pretrained weights if there are any.

    Initialization is a program of its own on one device: initializing sharded arrays would change their last bits.
    """
    like = runs.example_inputs(run)
    key, _ = jax.random.split(jax.random.key(run.config.seed))
    params, state = compilation.compile_init(run.model.init)(key, jnp.zeros(like.shape, like.dtype))
    if run.model.adapt is not None and weights is None:
        count = min(NUM_ADAPTED, MOST_ADAPTED // int(np.prod(like.shape[1:])) + 1, len(data.train))
        few = data.train.read(np.linspace(0, len(data.train) - 1, count, dtype=int))
        params, state = jax.jit(run.model.adapt)(params, state, few)
    weights_note = ""
    if weights is not None:
        from jaxvision import pretrained

        start = pretrained.begin_run(run, params, state, weights, data)
        params, state, weights_note = start.params, start.state, start.summary
    return jax.device_get(params), jax.device_get(state), weights_note


def make_gradient(setup: TrainingSetup) -> Gradient:
    """Build the config's gradient rule for the trainable parameters, with an all-gather if these are sharded."""
    run, config = setup.run, setup.run.config
    gradient = registry.gradients.build(
        config.gradient,
        batch_size=config.effective_batch_size,
        num_examples=len(setup.data.train),
        num_steps=setup.num_steps,
        axis_name=runs.device_axis(run.execution),
    )
    if setup.frozen:
        from jaxvision.engine import transfer

        gradient = steps.trained_gradient(gradient, transfer.trained(setup.state.params, setup.frozen))
    return meshes.all_gather_params(gradient, run.mesh)


def compile_setup(setup: TrainingSetup, inputs: jax.ShapeDtypeStruct) -> TrainingSetup:
    """Compile the steps of a setup for its mesh and inputs. Raises early, at no cost, for what cannot be trained."""
    run, config, model = setup.run, setup.run.config, setup.run.model
    axis_name = runs.device_axis(run.execution)
    num_classes = len(run.signature.classes)
    augment = make_augment(config, num_classes=num_classes) if config.augmentations else lambda key, batch: batch
    if setup.frozen:
        from jaxvision.engine import transfer

        model = transfer.freeze(model, setup.state.params, setup.state.model_state, setup.frozen)
    if axis_name:
        from jaxvision.distributed import pmap

        augment = pmap.augment_global_batch(augment, axis_name) if config.augmentations else augment
    train_step = steps.make_train_step(
        model,
        run.task,
        setup.optimizer,
        augment,
        gradient=make_gradient(setup),
        grad_accum_steps=config.grad_accum_steps,
        update_ema=make_update_ema(config.ema, config.ema_warmup) if config.ema else None,
        skip_nonfinite=run.execution.on_nonfinite == "skip",
        axis_name=axis_name,
    )
    batch = runs.example_batch(run, inputs, config.effective_batch_size)
    eval_step = compilation.compile_eval(steps.make_eval_step(run.model, run.task), run.mesh)
    if axis_name:
        one = pmap.compile_step(train_step, setup.state, batch, run.mesh, axis_name=axis_name)
        return setup._replace(train_step=one, eval_step=eval_step)
    one = compilation.compile_step(train_step, setup.state, batch, run.mesh)
    # Cached features replace the images, which then need not be on the devices.
    resident = _put_on_devices(run, setup.source) if not config.cache_features or run.model.features is None else None
    if resident is None:
        return setup._replace(train_step=one, eval_step=eval_step)
    positions = dataclasses.replace(setup.source, read=lambda chosen: chosen.astype(np.int32))
    several = compilation.compile_steps(train_step, setup.state, run.mesh, resident=resident, most=NUM_AT_ONCE)
    return setup._replace(source=positions, train_step=one, train_steps=several, eval_step=eval_step)


def _put_on_devices(run: runs.Run, images: Split) -> jax.Array | None:
    """Put all inputs of a split on the devices if they fit; return None otherwise."""
    if images.decode is not None or not compilation.fits_in_device_memory(
        len(images) * images.read(np.arange(1)).nbytes, run.mesh
    ):
        return None
    return compilation.device_put_dataset(np.asarray(images.read(np.arange(len(images)))), run.mesh)
