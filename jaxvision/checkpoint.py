"""Saving and restoring the state of a run: the only file that knows Orbax."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxvision import parallel
from jaxvision.interfaces import TrainState

Best = tuple[str, str] | None  # the value that chooses, and "max" or "min"


class Saved(NamedTuple):
    """A checkpoint that exists: its step, and the validation values it carries (empty where it carries none)."""

    step: int
    values: dict[str, float]


def _split(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """What later verbs need, and what only training needs. Keys of random numbers are saved as their data."""
    model = {"params": state.params, "model_state": state.model_state, "ema": state.ema}
    return model, {"step": state.step, "opt_state": state.opt_state, "key": jax.random.key_data(state.key)}


class Checkpoints:
    """The checkpoints of one folder: the newest `keep` and the best are kept. Saves run in the background."""

    def __init__(self, folder: Path, *, best: Best = None, keep: int = 2, read_only: bool = False):
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells each of its steps
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as managers

        self._ocp = ocp
        self._best = best
        policies: list[Any] = [managers.LatestN(n=keep)]
        if best:
            name, mode = best
            score = (lambda values: values[name]) if mode == "max" else (lambda values: -values[name])
            policies.append(managers.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy(policies), create=not read_only, read_only=read_only
        )
        items = ("model", "training", "report")
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options, item_names=items)

    def save(self, state: TrainState, *, values: dict[str, float], sums: dict[str, float]) -> None:
        """Saves the state at its step, with validation values (may be empty) and the sums of the report under way."""
        args = self._ocp.args
        model, training = _split(state)
        self._manager.save(
            int(state.step),
            args=args.Composite(
                model=args.StandardSave(model),
                training=args.StandardSave(training),
                report=args.JsonSave({"values": values, "sums": sums}),
            ),
            metrics=values or None,
            force=True,
        )

    def all(self) -> list[Saved]:
        """Lists what is saved, oldest first."""
        args = self._ocp.args
        restored = [
            (step, self._manager.restore(step, args=args.Composite(report=args.JsonRestore())))
            for step in sorted(self._manager.all_steps())
        ]
        return [Saved(step, item["report"]["values"]) for step, item in restored]

    def best(self) -> Saved | None:
        """Gives the checkpoint with the best value (the later one of equals); the newest where none carries it."""
        saved = self.all()
        if self._best:
            name, mode = self._best
            scored = [s for s in saved if name in s.values]
            if scored:
                return max(scored, key=lambda s: (s.values[name] if mode == "max" else -s.values[name], s.step))
        return saved[-1] if saved else None

    def latest_step(self) -> int | None:
        """Gives the newest saved step, or None."""
        return self._manager.latest_step()

    def restore(self, step: int, like: TrainState, mesh: Mesh) -> tuple[TrainState, dict[str, float]]:
        """Restores (state, sums of the report under way) into the shapes of `like`, on the mesh."""
        args = self._ocp.args
        model, training = parallel.abstract(jax.eval_shape(_split, like), mesh)
        found = self._manager.restore(
            step,
            args=args.Composite(
                model=args.StandardRestore(model),
                training=args.StandardRestore(training),
                report=args.JsonRestore(),
            ),
        )
        rest = found["training"]
        key = jax.random.wrap_key_data(rest["key"])
        return TrainState(rest["step"], opt_state=rest["opt_state"], key=key, **found["model"]), found["report"]["sums"]

    def restore_model(self, step: int, params: Any, model_state: Any, mesh: Mesh) -> tuple[Any, Any]:
        """Restores (params, model_state) alone, into the shapes given."""
        args = self._ocp.args
        like = parallel.abstract({"params": params, "model_state": model_state, "ema": None}, mesh)
        found = self._manager.restore(step, args=args.Composite(model=args.StandardRestore(like)))["model"]
        return found["params"], found["model_state"]

    def wait(self) -> None:
        """Waits until what was saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of the folder."""
        self._manager.wait_until_finished()
        self._manager.close()
