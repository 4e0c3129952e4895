"""One contestant in a process of its own: reads requests, a line of JSON each, and answers each with a line.

`python -m jaxvision.benchmarks.contestant peer_torch '{"work": …}'`; the machine is its own while it is asked.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import resource
import sys
import time
from typing import Any

import numpy as np

from jaxvision.benchmarks.works import Work


def _answered(contestant: Any, request: dict[str, Any]) -> Any:
    if request["do"] == "loss":
        return contestant.loss()
    if request["do"] == "memory":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    begun = time.perf_counter()
    getattr(contestant, request["do"])(request["num_steps"])
    return time.perf_counter() - begun


def main(module: str, options: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    given = json.loads(options)
    with np.load(given.pop("weights")) as file:
        tensors = dict(file)
    peer = importlib.import_module(f"jaxvision.benchmarks.{module}")
    contestant = peer.Contestant(Work(*given.pop("work")), tensors, **given)
    versions = {name: importlib.metadata.version(name) for name in peer.LIBRARIES}
    print(json.dumps(versions), file=answers)
    for line in sys.stdin:
        print(json.dumps(_answered(contestant, json.loads(line))), file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
