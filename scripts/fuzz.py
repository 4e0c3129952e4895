"""Fuzz all readers: damaged specs, images, tables, arrays, weights and workdirs must be read or refused in one line.

`python scripts/fuzz.py --minutes=60` runs rounds over all targets, from --seed on, and prints a line for each target. A
failure is an exception that users would see as a traceback, a subprocess or a connection, more than 5 seconds, or 1 GiB
of memory. Its input is saved in --corpus, which each run replays first; the input of a case that kills the process is
the file `running` there. The exit status is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "fuzz"))
ROUND = 200  # cases of one target before the next


class Count:
    """What happened in the cases of one target."""

    def __init__(self) -> None:
        self.cases = self.accepted = 0
        self.seconds = self.slowest = 0.0
        self.failures: dict[str, Path] = {}  # the input of the first case, by message

    def line(self, name: str) -> str:
        """Return the counts as one line."""
        refused = self.cases - self.accepted
        speed = self.cases / max(self.seconds, 1e-9)
        return (
            f"{name:12} {self.cases:8,} cases  {self.accepted:8,} accepted  {refused:8,} refused or failed  "
            f"{speed:6,.0f}/s  slowest {self.slowest:.2f} s  {len(self.failures)} failures"
        )


def run_case(target, content: bytes, count: Count, corpus: Path) -> None:
    """Run one case, count it, and save its input if it fails."""
    from fuzz_guard import Failure, check  # pyright: ignore[reportMissingImports]

    running = corpus / target.name / "running"
    running.write_bytes(content)
    start = time.perf_counter()
    count.cases += 1
    try:
        count.accepted += check(target.read, content)
    except Failure as failure:
        message = str(failure)
        key = message.rpartition(" (")[2] or message[:60]
        if key not in count.failures:
            name = hashlib.sha256(content).hexdigest()[:16]
            count.failures[key] = corpus / target.name / name
            count.failures[key].write_bytes(content)
            print(f"{target.name}: {' '.join(message.split())[:300]}; input: {count.failures[key]}", flush=True)
    seconds = time.perf_counter() - start
    count.seconds += seconds
    count.slowest = max(count.slowest, seconds)
    running.unlink()


def run_round(target, number: int, count: Count, corpus: Path) -> None:
    """Run a round of cases of one target; the number of the round is its seed."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    @seed(number)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
    )
    @given(target.inputs)
    def case(content):
        run_case(target, content, count, corpus)

    case()


def main(argv: list[str]) -> int:
    """Fuzz until the time is over and return the exit status."""
    from fuzz_targets import targets  # pyright: ignore[reportMissingImports]

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60, help="how long; each target has a round at least")
    parser.add_argument("--cases", type=int, default=0, help="how many of each target at least, however long it takes")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first round")
    parser.add_argument("--targets", default="", help="names of targets, separated by commas (default: all)")
    parser.add_argument("--corpus", type=Path, default=ROOT / "tests" / "fuzz" / "corpus", help="folder of inputs")
    arguments = parser.parse_args(argv)
    chosen = [target for target in targets() if not arguments.targets or target.name in arguments.targets.split(",")]
    counts = {target.name: Count() for target in chosen}
    for target in chosen:
        (arguments.corpus / target.name).mkdir(parents=True, exist_ok=True)
        for file in sorted((arguments.corpus / target.name).iterdir()):
            if file.name == "running":
                file = file.rename(file.with_name(f"killed-{int(time.time())}"))
                print(f"{target.name}: the last run ended in a case; input: {file}", flush=True)
            run_case(target, file.read_bytes(), counts[target.name], arguments.corpus)
    end, number = time.monotonic() + 60 * arguments.minutes, arguments.seed
    while time.monotonic() < end or min(count.cases for count in counts.values()) < max(arguments.cases, 1):
        for target in chosen:
            run_round(target, number, counts[target.name], arguments.corpus)
        number += 1
    for name, count in counts.items():
        print(count.line(name))
    print(f"seeds {arguments.seed} to {number - 1}")
    return int(any(count.failures for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
