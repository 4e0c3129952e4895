"""Train a model from a config, write checkpoints and metrics to a workdir, and evaluate the one that counts on test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision import data as datas
from jaxvision import failures, reports, storage, upgrades
from jaxvision import run as runs
from jaxvision import workdir as workdirs
from jaxvision.config import DEFAULT_EXECUTION, Config, Execution
from jaxvision.distributed import mesh as meshes
from jaxvision.distributed import multihost, runtime
from jaxvision.engine import inference, logs, pipeline, timing
from jaxvision.engine.checkpoint import Checkpoints
from jaxvision.engine.signals import EvaluationInterrupted, Interrupted, catch_signals
from jaxvision.engine.timing import Sums
from jaxvision.evaluation import evaluate_on
from jaxvision.interfaces import Dataset, TrainState
from jaxvision.new_workdir import new_workdir
from jaxvision.plugins import load_plugins
from jaxvision.spec_check import check_specs
from jaxvision.training_setup import NUM_AT_ONCE, TrainingSetup, prepare


class Result(NamedTuple):
    """The rows of metrics.jsonl, the reports on test, or without a test split on validation, and the workdir."""

    history: list[logs.Row]
    test: reports.Report | None
    workdir: Path
    validation: reports.Report | None = None

    def __repr__(self) -> str:
        return reports.result_text(self)

    _repr_html_ = reports.result_html


class _Session(NamedTuple):
    """The constants of the training loop, as opposed to its state."""

    setup: TrainingSetup
    checkpoints: Checkpoints
    log: logs.Log
    received: list[int]  # signals
    before_step: Callable[[int], None] | None = None  # called with the number of steps taken, from 0

    def signal(self, vote: int = 0) -> int:
        """Return the signal that all hosts act upon, 0 for none."""
        return multihost.agreed_signal(self.received, vote)


def _is_evaluated(step: int, setup: TrainingSetup) -> bool:
    if step == 0:
        return setup.run.config.head_init == "probe" and setup.data.validation is not None
    return step == setup.num_steps or timing.should_evaluate(step, setup.run.config, len(setup.data.train))


def _should_save(step: int, setup: TrainingSetup) -> bool:
    """Return whether the state is saved after a step."""
    every = setup.run.execution.save_every
    return bool(every and step % every == 0) or _is_evaluated(step, setup)


def _dispatches(setup: TrainingSetup, first: int) -> Iterator[range]:
    """Yield the ranges of step numbers, from `first`, that are dispatched together, up to the next save."""
    most = NUM_AT_ONCE if setup.train_steps else 1
    numbers = range(first, first)
    while numbers.stop <= setup.num_steps:
        block = range(numbers.stop, numbers.stop + most)
        numbers = next((range(block[0], step + 1) for step in block if _should_save(step, setup)), block)
        yield numbers


def _validate(session: _Session, state: TrainState) -> Sums:
    """Compute the values and scores of the state on validation. Raises EvaluationInterrupted if a signal arrives."""
    setup = session.setup
    run, split = setup.run, setup.data.validation
    assert split is not None
    params, model_state = state.ema or (state.params, state.model_state)
    options = {"batch_size": run.execution.eval_batch_size, "mesh": run.mesh, "stop": lambda: session.signal() > 0}
    values, outputs = inference.infer_split(setup.eval_step, params, model_state, split, **options)
    if np.isfinite(outputs.predictions).all():
        values |= inference.metrics_of(run.task, split, outputs)
    if multihost.is_main_process():
        reports.draw_step(session.log.folder, int(state.step), outputs.predictions)
    return values


def _evaluate_and_log(session: _Session, state: TrainState, sums: Sums) -> bool:
    """Evaluate the state just saved, log its metrics and add them to its checkpoint; return False if interrupted.

    Raises FloatingPointError if all reported steps were skipped.
    """
    setup, step = session.setup, int(state.step)
    position = {"step": step, "epoch": step * setup.run.config.effective_batch_size / len(setup.data.train)}
    train = timing.means(sums, step=step, rate=float(setup.schedule(step - 1))) if step else {}
    rows: list[logs.Row] = [{**position, "split": "train", **train}] if step else []
    values: Sums = {}
    if setup.data.validation is not None:
        try:
            values = _validate(session, state)
        except EvaluationInterrupted:
            return False
        rows.append({**position, "split": "validation", **values})
    num_images = timing.num_steps(sums) * setup.run.config.effective_batch_size
    multihost.run_on_all_hosts(lambda: session.log.report(*rows, num_images=num_images))
    session.checkpoints.add_values(step, values)
    return True


def _should_stop_early(session: _Session, step: int) -> bool:
    """Return whether patience is exhausted; all hosts agree, as the main process reads the log for them."""
    config, monitor = session.setup.run.config, session.setup.run.task.monitor
    if config.patience is None or monitor is None or step == session.setup.num_steps:
        return False
    from jaxvision.engine.early_stopping import is_exhausted

    return is_exhausted(session.log, step, monitor=monitor, patience=config.patience)


def _add(session: _Session, sums: Sums, steps: range, means: Any) -> Sums:
    """Wait for steps that were dispatched together and add their values to the sums."""
    for step, values in zip(steps, timing.finished(means, len(steps)), strict=True):
        sums = timing.with_step(sums, step, values, on_nonfinite=session.setup.run.execution.on_nonfinite)
        session.log.step(values)
    return sums


def _loop(session: _Session, state: TrainState, sums: Sums, clock: timing.StepTimer) -> tuple[int, int]:
    """Train to the end or until a host receives a signal; return (last step, which is saved, signal or 0)."""
    setup, received = session.setup, session.received
    pending, votes = None, 0
    first = int(state.step) + 1
    for steps in _dispatches(setup, first):
        if session.before_step:
            session.before_step(steps[0] - first)
        batches = [clock.next() for _ in steps]
        if setup.train_steps:
            (state, means), vote = setup.train_steps(state, batches), 0  # one host, whose devices hold the inputs
        else:
            state, means, vote = setup.train_step(state, batches[0], received[0] if received else 0)
        clock.dispatched(means)
        if pending is not None:  # waiting for the previous steps bounds how far dispatch runs ahead
            sums, votes = _add(session, sums, *pending[:2]), pending[2]
        pending = steps, means, vote
        signal = session.signal(votes)
        if signal or _should_save(steps[-1], setup):
            sums, votes, pending = clock.added(_add(session, sums, steps, means)), vote, None
            session.checkpoints.save(state, sums=sums)  # before the evaluation, so that a crash in it loses nothing
            evaluated = _is_evaluated(steps[-1], setup) and not signal and _evaluate_and_log(session, state, sums)
            sums = {} if evaluated else sums
            clock.skip()
            signal = session.signal(votes)
            if signal or (evaluated and _should_stop_early(session, steps[-1])):
                return steps[-1], signal
    return setup.num_steps, 0


def _fit(setup: TrainingSetup, path: Path, checkpoints: Checkpoints, previous: Any, *, profile: bool) -> None:
    """Train from the latest checkpoint to the end."""
    initial_state, weights_note = setup.make_state()
    state, sums = checkpoints.restore(initial_state, setup.run.mesh)
    start, config, batch_size = int(state.step), setup.run.config, setup.run.config.effective_batch_size
    if config.head_init == "probe" and not checkpoints.steps():
        checkpoints.save(state, sums=sums)
    is_unreported = (bool(sums) or start == 0) and _is_evaluated(start, setup)
    with contextlib.ExitStack() as stack:
        sizes = {"num_steps": setup.num_steps, "batch_size": batch_size, "start": start - is_unreported}
        log = stack.enter_context(contextlib.closing(multihost.run_on_all_hosts(lambda: logs.Log(path, **sizes))))
        session = _Session(setup, checkpoints, log, [])
        if (start >= setup.num_steps or _should_stop_early(session, start)) and not is_unreported:
            log.say(failures.already_finished(path, start, setup.num_steps))
            return
        for line in reports.start_lines(setup, path, start=start, previous=previous, weights_note=weights_note):
            log.say(line)
        if config.cache_features:
            from jaxvision import probe

            setup = probe.on_features(setup, state.params, state.model_state)
        session = _Session(setup, checkpoints, log, stack.enter_context(catch_signals()))
        if is_unreported:  # a signal arrived before or during the evaluation of this step
            if not _evaluate_and_log(session, state, sums):
                raise Interrupted(session.received[0], path, start, setup.num_steps)
            if start >= setup.num_steps or _should_stop_early(session, start):
                return
            sums = {}
        rows, is_balanced = meshes.local_slice(batch_size, setup.run.mesh), config.sampling == "balanced"
        options: dict[str, Any] = {"seed": config.seed, "start": start, "rows": rows, "balanced": is_balanced}
        batches = pipeline.train_batches(setup.source, batch_size, **options)
        stack.enter_context(contextlib.closing(batches))
        if profile:
            from jaxvision.engine.profiling import Profiler

            profiler = stack.enter_context(contextlib.closing(Profiler(path / "profile")))
            session = session._replace(before_step=profiler.before_step)
        clock = stack.enter_context(contextlib.closing(timing.StepTimer(batches)))
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
    is_trial: bool = False,
) -> Result:
    """Train a model, or resume the run in a workdir, then evaluate the checkpoint that counts on test.

    Args:
        config: What is learned: model, dataset, task, optimizer, schedule and so on.
        execution: Where and how the run is executed: mesh, checkpointing, evaluation batch size and so on.
        dataset: Data used in place of config.dataset: a Dataset, arrays (images, labels), or
            {"train": (images, labels), …}. Images are uint8, or floats in 0..1, [N, H, W] or [N, H, W, C].
        workdir: The folder of the run. If None, a new one in ./workdirs.
        data_dir: The folder of TensorFlow Datasets. Defaults to ~/tensorflow_datasets.
        plugins: Modules or .py files that register further models, datasets and so on.
        profile: Write a profile of a few steps into the workdir, for TensorBoard or Perfetto.
        is_trial: Skip the test split: the run is a trial that is ranked by its validation metrics.

    Returns:
        A Result with the logged metrics, the test report and the workdir.

    Raises:
        ValueError: The settings do not fit each other or the data.
        TypeError: A setting or an argument of a spec has the wrong type, or a plug-in returns the wrong one.
        OSError: Data or weights do not exist, or the workdir cannot be written.
        FloatingPointError: Training diverged.
        Interrupted: A signal arrived. The state has been saved.
    """
    if plugins:
        load_plugins(plugins)
    runtime.use_double(config.precision == "f64")
    config = config if dataset is None else config.replace(dataset=datas.IN_MEMORY)
    multihost.run_on_all_hosts(lambda: check_specs(config, execution, is_dataset_named=dataset is None))
    folder = storage.to_path(multihost.broadcast_from_main(str(workdir or new_workdir(config))))
    previous = workdirs.settings_in(folder)
    if previous is not None and upgrades.IMPLIED.keys() & previous[0].differences(config):
        config = upgrades.with_definitions_of(previous[0], config)
    weights, preprocessing = None, None
    if config.init_from is not None:
        from jaxvision import pretrained

        opened = partial(pretrained.open_for_run, config, folder, plugins=plugins)
        weights, preprocessing = multihost.run_on_all_hosts(opened)
    open_data = partial(datas.open_dataset, config, data_dir=data_dir, dataset=dataset, preprocessing=preprocessing)
    data = multihost.main_process_first(lambda: open_data(rules=datas.rules_of(folder)))

    if config.learning_rate == "auto":
        from jaxvision.range_test import with_tested_rate

        config = with_tested_rate(config, data, folder, execution=execution, previous=previous, weights=weights)

    def prepared() -> TrainingSetup:
        run = runs.build(config, data, execution=execution, data_dir=data_dir, plugins=plugins)
        setup = prepare(run, data, weights)
        if config.cache_features:
            from jaxvision import probe

            probe.check(setup)
        return setup

    setup = multihost.run_on_all_hosts(prepared)
    monitor = setup.run.task.monitor
    if is_trial and (data.validation is None or monitor is None):
        raise ValueError(failures.no_ranking_metric(config.task, has_validation=data.validation is not None))
    multihost.assert_equal({**vars(config), **vars(execution), "data": setup.run.signature.data})
    with workdirs.claim(folder, config, execution, setup.run.signature) as path:
        checkpoints = Checkpoints(path / "checkpoints", monitor=monitor, max_to_keep=execution.max_to_keep)
        with contextlib.closing(checkpoints):
            _fit(setup, path, checkpoints, previous, profile=profile)
        is_reported = datas.reported(data) in datas.splits_of(data) and not is_trial
        report = evaluate_on(runs.load(path, plugins=plugins), data, plugins=plugins) if is_reported else None
    on_test, on_validation = (None, report) if data.test is None else (report, None)
    return Result(logs.read_rows(path / "metrics.jsonl"), on_test, path, on_validation)
