"""Save and restore the state of a run: the only file that imports Orbax."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxvision import storage
from jaxvision.distributed import mesh as meshes
from jaxvision.distributed import multihost
from jaxvision.engine.integrity import digest
from jaxvision.interfaces import Monitor, TrainState, Tree
from jaxvision.storage import digest_of_values

VALUES = "values.json"  # in the folder of a checkpoint: the values of its evaluation, which follows the save
SAVE_SECONDS = 180  # timeout of a save; after it, another process is taken to have failed to write
Weights = tuple[Tree, Tree]  # (params, model_state), or the averages of both


def _split(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (what later commands need, what only training needs)."""
    model = {"params": state.params, "model_state": state.model_state, "ema": state.ema}
    return model, {"step": state.step, "opt_state": state.opt_state, "key": state.key}


def _plain(state: TrainState) -> TrainState:
    """Return the state with its random key as plain data."""
    return state._replace(key=jax.random.key_data(state.key))


@functools.cache
def _silence_logging() -> None:
    """Silence the loggers that Orbax uses, absl and asyncio: a line per step, tracebacks of raised errors."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
    hook = sys.unraisablehook

    def hook_others(unraisable: Any) -> None:
        file = getattr(getattr(unraisable.object, "cr_code", None), "co_filename", "")
        if "orbax" not in file and "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    sys.unraisablehook = hook_others


def _finished(folder: Path) -> list[int]:
    """Return the steps with a complete checkpoint on disk, going by folder names only."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


class Checkpoints:
    """The checkpoints in a folder. The newest `max_to_keep` and the best are kept; saves run in the background."""

    def __init__(self, folder: Path, *, monitor: Monitor | None = None, max_to_keep: int = 2, read_only: bool = False):
        _silence_logging()
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._folder = folder if storage.is_remote(folder) else folder.absolute()
        self._monitor = monitor
        self._max_to_keep = max_to_keep
        self._scores: dict[int, float] = {}
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self,
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,  # left by a killed run
            async_options=ocp.AsyncOptions(timeout_secs=SAVE_SECONDS),
        )
        items = ("model", "training", "report")
        self._manager = ocp.CheckpointManager(self._folder, options=options, item_names=items)

        for step in self.steps():
            self._score(step, self._values(step) or {})

    def _values(self, step: int) -> dict[str, float] | None:
        """Return the values of the evaluation of a checkpoint, or None if there are none or they are damaged."""
        try:
            content = json.loads((self._folder / str(step) / VALUES).read_text())
            if content["digest"] == digest_of_values(content["values"]):
                return content["values"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            pass
        warnings.warn(
            f"the values of the checkpoint of step {step} are damaged and ignored: the checkpoint is not ranked",
            stacklevel=2,
        )
        return None

    def add_values(self, step: int, values: dict[str, float]) -> None:
        """Add an evaluation's validation values, if any, to its checkpoint. Raises OSError or ValueError."""
        self.wait()
        is_scored = math.isfinite(values.get("loss", math.nan))  # the scores of other predictions are not computed
        if is_scored and self._monitor and self._monitor.name not in values:
            known = ", ".join(values)
            raise ValueError(
                f"the task monitors {self._monitor.name!r}, which is not among the validation metrics: {known}"
            )
        self._score(step, values)
        content = {"values": values, "digest": digest_of_values(values)}
        path = self._folder / str(step) / VALUES
        with self._writing():
            multihost.run_on_all_hosts(
                lambda: storage.write_json(path, content) if multihost.is_main_process() else None
            )

    def _score(self, step: int, values: dict[str, float]) -> None:
        if self._monitor and math.isfinite(values.get(self._monitor.name, math.nan)):
            self._scores[step] = self._monitor.key(values[self._monitor.name])

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Return which checkpoints to keep, the newest and the best; called by Orbax after each save."""
        steps = [each.step for each in checkpoints]
        kept = {*steps[-self._max_to_keep :], *sorted(set(steps) & self._scores.keys(), key=self._rank)[-1:]}
        return [step in kept for step in steps]

    def _rank(self, step: int) -> tuple[float, int]:
        return self._scores.get(step, -math.inf), step

    def save(self, state: TrainState, *, sums: dict[str, float]) -> None:
        """Save the state at its step, with the metric sums accumulated since the last report."""
        args = self._ocp.args
        model, training = _split(_plain(state))
        report = {"sums": sums, "digest": digest_of_values(sums), "model": digest(model), "training": digest(training)}
        with self._writing():
            self._manager.save(
                int(state.step),
                args=args.Composite(
                    model=args.StandardSave(model), training=args.StandardSave(training), report=args.JsonSave(report)
                ),
                force=True,
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise OSError with a one-line message if a checkpoint, this one or an earlier one, cannot be written."""
        try:
            yield
        except Exception as error:  # the type depends on which layer meets the full or failing disk
            from jaxvision import hints

            raise OSError(hints.unwritable_checkpoint(self._folder, error, _finished(self._folder))) from None

    def steps(self) -> list[int]:
        """Return the saved steps, oldest first."""
        return sorted(self._manager.all_steps())

    def ranked(self) -> list[int]:
        """Return the saved steps, best first and ties newest first; then those without a value, newest first."""

        return sorted(self.steps(), key=self._rank, reverse=True)

    def _read(self, step: int, likes: dict[str, Any]) -> dict[str, Any]:
        """Read items of a checkpoint and its report. Raises ValueError if they differ from what was saved."""
        args = self._ocp.args
        items = {name: args.StandardRestore(like) for name, like in likes.items()}
        requested = args.Composite(report=args.JsonRestore(), **items)
        try:
            items_read = dict(multihost.run_on_all_hosts(lambda: self._manager.restore(step, args=requested)).items())
        except Exception as error:  # the type depends on which layer meets the damaged bytes
            from jaxvision import hints

            raise ValueError(f"cannot be read: {hints.unreadable_checkpoint(error)}") from error
        report = items_read["report"]
        digests = {"digest": digest_of_values(report.get("sums")), **{name: digest(items_read[name]) for name in likes}}
        for name, saved in digests.items():
            if saved != report.get(name):
                raise ValueError(
                    f"is damaged: its {'report' if name == 'digest' else name} differs from what was saved"
                )
        return items_read

    def _read_first(self, steps: list[int], likes: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Read the first of the steps that is intact; warn about those skipped. Raises ValueError if none is."""
        damaged: dict[int, str] = {}
        for step in steps:
            try:
                items = self._read(step, likes)
            except ValueError as error:
                damaged[step] = str(error)
                continue
            for other, why in damaged.items():
                warnings.warn(f"the checkpoint of step {other} {why}; using that of step {step}", stacklevel=3)
            return step, items
        listed = "; ".join(f"that of step {step} {why}" for step, why in damaged.items())
        raise ValueError(f"no checkpoint in {self._manager.directory} can be read: {listed}")

    def restore(self, like: TrainState, mesh: Mesh) -> tuple[TrainState, dict[str, float]]:
        """Restore (state, metric sums) from the newest intact checkpoint into the shapes of `like`.

        Later checkpoints, which are damaged, are renamed. Without any checkpoint, return `like` and no sums.
        """
        steps = self.steps()
        if not steps:
            return like, {}
        plain = jax.eval_shape(_plain, like)
        model, training = _split(meshes.abstract(plain, meshes.state_shardings(plain, mesh)))
        step, items = self._read_first(steps[::-1], {"model": model, "training": training})
        if steps[-1] > step:
            from jaxvision.engine.quarantine import quarantine

            quarantine(self._folder, [other for other in steps if other > step])
            self._manager.reload()
        training_items = items["training"]
        state = TrainState(
            training_items["step"],
            opt_state=training_items["opt_state"],
            key=jax.random.wrap_key_data(training_items["key"]),
            **items["model"],
        )
        is_evaluated = self._values(step) is not None
        return state, {} if is_evaluated else items["report"]["sums"]

    def restore_model(self, steps: list[int], like: Weights, mesh: Mesh, *, ema: bool) -> tuple[int, Weights]:
        """Restore (step, (params, model_state)) from the first intact one of the steps; with `ema`, the averages."""
        model = {"params": like[0], "model_state": like[1], "ema": like if ema else None}
        shardings = jax.tree.map(lambda _: meshes.replicated(mesh), model)
        step, found = self._read_first(steps, {"model": meshes.abstract(model, shardings)})
        model = found["model"]
        return step, tuple(model["ema"]) if ema else (model["params"], model["model_state"])

    def wait(self) -> None:
        """Wait until everything is on disk. Raises OSError if it cannot be written."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait for saves and close the folder. Raises OSError as `wait` does: some errors only appear here."""
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.close()


def exists(folder: Path) -> bool:
    """Return whether a folder has a complete checkpoint."""
    return bool(_finished(folder))
