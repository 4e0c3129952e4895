"""A contestant in its own process: reads requests and writes responses, each a line of JSON.

`python -m benchmarks.contestant peer_torch '{"work": …}'`; while it works, the others wait.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def speaking() -> Callable[[Any], None]:
    """Return the function that responds, and redirect the output of libraries to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return lambda value: print(json.dumps(value), file=answers)


def versions(libraries: Sequence[str]) -> dict[str, str]:
    """Return the first response of a contestant: the versions of its libraries."""
    return {name: importlib.metadata.version(name) for name in libraries}


def _peak_memory() -> int:
    """Return the peak bytes of this process. Linux' rusage does not work: it starts from the parent's."""
    status = Path("/proc/self/status")
    peaks = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")] if status.exists() else []
    return 1024 * (int(peaks[0].split()[1]) if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _answered(contestant: Any, request: dict[str, Any]) -> Any:
    do = request.pop("do")
    if do == "loss":
        return contestant.loss()
    if do == "outputs":
        return contestant.outputs().tolist()
    if do == "memory":
        return contestant.device_memory() or _peak_memory()
    begun = time.perf_counter()
    getattr(contestant, do)(**request)
    return time.perf_counter() - begun


def main(module: str, options: str) -> None:
    answer = speaking()
    peer = importlib.import_module(f"benchmarks.{module}")
    contestant = peer.Contestant(**json.loads(options))
    answer(versions(peer.LIBRARIES))
    for line in sys.stdin:
        answer(_answered(contestant, json.loads(line)))


if __name__ == "__main__":
    main(*sys.argv[1:])
