"""Client side of a contestant's process: start it, send requests, and end it with all processes that it started."""

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

LIBRARIES = {"PyTorch": ("torch", "torchvision"), "Keras": ("keras",)}  # imports of peers by the start of their names
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # JAX would allocate most of a GPU that others use too
PEERS_OWN = {"GLIBC_TUNABLES": ""}  # disables `runtime.keep_freed` when they import from this package


def environment(name: str) -> dict[str, str]:
    """Return the environment of a contestant's process."""
    return {**(PEERS_OWN if name.startswith(tuple(LIBRARIES)) else {}), **os.environ, **ENVIRONMENT, **with_scripts()}


def with_scripts() -> dict[str, str]:
    """Return a search path with this folder's modules first."""
    folders = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, folders))}


class Entrant:
    """A contestant, `python -m` with its arguments, that runs within `with`. `failed` has the reason why it is out."""

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
            start_new_session=True,  # so that its child processes end with it
        )
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):  # written to a process that had ended
                file.close()  # pyright: ignore[reportOptionalMemberAccess]

    def wait(self) -> None:
        """Wait until it is ready and has sent the versions of its libraries."""
        self.versions = self._read() or {}

    def ask(self, do: str, **options: Any) -> Any:
        """Send a request and return the response, or None if it failed."""
        if self.failed:
            return None
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # the reader reports why it ended
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
    """Return that libraries which a peer needs are missing, or "" if none is."""
    wanted = next((modules for start, modules in LIBRARIES.items() if name.startswith(start)), ())
    missing = [module for module in wanted if importlib.util.find_spec(module) is None]
    return f"{', '.join(missing)} not installed: pip install 'jaxvision[bench]'" if missing else ""


def entered(stack: contextlib.ExitStack, words: Mapping[str, Sequence[str]]) -> list[Entrant]:
    """Start all contestants by name until the stack closes, and wait for them. Their libraries are installed."""
    entrants = [stack.enter_context(Entrant(name, each)) for name, each in words.items()]
    for each in entrants:
        each.wait()
    return entrants
