"""Saving and restoring the state of a run: the only file that knows Orbax."""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision import parallel
from jaxvision.interfaces import TrainState

Best = tuple[str, str] | None  # the value that chooses, and "max" or "min"


def _split(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """What later verbs need, and what only training needs. Keys of random numbers are saved as their data."""
    model = {"params": state.params, "model_state": state.model_state, "ema": state.ema}
    return model, {"step": state.step, "opt_state": state.opt_state, "key": jax.random.key_data(state.key)}


@functools.cache
def _hush() -> None:
    """Keeps what Orbax's threads say to themselves: each step, and pages about a read that failed, after its error."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
    say = sys.unraisablehook

    def say_others(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            say(unraisable)

    sys.unraisablehook = say_others


def _digest(tree: Any) -> str:
    """A hash of all numbers of a tree: the storage itself does not notice a flipped bit."""
    digest = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


class Checkpoints:
    """The checkpoints of one folder: the newest `keep` and the best are kept. Saves run in the background."""

    def __init__(self, folder: Path, *, best: Best = None, keep: int = 2, read_only: bool = False):
        _hush()
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._best = best
        self._keep = keep
        self._scores: dict[int, float] = {}
        options = ocp.CheckpointManagerOptions(preservation_policy=self, create=not read_only, read_only=read_only)
        items = ("model", "training", "report")
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options, item_names=items)

        for step in self.steps():
            self._score(step, self._values(step))

    def _values(self, step: int) -> dict[str, float]:
        """Reads the validation values that a checkpoint carries; none where it is damaged."""
        args = self._ocp.args
        try:
            return self._manager.restore(step, args=args.Composite(report=args.JsonRestore()))["report"]["values"]
        except Exception:  # whatever its layers make of damaged bytes; who restores it is told
            return {}

    def _score(self, step: int, values: dict[str, float]) -> None:
        if self._best and math.isfinite(values.get(self._best[0], math.nan)):
            self._scores[step] = values[self._best[0]] * (1 if self._best[1] == "max" else -1)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Answers Orbax, which asks after each save: the newest are kept, and the best."""
        steps = [each.step for each in checkpoints]
        kept = {*steps[-self._keep :], *sorted(set(steps) & self._scores.keys(), key=self._rank)[-1:]}
        return [step in kept for step in steps]

    def _rank(self, step: int) -> tuple[float, int]:
        return self._scores.get(step, -math.inf), step

    def save(self, state: TrainState, *, values: dict[str, float], sums: dict[str, float]) -> None:
        """Saves the state at its step, with validation values (may be empty) and the sums of the report under way."""
        args = self._ocp.args
        model, training = _split(state)
        report = {"values": values, "sums": sums, "model": _digest(model), "training": _digest(training)}
        self._score(int(state.step), values)
        self._manager.save(
            int(state.step),
            args=args.Composite(
                model=args.StandardSave(model), training=args.StandardSave(training), report=args.JsonSave(report)
            ),
            force=True,
        )

    def steps(self) -> list[int]:
        """Lists the saved steps, oldest first."""
        return sorted(self._manager.all_steps())

    def ranked(self) -> list[int]:
        """Lists the saved steps, the best first, of equals the later; then those without the value, newest first."""

        return sorted(self.steps(), key=self._rank, reverse=True)

    def _read(self, step: int, likes: dict[str, Any]) -> dict[str, Any]:
        """Reads items of a checkpoint and its report. Raises ValueError where they are not what was saved."""
        args = self._ocp.args
        items = {name: args.StandardRestore(like) for name, like in likes.items()}
        try:
            found = dict(self._manager.restore(step, args=args.Composite(report=args.JsonRestore(), **items)).items())
        except Exception as error:  # whatever its many layers make of damaged bytes
            raise ValueError(f"cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
        for name in likes:
            if _digest(found[name]) != found["report"].get(name):
                raise ValueError(f"is damaged: its {name} is not what was saved")
        return found

    def _read_first(self, steps: list[int], likes: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Reads the first of the steps that is whole; warns of those passed over. Raises ValueError where none is."""
        damaged: dict[int, str] = {}
        for step in steps:
            try:
                found = self._read(step, likes)
            except ValueError as error:
                damaged[step] = str(error)
                continue
            for other, why in damaged.items():
                warnings.warn(f"the checkpoint of step {other} {why}; that of step {step} is taken", stacklevel=3)
            return step, found
        listed = "; ".join(f"that of step {step} {why}" for step, why in damaged.items())
        raise ValueError(f"none of the checkpoints in {self._manager.directory} can be read: {listed}")

    def restore(self, like: TrainState, mesh: Mesh) -> tuple[TrainState, dict[str, float]]:
        """Restores (state, sums of the report under way) of the newest whole checkpoint into the shapes of `like`.

        Those after it, damaged, are deleted. Without any checkpoint, gives `like` and no sums.
        """
        steps = self.steps()
        if not steps:
            return like, {}
        model, training = parallel.abstract(jax.eval_shape(_split, like), mesh)
        step, found = self._read_first(steps[::-1], {"model": model, "training": training})
        for other in steps:
            if other > step:
                self._manager.delete(other)
        rest = found["training"]
        state = TrainState(
            rest["step"],
            opt_state=rest["opt_state"],
            key=jax.random.wrap_key_data(rest["key"]),
            **found["model"],
        )
        return state, found["report"]["sums"]

    def restore_model(self, steps: list[int], params: Any, model_state: Any, mesh: Mesh) -> tuple[int, Any, Any]:
        """Restores (step, params, model_state) of the first of the steps that is whole, into the shapes given."""
        like = parallel.abstract({"params": params, "model_state": model_state, "ema": None}, mesh)
        step, found = self._read_first(steps, {"model": like})
        return step, found["model"]["params"], found["model"]["model_state"]

    def wait(self) -> None:
        """Waits until what was saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of the folder."""
        self._manager.wait_until_finished()
        self._manager.close()
