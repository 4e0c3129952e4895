"""The verb train: a config -> a workdir with checkpoints and figures, and the test of the best of them."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxvision import checkpoint, logs, parallel, pipeline, registry
from jaxvision import run as runs
from jaxvision import step as steps
from jaxvision import workdir as workdirs
from jaxvision.config import Config
from jaxvision.evaluate import evaluate, run_split
from jaxvision.interfaces import Augment, Dataset, TrainState
from jaxvision.interrupts import Interrupted, signals

PROFILED = range(3, 8)  # steps after the first; those before compile and warm up


class Result(NamedTuple):
    """What training gives: the rows of metrics.jsonl, the report on the test split (None without one), the workdir."""

    history: list[logs.Row]
    test: dict[str, Any] | None
    workdir: Path

    def __repr__(self) -> str:
        test = f"accuracy {self.test['accuracy']:.4f}" if self.test and "accuracy" in self.test else "none"
        return f"Result(workdir={str(self.workdir)!r}, test={test}, history of {len(self.history)} rows)"


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


def make_augment(config: Config) -> Augment:
    """Builds the chain of the config's augments."""
    from jaxvision.augments import chain

    return chain([registry.augments.build(spec) for spec in registry.parse_list(config.augment)])


def is_due(step: int, config: Config, num_examples: int) -> bool:
    """Says whether an evaluation follows a step: every eval_every steps, or else where an epoch ends."""
    if config.eval_every:
        return step % config.eval_every == 0
    return step * config.batch_size // num_examples > (step - 1) * config.batch_size // num_examples


class _Job(NamedTuple):
    """All that the loop calls, built and checked before anything is written."""

    run: runs.Run
    data: Dataset
    num_steps: int
    make_state: Callable[[], TrainState]
    train_step: Callable[..., Any]
    eval_step: Callable[..., Any]
    schedule: Callable[[int], Any]


def _check_specs(config: Config, is_dataset_named: bool) -> None:
    """Raises for names and arguments that cannot be, before the data are opened, which may take long."""
    for each in (registry.models, registry.tasks, registry.optimizers, registry.schedules):
        each.check(getattr(config, each.kind))
    for spec in registry.parse_list(config.augment):
        registry.augments.check(spec)
    if is_dataset_named and config.dataset != runs.IN_MEMORY:
        registry.datasets.check(config.dataset)


def _prepare(run: runs.Run, data: Dataset) -> _Job:
    config = run.config
    parallel.check_batch_size(config.batch_size, run.mesh)
    pipeline.check_batch_size(config.batch_size, data.train)
    num_steps = runs.count_steps(config, len(data.train))
    optimizer, schedule = make_optimizer(config, num_steps)
    skip = config.on_nonfinite == "skip"
    train_step = steps.make_train_step(run.model, run.task, optimizer, make_augment(config), skip_nonfinite=skip)
    like = runs.example_inputs(run)

    def make_state():
        return steps.init_state(run.model, optimizer, jnp.zeros(like.shape, like.dtype), seed=config.seed)

    job = _Job(
        run,
        data,
        num_steps,
        jax.jit(make_state, out_shardings=parallel.replicated(run.mesh)),
        train_step,
        steps.make_eval_step(run.model, run.task),
        schedule,
    )
    batch = runs.example_batch(run, config.batch_size)
    jax.eval_shape(train_step, jax.eval_shape(make_state), batch)  # what cannot be trained shows here, at no cost
    return job


def _report(job: _Job, state: TrainState, sums: dict[str, float], seconds: float, log: logs.Log) -> dict[str, float]:
    """Logs a row for train, and one for validation whose values it gives."""
    config, number = job.run.config, int(state.step)
    place = {"step": number, "epoch": number * config.batch_size / len(job.data.train)}
    count, num_skipped = sums.pop("count", 0), sums.pop("num_skipped", 0)
    train = {name: total / count for name, total in sums.items()}
    if num_skipped:
        train["num_skipped"] = num_skipped
    rate = float(job.schedule(number - 1))
    rows = [{**place, "split": "train", **train, "learning_rate": rate, "seconds": seconds}]
    values = {}
    if job.data.validation is not None:
        values, _ = run_split(
            job.run, job.eval_step, state.params, state.model_state, job.data.validation, config.eval_batch_size
        )
        rows.append({**place, "split": "validation", **values})
    log.report(*rows)
    return values


def _add(sums: dict[str, float], number: int, means: dict[str, Any], log: logs.Log, on_nonfinite: str):
    """Adds a step's means, once it has finished. Raises FloatingPointError where they are not finite, or counts it."""
    finished = {name: float(value) for name, value in jax.device_get(means).items()}
    wrong = [f"{name} is {finished[name]}" for name in ("loss", "gradient_norm") if not math.isfinite(finished[name])]
    if wrong and on_nonfinite == "stop":
        raise FloatingPointError(
            f"{' and '.join(wrong)} at step {number}; stopped, and the checkpoints before it are kept: try a lower "
            "--learning_rate, --clip_norm=1, a schedule with warmup, or --on_nonfinite=skip in another --workdir"
        )
    log.step(finished)
    added = {"num_skipped": 1.0} if wrong else {**finished, "count": 1.0}
    return {name: sums.get(name, 0.0) + added.get(name, 0.0) for name in {**sums, **added}}


def _loop(job: _Job, state, sums, batches, checkpoints, log: logs.Log, profiler: _Profiler, received: list[int]) -> int:
    """Trains to the end or until a signal is received; gives the last step, which is saved."""
    config, first = job.run.config, int(state.step) + 1
    began, pending = time.perf_counter(), None
    for number in range(first, job.num_steps + 1):
        profiler.before_step(number - first)
        state, means = job.train_step(state, parallel.put_batch(next(batches), job.run.mesh))
        if pending is not None:  # the step before: waiting for it bounds how far dispatch runs ahead
            sums = _add(sums, *pending, log, config.on_nonfinite)
        pending = number, means
        due = number == job.num_steps or is_due(number, config, len(job.data.train))
        if due or received or (config.save_every and number % config.save_every == 0):
            sums, pending, values = _add(sums, *pending, log, config.on_nonfinite), None, {}
            if due:
                values = _report(job, state, sums, time.perf_counter() - began, log)
                sums, began = {}, time.perf_counter()
            checkpoints.save(state, values=values, sums=sums)
            if received:
                return number
    return job.num_steps


class _Profiler:
    """Traces a few steps into a folder, or none where there is no folder."""

    def __init__(self, folder: Path | None):
        self._folder, self._is_tracing = folder, False

    def before_step(self, index: int) -> None:
        if self._folder and index == PROFILED.start:
            jax.profiler.start_trace(self._folder)
            self._is_tracing = True
        elif index == PROFILED.stop:
            self.close()

    def close(self) -> None:
        if self._is_tracing:
            jax.profiler.stop_trace()
            self._is_tracing = False


def _fit(job: _Job, path: Path, checkpoints: checkpoint.Checkpoints, *, profile: bool) -> None:
    """Trains from where the checkpoints stand to the end."""
    state, sums = checkpoints.restore(job.make_state(), job.run.mesh)
    start, config = int(state.step), job.run.config
    size = f"{runs.num_parameters(state.params):,} parameters"
    with contextlib.closing(logs.Log(path, num_steps=job.num_steps, batch_size=config.batch_size, start=start)) as log:
        if start >= job.num_steps:
            log.say(f"{path}: finished already, at step {start}")
            return
        log.say(f"{path}: {'resumes at step ' + str(start) if start else 'begins'}, of {job.num_steps}")
        log.say(
            f"{config.model}, {size}, on {config.dataset}: "
            + ", ".join(f"{len(split):,} {name}" for name, split in runs.splits(job.data).items())
            + f"; {job.run.mesh.size} {jax.devices()[0].device_kind} device{'s' * (job.run.mesh.size > 1)}"
        )
        profiler = _Profiler(path / "profile" if profile else None)
        batches = pipeline.train_batches(job.data.train, config.batch_size, seed=config.seed, start=start)
        with contextlib.closing(batches), contextlib.closing(profiler), signals() as received:
            last = _loop(job, state, sums, batches, checkpoints, log, profiler, received)
            checkpoints.wait()
        if last < job.num_steps:
            raise Interrupted(received[0], path, last, job.num_steps)


def train(
    config: Config,
    *,
    workdir: str | Path | None = None,
    data_dir: str | None = None,
    dataset: Dataset | dict[str, tuple[Any, Any]] | tuple[Any, Any] | None = None,
    plugins: Sequence[str] = (),
    profile: bool = False,
) -> Result:
    """Trains what the config says, or goes on where the workdir stands, then tests the best checkpoint.

    `dataset` stands in for config.dataset: a Dataset, arrays (images, labels), or {"train": (images, labels), …};
    images are uint8, or floats in 0..1, [N, H, W] or [N, H, W, C]. Without workdir one is made below ./workdirs.
    `profile` writes a profile of a few steps into it, for TensorBoard or Perfetto.

    Raises ValueError for what does not fit, before anything is written; Interrupted after a signal, saved.
    """
    registry.load_plugins(plugins)
    config = config if dataset is None else config.replace(dataset=runs.IN_MEMORY)
    _check_specs(config, dataset is None)
    data = runs.open_dataset(config, data_dir=data_dir, dataset=dataset)
    run = runs.build(config, data, data_dir=data_dir, plugins=plugins)
    job = _prepare(run, data)
    place = Path(workdir).expanduser() if workdir else workdirs.fresh(config)
    with workdirs.entered(place, config, run.signature) as path:
        with contextlib.closing(
            checkpoint.Checkpoints(path / "checkpoints", best=run.task.best, keep=config.keep)
        ) as checkpoints:
            _fit(job, path, checkpoints, profile=profile)
        test = evaluate(path, dataset=data, plugins=plugins) if data.test is not None else None
    return Result(logs.read_rows(path / "metrics.jsonl"), test, path)
