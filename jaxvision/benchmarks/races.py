"""Contestants, each in a process of its own, take turns at the same work: medians, spreads and ratios."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxvision.benchmarks.works import Work

PEERS = {  # name: module, variant
    "ours": ("ours", ""),
    "PyTorch": ("peer_torch", "plain"),
    "PyTorch channels_last": ("peer_torch", "channels_last"),
    "PyTorch compile": ("peer_torch", "compile"),
    "Keras on JAX": ("peer_keras", ""),
}


class Entrant:
    """A contestant's process. `failed` says in a line why it is out, where it is."""

    def __init__(self, name: str, work: Work, weights: Path, precision: str) -> None:
        module, variant = PEERS[name]
        options = {"work": list(work), "weights": str(weights), "precision": precision, "variant": variant}
        command = [sys.executable, "-m", "jaxvision.benchmarks.contestant", module, json.dumps(options)]
        self.name, self.failed = name, ""
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self.versions = self._read() or {}

    def ask(self, do: str, **options: Any) -> Any:
        """Asks for "loss", "memory" in bytes, or "train" or "answer" for num_steps in seconds; None where it failed."""
        if self.failed:
            return None
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # what ended it is told by the reader
            print(json.dumps({"do": do, **options}), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._errors.seek(0)
        told = [line for line in self._errors.read().splitlines() if line.strip()]
        self.failed = told[-1][:200] if told else f"ended with status {self._process.wait()}"
        return None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()


class Result(NamedTuple):
    """Images/s of a contestant in each round, bytes of memory at most, and why it is out, if it is."""

    name: str
    rates: list[float]
    memory: float | None
    failed: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.rates)


def race(
    work: Work, names: Sequence[str], *, do: str, precision: str, num_rounds: int, seconds: float, weights: Path
) -> tuple[list[Result], dict[str, str]]:
    """Lets contestants take turns: each round, each of them works for about so many seconds. Gives versions too.

    Raises RuntimeError where they do not compute the same loss from the same weights.
    """
    entrants = [Entrant(name, work, weights, precision) for name in names]
    try:
        losses = {each.name: each.ask("loss") for each in entrants}
        _check(losses, tolerance=1e-4 if precision == "f32" else 3e-2)
        counts = {}
        for each in entrants:
            each.ask(do, num_steps=1)  # compiles
            took = each.ask(do, num_steps=2)
            counts[each.name] = max(1, round(seconds / (took / 2))) if took else 1
        rates: dict[str, list[float]] = {each.name: [] for each in entrants}
        for _ in range(num_rounds):
            for each in entrants:
                took = each.ask(do, num_steps=counts[each.name])
                if took:
                    rates[each.name].append(counts[each.name] * work.batch_size / took)
        found = [Result(e.name, rates[e.name], e.ask("memory"), e.failed) for e in entrants]
        versions = {name: version for each in entrants for name, version in each.versions.items()}
        return found, versions
    finally:
        for each in entrants:
            each.close()


def _check(losses: dict[str, float | None], *, tolerance: float) -> None:
    ours = losses["ours"]
    for name, loss in losses.items():
        if ours is not None and loss is not None and abs(loss - ours) > tolerance * abs(ours):
            raise RuntimeError(f"{name} computes the loss {loss} where ours is {ours}: they do not do the same work")
