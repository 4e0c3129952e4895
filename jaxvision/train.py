"""The verb train: a config -> a workdir with checkpoints and figures, and the test of the best of them."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import checkpoint, hosts, logs, parallel, pipeline, pretrained, registry, reports
from jaxvision import run as runs
from jaxvision import workdir as workdirs
from jaxvision.config import Config
from jaxvision.evaluate import evaluate_on, run_split
from jaxvision.interfaces import Batch, Dataset, Preprocessing, TrainState
from jaxvision.interrupts import Interrupted, Stopped, signals
from jaxvision.job import NUM_AT_ONCE, Job, check_specs, make_optimizer, prepare

# Of each value over the steps since the last report, their "count", their "seconds" and of these the "waiting" ones.
Sums = dict[str, float]
PROFILED = range(3, 8)  # steps after the first; those before compile and warm up


class Result(NamedTuple):
    """What training gives: the rows of metrics.jsonl, the report on the test split (None if unjudged), the workdir."""

    history: list[logs.Row]
    test: dict[str, Any] | None
    workdir: Path

    def __repr__(self) -> str:
        test = f"accuracy {self.test['accuracy']:.4f}" if self.test and "accuracy" in self.test else "none"
        return f"Result(workdir={str(self.workdir)!r}, test={test}, history of {len(self.history)} rows)"


def is_due(step: int, config: Config, num_examples: int) -> bool:
    """Says whether an evaluation follows a step: every eval_every steps, or else where an epoch ends."""
    if config.eval_every:
        return step % config.eval_every == 0
    return step * config.step_size // num_examples > (step - 1) * config.step_size // num_examples


def _evaluated(job: Job, state: TrainState, sums: Sums, log: logs.Log, checkpoints, received: list[int]) -> bool:
    """Evaluates the state just saved, logs the rows, gives its checkpoint the values; False where a signal ends it."""
    values = _report(job, state, sums, log, received)
    if values is not None:
        checkpoints.add_values(int(state.step), values)
    return values is not None


def _report(job: Job, state: TrainState, sums: Sums, log: logs.Log, received: list[int]) -> Sums | None:
    """Logs a row for train, and one for validation whose values it gives; None where a signal ends the evaluation.

    Raises FloatingPointError where all steps that it reports were skipped.
    """
    config, number = job.run.config, int(state.step)
    place = {"step": number, "epoch": number * config.step_size / len(job.data.train)}
    counts = {name: sums.get(name, 0.0) for name in ("count", "num_skipped", "seconds", "waiting")}
    if not counts["count"]:
        raise FloatingPointError(
            f"all {counts['num_skipped']:.0f} steps up to step {number} were skipped, as their loss or gradient is not "
            "finite: the parameters are past mending; begin anew with a lower --learning_rate or --clip_norm=1"
        )
    train = {name: total / counts["count"] for name, total in sums.items() if name not in counts}
    if counts["num_skipped"]:
        train["num_skipped"] = counts["num_skipped"]
    rate = float(job.schedule(number - 1))
    times = {"seconds": counts["seconds"], "waiting": counts["waiting"] / counts["seconds"]}
    rows = [{**place, "split": "train", **train, "learning_rate": rate, **times}]
    values = {}
    if job.data.validation is not None:
        params, model_state = state.ema or (state.params, state.model_state)
        try:
            values, predictions = run_split(
                job.run,
                job.eval_step,
                params,
                model_state,
                job.data.validation,
                config.eval_batch_size,
                stop=lambda: hosts.heard(received, 0) > 0,
            )
        except Stopped:
            return None
        if np.isfinite(predictions).all():
            values |= job.run.task.score(*job.data.validation.judged(predictions))
        rows.append({**place, "split": "validation", **values})
        if hosts.is_first():
            reports.draw_step(log.folder, number, predictions)
    num_images = round(counts["count"] + counts["num_skipped"]) * config.step_size
    hosts.together(lambda: log.report(*rows, num_images=num_images))
    return values


def _add(sums: Sums, numbers: range, means: dict[str, Any], log: logs.Log, on_nonfinite: str) -> Sums:
    """Adds the means of steps that were dispatched at once, when they have finished."""
    finished = {name: np.atleast_1d(values) for name, values in jax.device_get(means).items()}
    for index, number in enumerate(numbers):
        of_step = {name: float(values[index]) for name, values in finished.items()}
        sums = _added(sums, number, of_step, log, on_nonfinite)
    return sums


def _added(sums: Sums, number: int, finished: Sums, log: logs.Log, on_nonfinite: str) -> Sums:
    """Adds a step's means. Raises FloatingPointError where they are not finite, or counts it."""
    wrong = [f"{name} is {finished[name]}" for name in ("loss", "gradient_norm") if not math.isfinite(finished[name])]
    if wrong and on_nonfinite == "stop":
        raise FloatingPointError(
            f"{' and '.join(wrong)} at step {number}; stopped, and what was saved before it is kept: try a lower "
            "--learning_rate, --clip_norm=1 or a schedule with warmup in another --workdir, or go on with "
            "--on_nonfinite=skip where it is a rare batch's doing"
        )
    log.step(finished)
    added = {"num_skipped": 1.0} if wrong else {**finished, "count": 1.0}
    return {name: sums.get(name, 0.0) + added.get(name, 0.0) for name in {**sums, **added}}


class _Clock:
    """Gives batches, and counts the seconds since it was last asked into the sums, and those of them in which no step
    was computed for want of input. A thread sees when steps end.
    """

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches, self._pool, self._ended = batches, ThreadPoolExecutor(1), None
        self._began, self._waiting = time.perf_counter(), 0.0

    def close(self) -> None:
        self._pool.shutdown()

    def dispatched(self, means: Any) -> None:
        """Is told of steps under way, whose means these will be."""
        self._ended = self._pool.submit(_end_of, means)

    def next(self) -> Batch:
        """Waits for the next batch."""
        began = time.perf_counter()
        batch = next(self._batches)
        if self._ended is None or self._ended.done():
            idle_from = began if self._ended is None else max(began, self._ended.result())
            self._waiting += time.perf_counter() - idle_from
        return batch

    def added(self, sums: Sums) -> Sums:
        now = time.perf_counter()
        counted = {"seconds": now - self._began, "waiting": self._waiting}
        self._began, self._waiting = now, 0.0
        return {**sums, **{name: sums.get(name, 0.0) + each for name, each in counted.items()}}

    def skip(self) -> None:
        """Leaves out what has passed since."""
        self._began = time.perf_counter()


def _end_of(means: Any) -> float:
    """Waits for steps; gives the time at which they ended. What was wrong with them is told where they are added."""
    with contextlib.suppress(Exception):
        jax.block_until_ready(means)
    return time.perf_counter()


def is_exhausted(rows: Sequence[logs.Row], best: tuple[str, str], patience: int | None) -> bool:
    """Says whether the last `patience` evaluations on validation were all no better than one before them.

    >>> rows = [{"split": "validation", "accuracy": value} for value in (0.5, 0.7, 0.6, 0.7)]
    >>> is_exhausted(rows, ("accuracy", "max"), 2), is_exhausted(rows, ("accuracy", "max"), 3)
    (True, False)
    """
    name, direction = best
    sign = 1 if direction == "max" else -1
    worst = -math.inf
    values = [sign * row.get(name, math.nan) for row in rows if row["split"] == "validation"]
    values = [value if math.isfinite(value) else worst for value in values]
    return patience is not None and len(values) > patience and max(values[:-patience]) >= max(values[-patience:])


def _is_stop(number: int, job: Job) -> bool:
    """Says whether the state is saved after a step, or evaluated too."""
    every = job.run.config.save_every
    return bool(every and number % every == 0) or _is_evaluated(number, job)


def _is_evaluated(number: int, job: Job) -> bool:
    return number == job.num_steps or is_due(number, job.run.config, len(job.data.train))


def _dispatches(job: Job, first: int) -> Iterator[range]:
    """Gives the numbers of the steps from `first` on, those together that are dispatched at once, up to a stop."""
    most = NUM_AT_ONCE if job.train_steps else 1
    numbers = range(first, first)
    while numbers.stop <= job.num_steps:
        block = range(numbers.stop, numbers.stop + most)
        numbers = next((range(block[0], each + 1) for each in block if _is_stop(each, job)), block)
        yield numbers


def _dispatch(job: Job, state, batches: list[Batch], vote: int):
    """Dispatches as many steps as there are batches: (state, their means, the hosts' largest vote)."""
    if job.train_steps:
        return *job.train_steps(state, batches), vote  # of one host, as only the devices of one hold the inputs
    return job.train_step(state, batches[0], vote)


def _loop(job: Job, state, sums, clock: _Clock, checkpoints, log: logs.Log, profiler: _Profiler, received: list[int]):
    """Trains to the end or until a host receives a signal: (the last step, which is saved, the signal or 0)."""
    config, first = job.run.config, int(state.step) + 1
    pending, votes = None, 0
    for numbers in _dispatches(job, first):
        number = numbers[-1]
        profiler.before_step(numbers[0] - first)
        batches = [clock.next() for _ in numbers]
        state, means, vote = _dispatch(job, state, batches, received[0] if received else 0)
        clock.dispatched(means)
        if pending is not None:  # the steps before: waiting for them bounds how far dispatch runs ahead
            sums, votes = _add(sums, *pending[:2], log, config.on_nonfinite), pending[2]
        pending = numbers, means, vote
        signal = hosts.heard(received, votes)
        if signal or _is_stop(number, job):
            due = _is_evaluated(number, job)
            sums, votes, pending = clock.added(_add(sums, numbers, means, log, config.on_nonfinite)), vote, None
            checkpoints.save(state, sums=sums)  # before the evaluation, which may be long: nothing is lost in it
            evaluated = due and not signal and _evaluated(job, state, sums, log, checkpoints, received)
            sums = {} if evaluated else sums
            clock.skip()
            signal = hosts.heard(received, votes)
            if signal:
                return number, signal
            if evaluated and _ends_early(job, log, number):
                return number, 0
    return job.num_steps, 0


def _ends_early(job: Job, log: logs.Log, number: int) -> bool:
    """Says whether the config's patience is at an end, as all hosts read it from the log."""
    config, best = job.run.config, job.run.task.best
    if config.patience is None or best is None or number == job.num_steps:
        return False
    ended = hosts.from_first(str(is_exhausted(logs.read_rows(log.folder / "metrics.jsonl"), best, config.patience)))
    if ended == "True":
        log.say(f"ends early, at step {number}: {config.patience} evaluations brought no better {best[0]}")
    return ended == "True"


class _Profiler:
    """Traces a few steps into a folder, or none where there is no folder."""

    def __init__(self, folder: Path | None):
        self._folder, self._is_tracing = folder, False

    def before_step(self, index: int) -> None:
        if self._folder and not self._is_tracing and index >= PROFILED.start:
            jax.profiler.start_trace(self._folder)
            self._is_tracing = True
        elif index >= PROFILED.stop:
            self.close()

    def close(self) -> None:
        if self._is_tracing:
            jax.profiler.stop_trace()
            self._folder, self._is_tracing = None, False


def _say_start(job: Job, path: Path, start: int, num_parameters: int, log: logs.Log) -> None:
    config, mesh = job.run.config, job.run.mesh
    log.say(f"{path}: {f'resumes at step {start}' if start else 'begins'}, of {job.num_steps}")
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in runs.splits(job.data).items())
    devices = f"{mesh.size} {jax.devices()[0].device_kind} device{'s' * (mesh.size > 1)}"
    hosts = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    counted = f"{num_parameters:,} parameters"
    if job.num_trained < num_parameters:
        counted += f" ({job.num_trained:,} trained)"
    log.say(f"{config.model}, {counted}, on {config.dataset}: {sizes}; {devices}{hosts}")
    if config.freeze and config.init_from is None:
        log.say(
            f"freeze={config.freeze!r} keeps parameters as they were drawn at random: --init_from gives trained ones"
        )
    if config.init_from:
        shape = job.run.signature.preprocessing
        crop = "squashed" if shape.crop is None else f"crop {shape.crop:g}"
        size = f"{shape.size[0]}x{shape.size[1]} pixels, {crop}, {shape.interpolation}"
        log.say(f"images as {size}, mean {_short(shape.mean)}, deviation {_short(shape.std)}")


def _short(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def _say_changes(job: Job, before: Config | None, start: int, log: logs.Log) -> None:
    """Says what changed in the config of a run that goes on, and what that makes of the learning rate."""
    if before is None or not start:
        return
    changes = before.differences(job.run.config)
    if changes:
        log.say("changed: " + ", ".join(f"{name} {old!r} to {new!r}" for name, (old, new) in changes.items()))
    _, schedule = make_optimizer(before, runs.count_steps(before, len(job.data.train)))
    old, new = float(schedule(start)), float(job.schedule(start))
    if old != new:
        log.say(f"the schedule depends on that: the learning rate of step {start + 1} was {old:.3g} and is {new:.3g}")


def _fit(job: Job, path: Path, checkpoints: checkpoint.Checkpoints, before: Config | None, *, profile: bool) -> None:
    """Trains from where the checkpoints stand to the end."""
    made, begins_with = job.make_state()
    state, sums = checkpoints.restore(made, job.run.mesh)
    start, config = int(state.step), job.run.config
    is_unreported = bool(sums) and (start == job.num_steps or is_due(start, config, len(job.data.train)))
    with contextlib.ExitStack() as held:
        sizes = {"num_steps": job.num_steps, "batch_size": config.step_size, "start": start - is_unreported}
        log = hosts.together(lambda: logs.Log(path, **sizes))
        held.enter_context(contextlib.closing(log))
        if (start >= job.num_steps or _ends_early(job, log, start)) and not is_unreported:
            log.say(f"{path}: finished already, at step {start}")
            return
        _say_start(job, path, start, runs.num_parameters(state.params), log)
        _say_changes(job, before, start, log)
        if begins_with:
            log.say(begins_with)
        if job.on_features:
            job = job.on_features(state.params, state.model_state)
        received = held.enter_context(signals())
        if is_unreported:  # a signal came before or in the evaluation of this step
            if not _evaluated(job, state, sums, log, checkpoints, received):
                raise Interrupted(received[0], path, start, job.num_steps)
            if start >= job.num_steps or _ends_early(job, log, start):
                return
            sums = {}
        profiler = held.enter_context(contextlib.closing(_Profiler(path / "profile" if profile else None)))
        rows = parallel.host_rows(config.step_size, job.run.mesh)
        batches = held.enter_context(
            contextlib.closing(
                pipeline.train_batches(
                    job.source,
                    config.step_size,
                    seed=config.seed,
                    start=start,
                    rows=rows,
                    balanced=config.sampling == "balanced",
                )
            )
        )
        clock = held.enter_context(contextlib.closing(_Clock(batches)))
        last, signal = _loop(job, state, sums, clock, checkpoints, log, profiler, received)
        checkpoints.wait()
        if signal:
            raise Interrupted(signal, path, last, job.num_steps)


def _weights(
    config: Config, place: Path, plugins: Sequence[str]
) -> tuple[pretrained.Weights | None, Preprocessing | None]:
    """Reads the weights that a run begins with, and their preprocessing; one that goes on needs but the latter."""
    if config.init_from is None:
        return None, None
    if checkpoint.exists(place / "checkpoints"):
        return None, workdirs.Signature.load(place / "signature.json").preprocessing
    found = pretrained.open_weights(config.model, config.init_from, plugins=plugins)
    return found, pretrained.preprocessing_of(config.model, found)


def train(
    config: Config,
    *,
    workdir: str | Path | None = None,
    data_dir: str | None = None,
    dataset: Dataset | dict[str, tuple[Any, Any]] | tuple[Any, Any] | None = None,
    plugins: Sequence[str] = (),
    profile: bool = False,
    choosing: bool = False,
) -> Result:
    """Trains what the config says, or goes on where the workdir stands, then tests the best checkpoint.

    `dataset` stands in for config.dataset: a Dataset, arrays (images, labels), or {"train": (images, labels), …};
    images are uint8, or floats in 0..1, [N, H, W] or [N, H, W, C]. Without workdir one is made below ./workdirs.
    `profile` writes a profile of a few steps into it, for TensorBoard or Perfetto. `choosing` leaves the test split
    alone: the run is one of several among which its values on validation choose.

    Raises ValueError for what does not fit, before anything is written; Interrupted after a signal, saved.
    """
    registry.load_plugins(plugins)
    runs.use_double(config)
    config = config if dataset is None else config.replace(dataset=runs.IN_MEMORY)
    hosts.together(lambda: check_specs(config, dataset is None))
    place = Path(hosts.from_first(str(Path(workdir).expanduser() if workdir else workdirs.fresh(config))))
    before = workdirs.config_in(place)
    found, preprocessing = hosts.first_alone(lambda: _weights(config, place, plugins))
    data = hosts.first_alone(
        lambda: runs.open_dataset(config, data_dir=data_dir, dataset=dataset, preprocessing=preprocessing)
    )
    job = hosts.together(lambda: prepare(runs.build(config, data, data_dir=data_dir, plugins=plugins), data, found))
    if choosing and (data.validation is None or job.run.task.best is None):
        raise ValueError(
            f"the task {config.task!r} has no value on validation to choose by: "
            + ("give --validation_fraction" if data.validation is None else "choose by eye, run by run")
        )
    hosts.check_same({**dataclasses.asdict(config), "data": job.run.signature.data})
    with workdirs.entered(place, config, job.run.signature) as path:
        with contextlib.closing(
            checkpoint.Checkpoints(path / "checkpoints", best=job.run.task.best, keep=config.keep)
        ) as checkpoints:
            _fit(job, path, checkpoints, before, profile=profile)
        is_tested = data.test is not None and not choosing
        test = evaluate_on(runs.load(path, plugins=plugins), data, plugins=plugins) if is_tested else None
    return Result(logs.read_rows(path / "metrics.jsonl"), test, path)
