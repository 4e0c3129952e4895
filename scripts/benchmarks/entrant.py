"""A contestant's process as the one who asks sees it: starts it, asks it, and ends it with all that it started."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LIBRARIES = {"PyTorch": ("torch", "torchvision"), "Keras": ("keras",)}  # what peers whose names begin so import
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # JAX would take most of a GPU, and others are on it too
PEERS_OWN = {"GLIBC_TUNABLES": ""}  # so that `runtime.keep_freed`, when they import from this package, is in vain


def environment(name: str) -> dict[str, str]:
    """Gives the environment of a contestant's process."""
    return {**(PEERS_OWN if name.startswith(tuple(LIBRARIES)) else {}), **os.environ, **ENVIRONMENT, **with_scripts()}


def with_scripts() -> dict[str, str]:
    """Gives the search path by which a process finds this folder's modules, before what is there already."""
    folders = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, folders))}


class Entrant:
    """A contestant: `python -m` the words given, while within `with`. `failed` says in a line why it is out."""

    def __init__(self, name: str, words: Sequence[str]) -> None:
        self.name, self.failed, self.versions = name, "", {}
        self._words = words

    def __enter__(self) -> Entrant:
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self._words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment(self.name),
            start_new_session=True,  # so that what it starts itself ends with it
        )
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):  # what was written to one that had ended already
                file.close()  # pyright: ignore[reportOptionalMemberAccess]

    def wait(self) -> None:
        """Waits until it is ready, and has told the versions of its libraries."""
        self.versions = self._read() or {}

    def ask(self, do: str, **options: Any) -> Any:
        """Asks it to do something and gives its answer; None where it failed."""
        if self.failed:
            return None
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # what ended it is told by the reader
            print(json.dumps({"do": do, **options}), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if line.endswith("\n"):
            return json.loads(line)
        status = self._process.wait()
        self._errors.seek(0)
        told = [line for line in self._errors.read().splitlines() if line.strip()]
        self.failed = told[-1][:200] if told else f"ended with status {status}"
        return None


def absent(name: str) -> str:
    """Says in a line what a peer misses, or "" where all that it imports is installed."""
    wanted = next((modules for start, modules in LIBRARIES.items() if name.startswith(start)), ())
    missing = [module for module in wanted if importlib.util.find_spec(module) is None]
    return f"{', '.join(missing)} not installed: pip install 'jaxvision[bench]'" if missing else ""


def entered(stack: contextlib.ExitStack, words: Mapping[str, Sequence[str]]) -> list[Entrant]:
    """Starts all contestants, by name, until the stack ends, and waits for them. What they need is installed."""
    entrants = [stack.enter_context(Entrant(name, each)) for name, each in words.items()]
    for each in entrants:
        each.wait()
    return entrants
