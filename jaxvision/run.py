"""Runs: `build` creates a run from a config and data, `load` restores a trained run from its workdir."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision import data, failures, registry, specs, splits, temperature_file
from jaxvision import workdir as workdirs
from jaxvision.config import DEFAULT_EXECUTION, Config, Execution, fields_of
from jaxvision.distributed import compilation, runtime
from jaxvision.distributed import mesh as meshes
from jaxvision.engine import precision
from jaxvision.interfaces import Batch, Dataset, Loss, Model, Monitor, Preprocessing, Task, Tree
from jaxvision.plugins import load_plugins, plugin_place
from jaxvision.workdir import Signature

MANY_PARAMETERS = 2**26  # 256 MiB; smaller models fit everywhere
LOGGED = {"count", "epoch", "gradient_norm", "learning_rate", "num_skipped", "seconds", "split", "step", "waiting"}


class Run(NamedTuple):
    """A config with its task and model built. The model takes pixels and normalizes them itself."""

    config: Config
    execution: Execution
    signature: Signature
    task: Task
    model: Model
    mesh: Mesh


class Trained(NamedTuple):
    """A run with the parameters of one checkpoint, or their EMA if the config has one.

    `predict_step(params, model_state, batch)` returns predictions; it is compiled once per batch size. `checkpoint` is
    best, last, or a step. `temperature` is that of `predict`, which divides the logits by it; None leaves them.
    """

    run: Run
    workdir: Path
    step: int
    params: Tree
    model_state: Tree
    predict_step: Callable[[Tree, Tree, Batch], Any]
    checkpoint: str = "best"
    temperature: float | None = None

    def __repr__(self) -> str:
        size = f"{num_parameters(self.params):,} parameters"
        return f"Trained({self.run.config.model}, {size}, step {self.step} of {str(self.workdir)!r})"


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax", "orbax-checkpoint")}


def build(
    config: Config,
    dataset: Dataset,
    *,
    execution: Execution = DEFAULT_EXECUTION,
    data_dir: str | None = None,
    plugins: Sequence[str] = (),
) -> Run:
    """Build the run of a config for a dataset, on the mesh of the execution."""
    plugin_names = tuple(map(plugin_place, plugins))
    data_path = os.path.abspath(os.path.expanduser(data_dir)) if data_dir else None
    targets, validation = splits.target_stats(dataset.train, len(dataset.classes)), dataset.validation
    known = dataset.classes, dataset.preprocessing, targets, data.fingerprint(dataset)
    num_validation = None if validation is None else len(validation)
    signature = Signature(*known, data_path, plugin_names, _versions(), num_validation)
    mesh = meshes.make_mesh(execution.mesh)
    return assemble(config, signature, mesh, execution=execution, axis_name=device_axis(execution))


def assemble(
    config: Config, signature: Signature, mesh: Mesh, *, execution: Execution, axis_name: str | None = None
) -> Run:
    """Build task and model from a config, for data with this signature. Raises ValueError if they do not fit.

    `axis_name` is the name of the axis of devices that each see a part of the batch, as under pmap.
    """
    runtime.use_compilation_cache()
    task = build_task(config, signature)
    model = _build_model(config, execution, signature.preprocessing, task.output_size, axis_name)
    runtime.use_double(config.precision == "f64")
    for name, value, default in (
        ("tta", execution.tta, fields_of(Execution)["tta"].default),
        ("augmentations", config.augmentations, fields_of(Config)["augmentations"].default),
    ):
        if value != default and not signature.preprocessing.is_image:
            raise ValueError(f"{name}={value!r} needs images, and the inputs are time series: remove --{name}")
    model = precision.with_precision(model, signature.preprocessing, precision=config.precision)
    if execution.tta != "none":
        from jaxvision.engine.tta import with_test_time_augmentation

        model = with_test_time_augmentation(model, execution.tta)
    run = Run(config, execution, signature, task, model, mesh)
    _check_outputs(run)  # mismatched shapes are found here, at no cost
    return run


def build_task(config: Config, signature: Signature, *, thresholds: tuple[float, ...] | None = None) -> Task:
    """Build the config's task. Raises ValueError if it needs another type of targets than the data have."""
    registry.tasks.check(config.task)
    expected, kind = registry.tasks.entry(specs.parse(config.task).name).metadata.get("targets"), signature.targets.kind
    if expected is not None and expected != kind:
        raise ValueError(failures.other_targets(config.task, expected, config.dataset, kind))
    targets = dataclasses.replace(signature.targets, classes=signature.classes)
    task: Task = registry.tasks.build(
        config.task, num_classes=len(signature.classes), targets=targets, thresholds=thresholds
    )
    if task.monitor is not None and not isinstance(task.monitor, Monitor):
        raise TypeError(
            f"the task {config.task!r} has monitor={task.monitor!r}; expected jaxvision.Monitor(name, mode)"
        )
    return task._replace(loss=_check_loss(task.loss, config.task))


def _check_loss(loss: Loss, spec: str) -> Loss:
    """Wrap a task's loss so that it raises TypeError if it does not return one number per example, by name."""

    def checked(model, params, state, batch, *, train, key):
        values, new = loss(model, params, state, batch, train=train, key=key)
        wrong = {name: np.shape(value) for name, value in values.items() if np.shape(value) != batch["mask"].shape}
        if wrong or "loss" not in values:
            raise TypeError(failures.wrong_values(spec, wrong, batch["mask"].shape))
        if taken := sorted(LOGGED & set(values)):
            raise TypeError(failures.reserved_names(spec, taken))
        return values, new

    return checked


def device_axis(execution: Execution) -> str | None:
    """Return the name of the device axis if each device sees only its part of the batch (pmap), else None."""
    return meshes.AXES[0] if execution.parallel == "pmap" else None


def _build_model(
    config: Config, execution: Execution, preprocessing: Preprocessing, output_size: int, axis_name: str | None
) -> Model:
    """Build the config's model. Raises ValueError if it does not support a setting of the execution."""
    registry.models.check(config.model)
    input_size = (*preprocessing.size, preprocessing.channels)
    model: Model = registry.models.build(config.model, output_size=output_size, input_size=input_size)
    if execution.remat or axis_name is not None:
        from jaxvision.model_variants import with_variants

        return with_variants(model, config.model, input_size, remat=execution.remat, axis_name=axis_name)
    return model


def _check_outputs(run: Run) -> None:
    """Raise ValueError if the model does not accept the inputs or returns outputs of the wrong shape."""
    one, two = example_inputs(run), example_inputs(run, 2)
    are_images = run.signature.preprocessing.is_image
    try:
        params, state = jax.eval_shape(run.model.init, jax.random.key(0), one)
        outputs, _ = jax.eval_shape(lambda *a: run.model.apply(*a, train=False, key=None), params, state, two)
    except Exception as error:
        if are_images:  # all models accept images, so the bug is in the model
            raise
        raise ValueError(failures.wrong_inputs(run.config.model, one.shape[1:], error)) from error
    if num_parameters(params) > MANY_PARAMETERS:
        from jaxvision.engine import footprint

        footprint.check_model(run.config.model, params, run.mesh)
    model, task, expected = run.config.model, run.config.task, (2, run.task.output_size)
    if outputs.shape != expected:
        raise ValueError(failures.wrong_outputs(model, outputs.shape, task, expected, are_images=are_images))


def example_inputs(run: Run, batch_size: int = 1) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of a batch of raw inputs."""
    preprocessing = run.signature.preprocessing
    dtype = np.uint8 if preprocessing.is_image else np.float32
    return jax.ShapeDtypeStruct((batch_size, *preprocessing.size, preprocessing.channels), dtype)


def example_batch(run: Run, inputs: jax.ShapeDtypeStruct, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes and dtypes of a training batch with inputs like those given."""
    kind = run.signature.targets.kind
    per_example = (len(run.signature.classes),) if kind == "multilabel" else ()
    dtype = np.int32 if kind == "multiclass" else np.float32
    return {
        "inputs": jax.ShapeDtypeStruct((batch_size, *inputs.shape[1:]), inputs.dtype),
        "targets": jax.ShapeDtypeStruct((batch_size, *per_example), dtype),
        "mask": jax.ShapeDtypeStruct((batch_size,), np.float32),
        "index": jax.ShapeDtypeStruct((batch_size,), np.int32),
        "epoch": jax.ShapeDtypeStruct((batch_size,), np.int32),
    }


def checkpoint_rule(config: Config, signature: Signature) -> str:
    """Return which checkpoint of a run counts, best or last, by the config's rule and the size of validation."""
    is_small = signature.num_validation is not None and signature.num_validation < splits.FEW
    by_size = "last" if is_small and config.patience is None else "best"
    return by_size if config.checkpoint_rule == "auto" else config.checkpoint_rule


def count_steps(config: Config, num_examples: int) -> int:
    """Return the number of training steps: config.steps, or the number of full batches in its epochs."""
    return config.steps or max(config.epochs * num_examples // config.effective_batch_size, 1)


def load(
    workdir: str | Path,
    *,
    checkpoint: str | int = "chosen",
    tta: str | None = None,
    plugins: Sequence[str] = (),
    trust_plugins: bool = False,
) -> Trained:
    """Load a trained run without opening its data.

    Args:
        workdir: The folder of a trained run.
        checkpoint: chosen (as the run's checkpoint_rule says), best, last, or the step of a checkpoint.
        tta: Test-time augmentation: none, flip or flip_shift. If None, that of training.
        plugins: Modules or .py files that register more, besides those of training.
        trust_plugins: Run the plug-ins of training even if somebody else trained. Plug-ins are code.

    Returns:
        The run with the parameters of the checkpoint.

    Raises:
        FileNotFoundError: There is no such workdir.
        ValueError: The checkpoint is missing or damaged, or a plug-in of training is not trusted.
    """
    from jaxvision.engine.checkpoint import Checkpoints

    path = workdirs.open_workdir(workdir)
    config, execution, signature = workdirs.read(path)
    if plugins or signature.plugins:
        from jaxvision import trust

        load_plugins(plugins)
        trust.load_named_plugins(path, signature.plugins, given=plugins, trust_plugins=trust_plugins)
    execution = execution.replace(remat=False, tta=tta or execution.tta)  # remat only matters in the backward pass
    run = assemble(config, signature, meshes.make_mesh(), execution=execution)
    checkpoints = Checkpoints(path / "checkpoints", monitor=run.task.monitor, read_only=True)
    checkpoint = checkpoint_rule(config, signature) if checkpoint == "chosen" else checkpoint
    try:
        saved = {str(step): step for step in checkpoints.steps()}
        named = {"best": checkpoints.ranked(), "last": checkpoints.steps()[::-1]}
        steps = named.get(str(checkpoint), [saved[str(checkpoint)]] if str(checkpoint) in saved else [])
        if not steps:
            listed = f"best, last, {', '.join(saved)}" if saved else "none"
            raise ValueError(f"{str(path)!r} has no checkpoint {checkpoint}; it has {listed}")
        shapes = jax.eval_shape(run.model.init, jax.random.key(0), example_inputs(run))
        chosen, (params, model_state) = checkpoints.restore_model(steps, shapes, run.mesh, ema=config.ema is not None)
    finally:
        checkpoints.close()
    if run.task.fit_thresholds is not None:
        from jaxvision import threshold_file

        thresholds = threshold_file.load_or_warn(path, chosen, execution.tta, signature=signature)
        run = run._replace(task=build_task(config, signature, thresholds=thresholds))
    temperature = temperature_file.load_or_warn(path, chosen, execution.tta)

    def predict_step(params, model_state, batch):
        batch = {**batch, "inputs": precision.as_float(batch["inputs"])}
        return run.task.predict(run.model, params, model_state, batch)

    compiled = compilation.compile_eval(predict_step, run.mesh)
    return Trained(run, path, chosen, params, model_state, compiled, str(checkpoint), temperature)


def num_parameters(params: Any) -> int:
    """Return the number of parameters, including frozen ones."""
    return sum(int(leaf.size) for leaf in jax.tree.leaves(params))
