"""The verb train: a config -> a workdir with checkpoints and figures, and the test of the best of them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision import data as datas
from jaxvision import reports, storage
from jaxvision import run as runs
from jaxvision import workdir as workdirs
from jaxvision.config import DEFAULT_EXECUTION, Config, Execution
from jaxvision.distributed import mesh as meshes
from jaxvision.distributed import multihost, runtime
from jaxvision.engine import inference, logs, pipeline, timing
from jaxvision.engine.checkpoint import Checkpoints
from jaxvision.engine.signals import Interrupted, Stopped, signals
from jaxvision.engine.timing import Sums
from jaxvision.evaluate import evaluate_on
from jaxvision.interfaces import Dataset, TrainState
from jaxvision.plugins import load_plugins
from jaxvision.training_setup import NUM_AT_ONCE, TrainingSetup, check_specs, prepare


class Result(NamedTuple):
    """What training gives: the rows of metrics.jsonl, the report on the test split (None if unjudged), the workdir."""

    history: list[logs.Row]
    test: dict[str, Any] | None
    workdir: Path

    def __repr__(self) -> str:
        test = f"accuracy {self.test['accuracy']:.4f}" if self.test and "accuracy" in self.test else "none"
        return f"Result(workdir={str(self.workdir)!r}, test={test}, history of {len(self.history)} rows)"


class _Session(NamedTuple):
    """What the loop works with, beside the state that it trains."""

    setup: TrainingSetup
    checkpoints: Checkpoints
    log: logs.Log
    received: list[int]  # signals
    before_step: Callable[[int], None] | None = None  # called with the number of steps taken, from 0

    def signal(self, vote: int = 0) -> int:
        """The signal that all hosts act upon, 0 for none."""
        return multihost.heard(self.received, vote)


def _is_evaluated(step: int, setup: TrainingSetup) -> bool:
    return step == setup.num_steps or timing.is_due(step, setup.run.config, len(setup.data.train))


def _is_stop(step: int, setup: TrainingSetup) -> bool:
    """Says whether the state is saved after a step, or evaluated too."""
    every = setup.run.execution.save_every
    return bool(every and step % every == 0) or _is_evaluated(step, setup)


def _dispatches(setup: TrainingSetup, first: int) -> Iterator[range]:
    """Gives the numbers of the steps from `first` on, those together that are dispatched at once, up to a stop."""
    most = NUM_AT_ONCE if setup.train_steps else 1
    numbers = range(first, first)
    while numbers.stop <= setup.num_steps:
        block = range(numbers.stop, numbers.stop + most)
        numbers = next((range(block[0], step + 1) for step in block if _is_stop(step, setup)), block)
        yield numbers


def _validated(session: _Session, state: TrainState) -> Sums:
    """Gives the values and scores of the state on validation. Raises Stopped where a signal ends it."""
    setup = session.setup
    run, split = setup.run, setup.data.validation
    assert split is not None
    params, model_state = state.ema or (state.params, state.model_state)
    values, predictions = inference.infer_split(
        setup.eval_step,
        params,
        model_state,
        split,
        batch_size=run.execution.eval_batch_size,
        mesh=run.mesh,
        stop=lambda: session.signal() > 0,
    )
    if np.isfinite(predictions).all():
        values |= run.task.score(*split.judged(predictions))
    if multihost.is_first():
        reports.draw_step(session.log.folder, int(state.step), predictions)
    return values


def _evaluated(session: _Session, state: TrainState, sums: Sums) -> bool:
    """Evaluates the state just saved, logs the rows, gives its checkpoint the values; False where a signal ends it.

    Raises FloatingPointError where all steps that it reports were skipped.
    """
    setup, step = session.setup, int(state.step)
    place = {"step": step, "epoch": step * setup.run.config.step_size / len(setup.data.train)}
    train = timing.means(sums, step=step, rate=float(setup.schedule(step - 1)))
    rows: list[logs.Row] = [{**place, "split": "train", **train}]
    values: Sums = {}
    if setup.data.validation is not None:
        try:
            values = _validated(session, state)
        except Stopped:
            return False
        rows.append({**place, "split": "validation", **values})
    num_images = timing.num_steps(sums) * setup.run.config.step_size
    multihost.together(lambda: session.log.report(*rows, num_images=num_images))
    session.checkpoints.add_values(step, values)
    return True


def _ends_early(session: _Session, step: int) -> bool:
    """Says whether the config's patience is at an end, as all hosts read it from the log."""
    config, monitor = session.setup.run.config, session.setup.run.task.monitor
    if config.patience is None or monitor is None or step == session.setup.num_steps:
        return False
    from jaxvision.engine.early_stopping import is_exhausted

    rows = logs.read_rows(session.log.folder / "metrics.jsonl")
    ended = multihost.from_first(str(is_exhausted(rows, monitor, config.patience))) == "True"
    if ended:
        session.log.say(f"ends early, at step {step}: {config.patience} evaluations brought no better {monitor.name}")
    return ended


def _add(session: _Session, sums: Sums, steps: range, means: Any) -> Sums:
    """Adds the values of steps that were dispatched at once to the sums, when they have finished."""
    for step, values in zip(steps, timing.finished(means, len(steps)), strict=True):
        sums = timing.with_step(sums, step, values, on_nonfinite=session.setup.run.execution.on_nonfinite)
        session.log.step(values)
    return sums


def _loop(session: _Session, state: TrainState, sums: Sums, clock: timing.Clock) -> tuple[int, int]:
    """Trains to the end or until a host receives a signal: (the last step, which is saved, the signal or 0)."""
    setup, received = session.setup, session.received
    pending, votes = None, 0
    first = int(state.step) + 1
    for steps in _dispatches(setup, first):
        if session.before_step:
            session.before_step(steps[0] - first)
        batches = [clock.next() for _ in steps]
        if setup.train_steps:
            (state, means), vote = setup.train_steps(state, batches), 0  # of one host, whose devices hold the inputs
        else:
            state, means, vote = setup.train_step(state, batches[0], received[0] if received else 0)
        clock.dispatched(means)
        if pending is not None:  # the steps before: waiting for them bounds how far dispatch runs ahead
            sums, votes = _add(session, sums, *pending[:2]), pending[2]
        pending = steps, means, vote
        signal = session.signal(votes)
        if signal or _is_stop(steps[-1], setup):
            sums, votes, pending = clock.added(_add(session, sums, steps, means)), vote, None
            session.checkpoints.save(state, sums=sums)  # before the evaluation, in which then nothing can be lost
            evaluated = _is_evaluated(steps[-1], setup) and not signal and _evaluated(session, state, sums)
            sums = {} if evaluated else sums
            clock.skip()
            signal = session.signal(votes)
            if signal or (evaluated and _ends_early(session, steps[-1])):
                return steps[-1], signal
    return setup.num_steps, 0


def _fit(setup: TrainingSetup, path: Path, checkpoints: Checkpoints, before: Any, *, profile: bool) -> None:
    """Trains from where the checkpoints stand to the end."""
    made, begins_with = setup.make_state()
    state, sums = checkpoints.restore(made, setup.run.mesh)
    start, config = int(state.step), setup.run.config
    is_unreported = bool(sums) and (start == setup.num_steps or timing.is_due(start, config, len(setup.data.train)))
    with contextlib.ExitStack() as held:
        sizes = {"num_steps": setup.num_steps, "batch_size": config.step_size, "start": start - is_unreported}
        log = held.enter_context(contextlib.closing(multihost.together(lambda: logs.Log(path, **sizes))))
        session = _Session(setup, checkpoints, log, [])
        if (start >= setup.num_steps or _ends_early(session, start)) and not is_unreported:
            log.say(f"{path}: finished already, at step {start}")
            return
        for line in reports.start_lines(setup, path, start=start, before=before, begins_with=begins_with):
            log.say(line)
        if config.cache_features:
            from jaxvision import probe

            setup = probe.on_features(setup, state.params, state.model_state)
        session = _Session(setup, checkpoints, log, held.enter_context(signals()))
        if is_unreported:  # a signal came before or in the evaluation of this step
            if not _evaluated(session, state, sums):
                raise Interrupted(session.received[0], path, start, setup.num_steps)
            if start >= setup.num_steps or _ends_early(session, start):
                return
            sums = {}
        batches = pipeline.train_batches(
            setup.source,
            config.step_size,
            seed=config.seed,
            start=start,
            rows=meshes.host_rows(config.step_size, setup.run.mesh),
            balanced=config.sampling == "balanced",
        )
        held.enter_context(contextlib.closing(batches))
        if profile:
            from jaxvision.engine.profiling import Profiler

            profiler = held.enter_context(contextlib.closing(Profiler(path / "profile")))
            session = session._replace(before_step=profiler.before_step)
        clock = held.enter_context(contextlib.closing(timing.Clock(batches)))
        last, signal = _loop(session, state, sums, clock)
        checkpoints.wait()
        if signal:
            raise Interrupted(signal, path, last, setup.num_steps)


def train(
    config: Config,
    *,
    execution: Execution = DEFAULT_EXECUTION,
    workdir: str | Path | None = None,
    data_dir: str | None = None,
    dataset: Dataset | dict[str, tuple[Any, Any]] | tuple[Any, Any] | None = None,
    plugins: Sequence[str] = (),
    profile: bool = False,
    choosing: bool = False,
) -> Result:
    """Trains what the config says, or goes on where the workdir stands, then tests the best checkpoint.

    `execution` says where and how. `dataset` stands in for config.dataset: a Dataset, arrays (images, labels), or
    {"train": (images, labels), …}; images are uint8, or floats in 0..1, [N, H, W] or [N, H, W, C]. Without workdir one
    is made below ./workdirs. `profile` writes a profile of a few steps into it, for TensorBoard or Perfetto. `choosing`
    leaves the test split alone: the run is one of several among which its values on validation choose.

    Raises ValueError for what does not fit, before anything is written; Interrupted after a signal, saved.
    """
    load_plugins(plugins)
    runtime.use_double(config.precision == "f64")
    config = config if dataset is None else config.replace(dataset=datas.IN_MEMORY)
    multihost.together(lambda: check_specs(config, execution, is_dataset_named=dataset is None))
    place = storage.to_path(multihost.from_first(str(workdir or workdirs.fresh(config))))
    before = workdirs.settings_in(place)
    found, preprocessing = None, None
    if config.init_from is not None:
        from jaxvision import pretrained

        found, preprocessing = multihost.first_alone(lambda: pretrained.open_for_run(config, place, plugins=plugins))
    data = multihost.first_alone(
        lambda: datas.open_dataset(config, data_dir=data_dir, dataset=dataset, preprocessing=preprocessing)
    )

    def prepared() -> TrainingSetup:
        run = runs.build(config, data, execution=execution, data_dir=data_dir, plugins=plugins)
        setup = prepare(run, data, found)
        if config.cache_features:
            from jaxvision import probe

            probe.check(setup)
        return setup

    setup = multihost.together(prepared)
    monitor = setup.run.task.monitor
    if choosing and (data.validation is None or monitor is None):
        raise ValueError(
            f"the task {config.task!r} has no value on validation to choose by: "
            + ("give --validation_fraction" if data.validation is None else "choose by eye, run by run")
        )
    multihost.check_same(
        {**dataclasses.asdict(config), **dataclasses.asdict(execution), "data": setup.run.signature.data}
    )
    with workdirs.entered(place, config, execution, setup.run.signature) as path:
        checkpoints = Checkpoints(path / "checkpoints", monitor=monitor, keep=execution.keep)
        with contextlib.closing(checkpoints):
            _fit(setup, path, checkpoints, before, profile=profile)
        is_tested = data.test is not None and not choosing
        test = evaluate_on(runs.load(path, plugins=plugins), data, plugins=plugins) if is_tested else None
    return Result(logs.read_rows(path / "metrics.jsonl"), test, path)
