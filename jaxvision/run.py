"""Config -> a run: `build` looks the names up, `load` gives what a workdir's training left, with its trained state."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision import data, registry, specs, splits
from jaxvision import workdir as workdirs
from jaxvision.config import DEFAULT_EXECUTION, Config, Execution, fields_of
from jaxvision.distributed import compilation, runtime
from jaxvision.distributed import mesh as meshes
from jaxvision.engine import precision
from jaxvision.interfaces import Batch, Dataset, Model, Preprocessing, Task, Tree
from jaxvision.plugins import load_plugins, plugin_place
from jaxvision.workdir import Signature


class Run(NamedTuple):
    """A config with its names looked up. The model takes pixels and normalises them itself."""

    config: Config
    execution: Execution
    signature: Signature
    task: Task
    model: Model
    mesh: Mesh


class Trained(NamedTuple):
    """A run with the parameters of one checkpoint: their averages, where the config wants some.

    `predict_step(params, model_state, batch)` gives predictions; it is compiled once for each batch size in use.
    """

    run: Run
    workdir: Path
    step: int
    params: Tree
    model_state: Tree
    predict_step: Callable[[Tree, Tree, Batch], Any]

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
    """Looks up what the config names, for the data given, to train on the mesh that the execution names."""
    places = tuple(map(plugin_place, plugins))
    place = os.path.abspath(os.path.expanduser(data_dir)) if data_dir else None
    targets = splits.measure_targets(dataset.train, len(dataset.classes))
    signature = Signature(
        dataset.classes, dataset.preprocessing, targets, data.fingerprint(dataset), place, places, _versions()
    )
    mesh = meshes.make_mesh(execution.mesh)
    return assemble(config, signature, mesh, execution=execution, axis_name=device_axis(execution))


def assemble(
    config: Config, signature: Signature, mesh: Mesh, *, execution: Execution, axis_name: str | None = None
) -> Run:
    """Looks up what the config names, for the data of a signature. Raises where the model cannot take them.

    axis_name is that of the devices which each see a share of a batch, as under pmap.
    """
    runtime.use_compilation_cache()
    task = build_task(config, signature)
    model = _build_model(config, execution, signature.preprocessing, task.output_size, axis_name)
    runtime.use_double(config.precision == "f64")
    for name, value, default in (
        ("views", execution.views, fields_of(Execution)["views"].default),
        ("augment", config.augment, fields_of(Config)["augment"].default),
    ):
        if value != default and not signature.preprocessing.is_image:
            raise ValueError(f"{name}={value!r} is for images, and these inputs are none: leave --{name} out")
    model = precision.computing(model, signature.preprocessing, precision=config.precision)
    if execution.views != "one":
        from jaxvision.engine.tta import averaged_over_views

        model = averaged_over_views(model, execution.views)
    run = Run(config, execution, signature, task, model, mesh)
    _check_outputs(run)  # shapes that do not fit show here, at no cost
    return run


def build_task(config: Config, signature: Signature, *, thresholds: tuple[float, ...] | None = None) -> Task:
    """Builds the config's task. Raises ValueError where it learns other targets than the data have."""
    registry.tasks.check(config.task)
    wanted, kind = registry.tasks.entry(specs.parse(config.task).name).facts.get("targets"), signature.targets.kind
    if wanted is not None and wanted != kind:
        fitting = [n for n in registry.tasks.names() if registry.tasks.entry(n).facts.get("targets") == kind]
        raise ValueError(
            f"the task {config.task!r} learns {wanted}, and the targets of {config.dataset!r} are {kind}: "
            f"use --task={' or --task='.join(fitting)}"
        )
    return registry.tasks.build(
        config.task, num_classes=len(signature.classes), targets=signature.targets, thresholds=thresholds
    )


def device_axis(execution: Execution) -> str | None:
    """The name of the axis of devices that each see a share of the batch alone; None where one program sees it all."""
    return meshes.AXES[0] if execution.parallel == "pmap" else None


def _build_model(
    config: Config, execution: Execution, preprocessing: Preprocessing, output_size: int, axis_name: str | None
) -> Model:
    """Builds the config's model. Raises ValueError where it has not what the execution asks of it."""
    registry.models.check(config.model)
    input_size = (*preprocessing.size, preprocessing.channels)
    model: Model = registry.models.build(config.model, output_size=output_size, input_size=input_size)
    if execution.remat:
        if model.remat is None:
            raise ValueError(
                f"the model {config.model!r} has no blocks that could be computed again: its Model has no `remat`; "
                "leave --remat out"
            )
        model = model.remat()
    if axis_name is None:
        return model
    if model.synchronize is not None:
        return model.synchronize(axis_name)
    _, state = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *input_size), np.float32))
    if jax.tree.leaves(state):
        raise ValueError(
            f"under --parallel=pmap the model {config.model!r} would take statistics of each device's share alone: "
            "its Model has no `synchronize`; use --parallel=jit"
        )
    return model


def _check_outputs(run: Run) -> None:
    """Raises where the model cannot take the inputs, or gives another number of outputs than the task asks for."""
    one, two = example_inputs(run), example_inputs(run, 2)
    are_images = run.signature.preprocessing.is_image
    try:
        params, state = jax.eval_shape(run.model.init, jax.random.key(0), one)
        outputs, _ = jax.eval_shape(lambda *a: run.model.apply(*a, train=False, key=None), params, state, two)
    except Exception as error:
        if are_images:  # which models are made for: what goes wrong is in the model
            raise
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"the model {run.config.model!r} does not take inputs of shape {one.shape[1:]}, which are no images: use "
            f"--model=lstm or --model=mlp ({type(error).__name__}: {said})"
        ) from error
    if outputs.shape != (2, run.task.output_size):
        repair = "its factory is told output_size" if are_images else "use --model=lstm or --model=mlp"
        raise ValueError(
            f"the model {run.config.model!r} gives outputs of shape {outputs.shape} for two inputs; the task "
            f"{run.config.task!r} wants (2, {run.task.output_size}): {repair}"
        )


def example_inputs(run: Run, batch_size: int = 1) -> jax.ShapeDtypeStruct:
    """The shape and type of a batch of raw inputs."""
    preprocessing = run.signature.preprocessing
    dtype = np.uint8 if preprocessing.is_image else np.float32
    return jax.ShapeDtypeStruct((batch_size, *preprocessing.size, preprocessing.channels), dtype)


def example_batch(run: Run, inputs: jax.ShapeDtypeStruct, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and types of a training batch of inputs like those given."""
    kind = run.signature.targets.kind
    per_example = (len(run.signature.classes),) if kind == "tags" else ()
    dtype = np.int32 if kind == "classes" else np.float32
    return {
        "inputs": jax.ShapeDtypeStruct((batch_size, *inputs.shape[1:]), inputs.dtype),
        "targets": jax.ShapeDtypeStruct((batch_size, *per_example), dtype),
        "mask": jax.ShapeDtypeStruct((batch_size,), np.float32),
        "index": jax.ShapeDtypeStruct((batch_size,), np.int32),
        "epoch": jax.ShapeDtypeStruct((batch_size,), np.int32),
    }


def count_steps(config: Config, num_examples: int) -> int:
    """The number of training steps: config.steps, or as many full ones as its epochs hold."""
    return config.steps or max(config.epochs * num_examples // config.step_size, 1)


def load(workdir: str | Path, *, step: int | None = None, plugins: Sequence[str] = ()) -> Trained:
    """Loads a trained run: the best checkpoint, or that of a step. Never opens the data.

    Raises FileNotFoundError where there is no workdir, ValueError where the checkpoint is missing or damaged.
    """
    from jaxvision.engine.checkpoint import Checkpoints

    path = workdirs.require(workdir)
    config, execution, signature = workdirs.read(path)
    load_plugins([*plugins, *(p for p in signature.plugins if p not in plugins)])
    run = assemble(config, signature, meshes.make_mesh(), execution=execution)
    checkpoints = Checkpoints(path / "checkpoints", monitor=run.task.monitor, read_only=True)
    try:
        if not checkpoints.steps() or (step is not None and step not in checkpoints.steps()):
            wanted = "a checkpoint" if step is None else f"a checkpoint of step {step}"
            saved = ", ".join(map(str, checkpoints.steps())) or "none"
            raise ValueError(f"{str(path)!r} has not {wanted}; it has {saved}")
        like = jax.eval_shape(run.model.init, jax.random.key(0), example_inputs(run))
        steps = checkpoints.ranked() if step is None else [step]
        ema = config.ema is not None
        chosen, (params, model_state) = checkpoints.restore_model(steps, like, run.mesh, ema=ema)
    finally:
        checkpoints.close()
    task = build_task(config, signature, thresholds=workdirs.thresholds_of(path, chosen, execution.views))

    def predict_step(params, model_state, batch):
        return task.predict(run.model, params, model_state, batch)

    compiled = compilation.compile_eval(predict_step, run.mesh)
    return Trained(run._replace(task=task), path, chosen, params, model_state, compiled)


def num_parameters(params: Any) -> int:
    """Counts the numbers that training changes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
