"""What training prints before its first step: what is trained, on what, and what changed since the run began."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

from jaxvision import failures
from jaxvision import run as runs
from jaxvision.config import Config, Execution
from jaxvision.data import splits_of
from jaxvision.splits import FEW
from jaxvision.training_setup import TrainingSetup, make_optimizer


def start_lines(
    setup: TrainingSetup,
    path: Path,
    *,
    start: int,
    previous: tuple[Config, Execution] | None,
    weights_note: str,
) -> Iterator[str]:
    """Yield the lines. `start` is the first step; `previous` are those it had, None for a new run."""
    config, mesh = setup.run.config, setup.run.mesh
    size = config.effective_batch_size
    epochs = f"{setup.num_steps * size / len(setup.data.train):.4g}"
    steps = f"{setup.num_steps:,} step{'s' * (setup.num_steps != 1)} of {size:,} examples"
    steps += f" ({epochs} epoch{'s' * (epochs != '1')})"
    if start > setup.num_steps:
        yield failures.already_finished(path, start, setup.num_steps)
    else:
        yield f"{path}: {f'resumes at step {start:,} of' if start else 'begins:'} {steps}"
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in splits_of(setup.data).items())
    devices = f"{mesh.size} {jax.devices()[0].device_kind} device{'s' * (mesh.size > 1)}"
    hosts = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    total, trained = runs.num_parameters(setup.state.params), num_trained(setup)
    counted = f"{total:,} parameters" + (f" ({trained:,} trained)" if trained < total else "")
    yield f"{config.model}, {counted}, on {config.dataset}: {sizes}; {devices}{hosts}"
    yield from setup.data.notes
    if setup.data.test is None and setup.data.validation is not None:
        yield failures.no_test()
    if setup.data.validation is not None and len(setup.data.validation) < FEW:
        yield failures.few_validation_examples(
            len(setup.data.validation), runs.checkpoint_rule(config, setup.run.signature)
        )
    if config.freeze and not setup.frozen:
        yield f"freeze={config.freeze!r} freezes nothing: the model has no batch norms"
    if setup.frozen and config.init_from is None:
        yield f"freeze={config.freeze!r} keeps parameters as they were drawn at random: --init_from gives trained ones"
    if config.init_from:
        shape = setup.run.signature.preprocessing
        crops = {None: "squashed", "pad": "padded"}
        crop = crops.get(shape.crop) or f"crop {shape.crop:g}"
        size = f"{shape.size[0]}x{shape.size[1]} pixels, {crop}, {shape.interpolation}"
        yield f"images as {size}, mean {_short(shape.mean)}, deviation {_short(shape.std)}"
    if previous is not None and start:
        yield from _changes(setup, previous, start)
    if weights_note:
        yield weights_note


def _short(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def _changes(setup: TrainingSetup, previous: tuple[Config, Execution], start: int) -> Iterator[str]:
    """Yield what changed in the config of a run that goes on, and what that makes of the learning rate."""
    changes = previous[0].differences(setup.run.config) | previous[1].differences(setup.run.execution)
    if changes:
        yield "changed: " + ", ".join(f"{name} {old!r} to {new!r}" for name, (old, new) in changes.items())
    _, schedule = make_optimizer(previous[0], runs.count_steps(previous[0], len(setup.data.train)))
    old, new = float(schedule(start)), float(setup.schedule(start))
    if old != new:
        yield f"the schedule changed, too: the next learning rate is {new:.3g} and would have been {old:.3g}"


def num_trained(setup: TrainingSetup) -> int:
    """Counts the numbers that training changes."""
    if not setup.frozen:
        return runs.num_parameters(setup.state.params)
    from jaxvision.engine import transfer

    marks = jax.tree.leaves(transfer.trained(setup.state.params, setup.frozen))
    return sum(leaf.size for leaf, own in zip(jax.tree.leaves(setup.state.params), marks, strict=True) if own)
