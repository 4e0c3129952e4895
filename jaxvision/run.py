"""Config -> a run: `build` looks the names up, `load` gives what a workdir's training left, with its trained state."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision import parallel, registry, step
from jaxvision import workdir as workdirs
from jaxvision.config import FIELDS, Config
from jaxvision.datasets.cache import cache_folder
from jaxvision.interfaces import Batch, Dataset, Model, Preprocessing, Split, Targets, Task, Tree
from jaxvision.workdir import Signature

IN_MEMORY = "in_memory"  # what the config says where the data were handed over as arrays


class Run(NamedTuple):
    """A config with its names looked up. The model takes pixels and normalises them itself."""

    config: Config
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


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told where already."""
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


_enabled_double = False  # whether it was us who changed JAX's switch, which holds for the whole process


def use_double(config: Config) -> None:
    """Switches numbers of 64 bits on for a run that wants them, and off again for the next that does not."""
    global _enabled_double
    is_wanted = config.precision == "f64"
    is_on = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    if is_wanted != is_on and (is_wanted or _enabled_double):
        jax.config.update("jax_enable_x64", is_wanted)
        _enabled_double = is_wanted


def open_dataset(
    config: Config, *, data_dir: str | None = None, dataset: Any = None, preprocessing: Preprocessing | None = None
) -> Dataset:
    """Builds the config's dataset, or takes the one given (a Dataset, or arrays as in `train`) in its stead.

    With `preprocessing`, that of weights, images come in its size, unless the spec asks for another, and are normalised
    by it. Cuts a stratified share of train off for validation where there is none and the config wants one, or holds
    the config's fold out.
    """
    if dataset is None and config.dataset == IN_MEMORY:
        raise ValueError("this run was trained on data in memory: hand them over, as dataset=… from Python")
    if dataset is None:
        dataset = registry.datasets.build(
            config.dataset,
            data_dir=data_dir,
            split_seed=config.split_seed,
            on_bad_image=config.on_bad_image,
            preprocessing=preprocessing,
        )
    elif not isinstance(dataset, Dataset):
        from jaxvision.datasets.arrays import from_arrays

        dataset = from_arrays(
            dataset if isinstance(dataset, dict) else {"train": tuple(dataset)}, split_seed=config.split_seed
        )
    if preprocessing is not None:
        dataset = _preprocessed(dataset, config.dataset, preprocessing)
    if config.fold:
        whole = dataset.train if dataset.validation is None else dataset.train.joined(dataset.validation)
        train, validation = whole.fold(*map(int, config.fold.split("/")), seed=config.split_seed)
    elif dataset.validation is not None or not config.validation_fraction:
        return dataset
    else:
        train, validation = dataset.train.cut(config.validation_fraction, seed=config.split_seed)
    _check_known(train, validation, dataset.classes)
    if train.ordered:  # what comes later must not scale it
        dataset = dataset._replace(preprocessing=dataset.preprocessing.measured(train.read(np.arange(len(train)))))
    return dataset._replace(train=train, validation=validation)


def _check_known(train: Split, validation: Split, classes: Sequence[str]) -> None:
    """Raises ValueError where validation has been left the only examples of a class or tag."""
    if train.kind == "numbers":
        return
    counts = [Targets.of(split, len(classes)).counts for split in (train, validation)]
    lost = [name for name, own, held_out in zip(classes, *counts, strict=True) if held_out and not own]
    if lost:
        raise ValueError(
            f"all examples of {lost[0]!r} are held out for validation: give another --split_seed, more examples or "
            "groups of it, or leave it out"
        )


def _preprocessed(dataset: Dataset, spec: str, wanted: Preprocessing) -> Dataset:
    """Brings a dataset to the preprocessing that belongs to weights. What the spec asks for itself stays."""
    name, arguments = registry.parse(spec)
    is_asked = "image_size" in arguments or (name != IN_MEMORY and registry.datasets.takes(spec, "preprocessing"))
    shapes = [(each.size, each.crop, each.interpolation) for each in (dataset.preprocessing, wanted)]
    if not is_asked and shapes[0] != shapes[1]:
        from jaxvision.datasets.arrays import resized

        dataset = resized(dataset, wanted)
    return dataset._replace(preprocessing=dataset.preprocessing.normalising(wanted))


def fingerprint(dataset: Dataset, *, num_images: int = 4096) -> str:
    """Tells data apart: a hash of all classes, targets and names, and of up to a number of images of each split."""
    digest = hashlib.blake2b(repr(dataset.classes).encode(), digest_size=16)
    for split in (dataset.train, dataset.validation, dataset.test):
        if split is not None:
            digest.update(np.ascontiguousarray(split.targets).tobytes())
            digest.update("\n".join(name.rsplit("/", 1)[-1] for name in split.names).encode())
            most = num_images if split.decode is None else num_images // 16  # these are decoded at each start
            chosen = np.linspace(0, len(split) - 1, min(most, len(split)), dtype=int)
            for start in range(0, len(chosen), 64):  # a few at once: resized ones take memory
                digest.update(split.read(chosen[start : start + 64]).tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax", "orbax-checkpoint")}


def build(config: Config, dataset: Dataset, *, data_dir: str | None = None, plugins: Sequence[str] = ()) -> Run:
    """Looks up what the config names, for the data given, to train on the config's mesh."""
    places = tuple(map(registry.plugin_place, plugins))
    place = os.path.abspath(os.path.expanduser(data_dir)) if data_dir else None
    targets = Targets.of(dataset.train, len(dataset.classes))
    signature = Signature(
        dataset.classes, dataset.preprocessing, targets, fingerprint(dataset), place, places, _versions()
    )
    axis_name = device_axis(config)
    run = assemble(config, signature, parallel.make_mesh(config.mesh), axis_name=axis_name)
    if axis_name and not registry.models.takes(config.model, "axis_name"):
        _check_stateless(run)
    return run


def _check_stateless(run: Run) -> None:
    """Raises ValueError where a model that knows of no devices but its own has statistics of the batch."""
    _, state = jax.eval_shape(run.model.init, jax.random.key(0), example_inputs(run))
    if jax.tree.leaves(state):
        raise ValueError(
            f"under --parallel=pmap the model {run.config.model!r} would take statistics of each device's share alone: "
            "its factory has no argument 'axis_name' to hand to its batch norm; use --parallel=jit"
        )


def assemble(config: Config, signature: Signature, mesh: Mesh, *, axis_name: str | None = None) -> Run:
    """Looks up what the config names, for the data of a signature. Raises where the model cannot take them.

    axis_name is that of the devices which each see a share of a batch, as under pmap.
    """
    use_compilation_cache()
    task = build_task(config, signature)
    model = _build_model(config, signature.preprocessing, task.output_size, axis_name)
    use_double(config)
    for name in ("views", "augment"):
        value = getattr(config, name)
        if value != FIELDS[name].default and len(signature.preprocessing.size) != 2:
            raise ValueError(f"{name}={value!r} is for images, and these inputs are none: leave --{name} out")
    model = step.computing(model, signature.preprocessing, precision=config.precision)
    model = step.averaged_over_views(model, config.views)
    run = Run(config, signature, task, model, mesh)
    _check_outputs(run)  # shapes that do not fit show here, at no cost
    return run


def build_task(config: Config, signature: Signature, *, thresholds: tuple[float, ...] | None = None) -> Task:
    """Builds the config's task. Raises ValueError where it learns other targets than the data have."""
    registry.tasks.check(config.task)
    wanted, kind = registry.tasks.entry(registry.parse(config.task).name).facts.get("targets"), signature.targets.kind
    if wanted is not None and wanted != kind:
        fitting = [n for n in registry.tasks.names() if registry.tasks.entry(n).facts.get("targets") == kind]
        raise ValueError(
            f"the task {config.task!r} learns {wanted}, and the targets of {config.dataset!r} are {kind}: "
            f"use --task={' or --task='.join(fitting)}"
        )
    return registry.tasks.build(
        config.task, num_classes=len(signature.classes), targets=signature.targets, thresholds=thresholds
    )


def device_axis(config: Config) -> str | None:
    """The name of the axis of devices that each see a share of the batch alone; None where one program sees it all."""
    return parallel.AXES[0] if config.parallel == "pmap" else None


def _build_model(config: Config, preprocessing: Preprocessing, output_size: int, axis_name: str | None) -> Model:
    """Builds the config's model. Raises ValueError where it has not what the config asks of it."""
    registry.models.check(config.model)
    if config.remat and not registry.models.takes(config.model, "remat"):
        raise ValueError(
            f"the model {config.model!r} has no blocks that could be computed again: its factory has no argument "
            "'remat'; leave --remat out"
        )
    input_size = (*preprocessing.size, preprocessing.channels)
    return registry.models.build(
        config.model, output_size=output_size, input_size=input_size, axis_name=axis_name, remat=config.remat
    )


def _check_outputs(run: Run) -> None:
    """Raises where the model cannot take the inputs, or gives another number of outputs than the task asks for."""
    one, two = example_inputs(run), example_inputs(run, 2)
    are_images = len(one.shape) == 4
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
    dtype = np.uint8 if len(preprocessing.size) == 2 else np.float32  # an image has two sides, a series one
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
    from jaxvision.checkpoint import Checkpoints

    path = workdirs.require(workdir)
    config, signature = Config.load(path / "config.json"), Signature.load(path / "signature.json")
    registry.load_plugins([*plugins, *(p for p in signature.plugins if p not in plugins)])
    run = assemble(config, signature, parallel.make_mesh())
    checkpoints = Checkpoints(path / "checkpoints", best=run.task.best, read_only=True)
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
    task = build_task(config, signature, thresholds=workdirs.thresholds_of(path, chosen, config.views))

    def predict_step(params, model_state, batch):
        return task.predict(run.model, params, model_state, batch["inputs"])

    compiled = parallel.compile_eval(predict_step, run.mesh)
    return Trained(run._replace(task=task), path, chosen, params, model_state, compiled)


def num_parameters(params: Any) -> int:
    """Counts the numbers that training changes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def splits(dataset: Dataset) -> dict[str, Split]:
    """Gives the splits that a dataset has, by name."""
    named = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {name: split for name, split in named.items() if split is not None}
