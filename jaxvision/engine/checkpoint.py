"""Saving and restoring the state of a run: the only file that knows Orbax."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxvision import storage
from jaxvision.distributed import mesh as meshes
from jaxvision.distributed import multihost
from jaxvision.engine.integrity import digest, digest_of_values
from jaxvision.interfaces import Monitor, TrainState, Tree

VALUES = "values.json"  # in a checkpoint's folder: those of its evaluation, which follows it
SAVE_SECONDS = 180  # that processes wait for one another in a save; longer, and one of them could not write
Judged = tuple[Tree, Tree]  # (params, model_state), or the averages of both


def _split(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """What later verbs need, and what only training needs."""
    model = {"params": state.params, "model_state": state.model_state, "ema": state.ema}
    return model, {"step": state.step, "opt_state": state.opt_state, "key": state.key}


def _plain(state: TrainState) -> TrainState:
    """The state with its key of random numbers as plain data."""
    return state._replace(key=jax.random.key_data(state.key))


@functools.cache
def _hush() -> None:
    """Keeps what Orbax's threads say to themselves: each step, and pages about what failed, beside its error."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
    say = sys.unraisablehook

    def say_others(unraisable: Any) -> None:
        place = getattr(getattr(unraisable.object, "cr_code", None), "co_filename", "")
        if "orbax" not in place and "Event loop is closed" not in str(unraisable.exc_value):
            say(unraisable)

    sys.unraisablehook = say_others


def _finished(folder: Path) -> list[int]:
    """Lists the steps that are whole on disk, by their folders' names alone."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def _reason(error: BaseException) -> str:
    """What the system says is wrong, out of what the layers above make of it."""
    text = " ".join(str(error).split())
    if "barrier" in text or "DEADLINE_EXCEEDED" in text:
        return "another process could not write its part, or has ended"
    known = map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE))
    return next((reason for reason in known if reason in text), f"{type(error).__name__}: {text[:300]}")


class Checkpoints:
    """The checkpoints of one folder: the newest `keep` and the best are kept. Saves run in the background."""

    def __init__(self, folder: Path, *, monitor: Monitor | None = None, keep: int = 2, read_only: bool = False):
        _hush()
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._folder = folder.absolute()
        self._monitor = monitor
        self._keep = keep
        self._scores: dict[int, float] = {}
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self,
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,  # those that a kill left
            async_options=ocp.AsyncOptions(timeout_secs=SAVE_SECONDS),
        )
        items = ("model", "training", "report")
        self._manager = ocp.CheckpointManager(self._folder, options=options, item_names=items)

        for step in self.steps():
            self._score(step, self._values(step) or {})

    def _values(self, step: int) -> dict[str, float] | None:
        """Reads the values of a checkpoint's evaluation; None where none followed it, and where they are damaged."""
        try:
            content = json.loads((self._folder / str(step) / VALUES).read_text())
            if content["digest"] == digest_of_values(content["values"]):
                return content["values"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            pass
        warnings.warn(f"the values of the checkpoint of step {step} are damaged, and do not choose", stacklevel=2)
        return None

    def add_values(self, step: int, values: dict[str, float]) -> None:
        """Gives a checkpoint the validation values of its evaluation, which may be empty. Raises OSError."""
        self.wait()
        self._score(step, values)
        content = {"values": values, "digest": digest_of_values(values)}
        path = self._folder / str(step) / VALUES
        with self._writing():
            multihost.together(lambda: storage.write_json(path, content) if multihost.is_first() else None)

    def _score(self, step: int, values: dict[str, float]) -> None:
        if self._monitor and math.isfinite(values.get(self._monitor.name, math.nan)):
            self._scores[step] = self._monitor.key(values[self._monitor.name])

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Answers Orbax, which asks after each save: the newest are kept, and the best."""
        steps = [each.step for each in checkpoints]
        kept = {*steps[-self._keep :], *sorted(set(steps) & self._scores.keys(), key=self._rank)[-1:]}
        return [step in kept for step in steps]

    def _rank(self, step: int) -> tuple[float, int]:
        return self._scores.get(step, -math.inf), step

    def save(self, state: TrainState, *, sums: dict[str, float]) -> None:
        """Saves the state at its step, with the sums of the report under way."""
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
        """Tells in one line what keeps a checkpoint from being written, now or, as saves run behind, the one before."""
        try:
            yield
        except Exception as error:  # whatever its many layers make of a full or failing disk
            whole = ", ".join(map(str, _finished(self._folder))) or "none"
            raise OSError(
                f"a checkpoint cannot be written to {self._folder}: {_reason(error)}; whole are those of "
                f"steps: {whole}. Mend that, and the same command goes on from the last of them"
            ) from None

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
        wanted = args.Composite(report=args.JsonRestore(), **items)
        try:
            found = dict(multihost.together(lambda: self._manager.restore(step, args=wanted)).items())
        except Exception as error:  # whatever its many layers make of damaged bytes
            raise ValueError(f"cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
        report = found["report"]
        digests = {"digest": digest_of_values(report.get("sums")), **{name: digest(found[name]) for name in likes}}
        for name, saved in digests.items():
            if saved != report.get(name):
                raise ValueError(f"is damaged: its {'report' if name == 'digest' else name} is not what was saved")
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

        Those after it, damaged, are put aside. Without any checkpoint, gives `like` and no sums.
        """
        steps = self.steps()
        if not steps:
            return like, {}
        plain = jax.eval_shape(_plain, like)
        model, training = _split(meshes.abstract(plain, meshes.split_state(plain, mesh)))
        step, found = self._read_first(steps[::-1], {"model": model, "training": training})
        self._put_aside([other for other in steps if other > step])
        rest = found["training"]
        state = TrainState(
            rest["step"],
            opt_state=rest["opt_state"],
            key=jax.random.wrap_key_data(rest["key"]),
            **found["model"],
        )
        is_evaluated = self._values(step) is not None
        return state, {} if is_evaluated else found["report"]["sums"]

    def _put_aside(self, steps: list[int]) -> None:
        """Renames checkpoints that could not be read, so that their steps can be saved anew and nothing is lost."""
        if steps and multihost.is_first():
            for step in steps:
                place = self._folder / str(step)
                place.rename(place.with_name(f"damaged-{step}-{time.strftime('%Y%m%d-%H%M%S')}"))
        if steps:
            multihost.gather_texts("")  # the others wait
            self._manager.reload()

    def restore_model(self, steps: list[int], like: Judged, mesh: Mesh, *, ema: bool) -> tuple[int, Judged]:
        """Restores (step, (params, model_state)) of the first whole of the steps: the averages where there are some."""
        model = {"params": like[0], "model_state": like[1], "ema": like if ema else None}
        shardings = jax.tree.map(lambda _: meshes.replicated(mesh), model)
        step, found = self._read_first(steps, {"model": meshes.abstract(model, shardings)})
        model = found["model"]
        return step, tuple(model["ema"]) if ema else (model["params"], model["model_state"])

    def wait(self) -> None:
        """Waits until what was saved is on disk. Raises OSError where it cannot be written."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of the folder. Raises OSError as `wait` does: some errors show only here."""
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.close()


def exists(folder: Path) -> bool:
    """Says whether a folder has a finished checkpoint."""
    return bool(_finished(folder))
