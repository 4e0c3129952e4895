"""Contestants in their own processes take turns at the same work: images/s in each round."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.entrant import Entrant, absent, entered
from benchmarks.works import Work

CONTESTANTS = {  # name: module and its options besides the work
    "ours": ("ours", {}),
    "PyTorch": ("peer_torch", {"variant": "plain"}),
    "PyTorch channels_last": ("peer_torch", {"variant": "channels_last"}),
    "PyTorch compile": ("peer_torch", {"variant": "compile"}),
    "Keras on JAX": ("peer_keras", {}),
}
KINDS = ("train", "answer")
TOLERANCES = {"f32": 1e-4, "bf16": 3e-2}  # of losses and outputs for the same weights, relative to our largest
NUM_WARMING = 3  # warmup steps


class Raced(NamedTuple):
    """The results of contestants by name: images/s in each round by kind of work, and peak bytes of memory.

    `failed` has a one-line reason for each contestant that is out.
    """

    rates: dict[str, dict[str, list[float]]]
    memory: dict[str, float]
    failed: dict[str, str]
    versions: dict[str, str]


def race(
    work: Work,
    names: Sequence[str],
    *,
    kinds: Sequence[str],
    weights: Path,
    precision: str,
    num_rounds: int,
    seconds: float,
    tolerance: float | None = None,
) -> Raced:
    """Let contestants take turns: in each round, each works for about `seconds` at each kind of work.

    Raises ValueError if they do not compute the same from the same weights.
    """
    failed = {name: absent(name) for name in names if absent(name)}
    told = {"work": list(work), "weights": str(weights), "precision": precision}
    words = {
        name: ["benchmarks.contestant", CONTESTANTS[name][0], json.dumps({**told, **CONTESTANTS[name][1]})]
        for name in names
        if name not in failed
    }
    with contextlib.ExitStack() as stack:
        entrants = entered(stack, words)
        for what in ("outputs", "loss"):
            check({e.name: e.ask(what) for e in entrants}, what, tolerance=tolerance or TOLERANCES[precision])
        rates = {do: take_turns(entrants, do, work.batch_size, num_rounds, seconds) for do in kinds}
        memory = {e.name: e.ask("memory") for e in entrants}
        failed |= {e.name: e.failed for e in entrants if e.failed}
        versions = {name: version for e in entrants for name, version in e.versions.items()}
    return Raced(rates, {name: value for name, value in memory.items() if value}, failed, versions)


def take_turns(
    entrants: Sequence[Entrant],
    do: str,
    batch_size: int,
    num_rounds: int,
    seconds: float,
    *,
    before: str = "",
    pause: float = 0.0,
) -> dict[str, list[float]]:
    """Let contestants take turns of about `seconds`; return images/s in each round by name.

    The request `before` precedes each turn and is not measured, nor is a pause, in which prefetching contestants fill
    their buffers.
    """
    counts = {}
    for each in entrants:
        each.ask(do, num_steps=1)  # compiles
        took = each.ask(do, num_steps=NUM_WARMING - 1)
        counts[each.name] = max(1, round(seconds / (took / (NUM_WARMING - 1)))) if took else 1
    rates: dict[str, list[float]] = {each.name: [] for each in entrants}
    for _ in range(num_rounds):
        for each in entrants:
            time.sleep(pause)
            if before:
                each.ask(before)
            took = each.ask(do, num_steps=counts[each.name])
            if took:
                rates[each.name].append(counts[each.name] * batch_size / took)
    return rates


def check(found: dict[str, Any], what: str, *, tolerance: float) -> None:
    """Raise ValueError if a contestant's numbers differ from ours; None stands for one that is out."""
    if found.get("ours") is None:
        return
    ours = np.asarray(found["ours"])
    for name, values in found.items():
        away = 0.0 if values is None else float(np.abs(np.asarray(values) - ours).max() / np.abs(ours).max())
        if not away <= tolerance:  # also true for NaN
            raise ValueError(f"{name} does not do the same work as ours: its {what} differs by {away:.1e} of ours")
