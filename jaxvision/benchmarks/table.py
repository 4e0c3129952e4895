"""All measurements in one go -> rows, a table for people, docs/benchmarks.md."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxvision.benchmarks import ours, races, starts
from jaxvision.benchmarks.works import WORKS

SECTIONS = ("train", "answer", "start", "loop")
MARKS = ("<!-- measured -->", "<!-- end -->")  # between which a file has its table


class Row(NamedTuple):
    """One comparison. `ratio` is above 1 where we are ahead; spreads are (largest - smallest) / median."""

    work: str
    ours: float
    peer: str
    theirs: float
    ratio: float
    unit: str
    our_spread: float
    their_spread: float


class Plan(NamedTuple):
    """How much is measured."""

    networks: tuple[str, ...]
    precisions: tuple[str, ...]
    batch_sizes: dict[str, int]
    num_rounds: int
    seconds: float


def plan(*, quick: bool) -> Plan:
    """The whole plan, or one that ends within minutes: two networks, the larger in small batches, float32."""
    sizes = {name: work.batch_size for name, work in WORKS.items()}
    if _platform() == "gpu":
        sizes["resnet50"] = 256
    if quick:
        return Plan(("cnn", "resnet18"), ("f32",), {**sizes, "resnet18": 32}, 3, 1.5)
    return Plan(tuple(WORKS), ("f32", "bf16"), sizes, 5, 5.0)


def _platform() -> str:
    import jax

    return jax.default_backend()


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)


def _compared(work: str, unit: str, found: dict[str, list[float]], *, more_is_better: bool) -> Iterator[Row]:
    """A row for each other contestant beside ours."""
    mine = found["ours"]
    for peer, values in found.items():
        if peer != "ours" and values and mine:
            one, other = statistics.median(mine), statistics.median(values)
            ratio = one / other if more_is_better else other / one
            yield Row(work, one, peer, other, ratio, unit, _spread(mine), _spread(values))


class Measured(NamedTuple):
    rows: list[Row]
    notes: list[str]
    versions: dict[str, str]


def measure(*, quick: bool, sections: Sequence[str] = SECTIONS, say: Callable[[str], None] = print) -> Measured:
    """Measures what the sections name, saying each row as it is known."""
    found = Measured([], [], {})
    chosen = plan(quick=quick)

    def keep(rows):
        for row in rows:
            found.rows.append(row)
            say(line(row))

    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.networks:
            work = WORKS[name]._replace(batch_size=chosen.batch_sizes[name])
            file = Path(folder) / f"{name}.npz"
            ours.write_weights(work, file)
            for precision in chosen.precisions:
                for do in (each for each in ("train", "answer") if each in sections):
                    options = {"precision": precision, "num_rounds": chosen.num_rounds, "seconds": chosen.seconds}
                    results, versions = races.race(work, list(races.PEERS), do=do, weights=file, **options)
                    found.versions.update(versions)
                    found.notes.extend(
                        f"{r.name} is out of {do} {name} {precision}: {r.failed}" for r in results if r.failed
                    )
                    what = f"{do} {name}, batch {work.batch_size}, {precision}"
                    rates = {r.name: r.rates for r in results}
                    keep(_compared(what, "images/s", rates, more_is_better=True))
                    memory = {r.name: [r.memory / 2**20] for r in results if r.memory and r.rates}
                    keep(_compared(f"{what}: peak memory", "MiB", memory, more_is_better=False))
        if {"start", "loop"} & set(sections):
            _starts(chosen, Path(folder), sections, keep)
    return found


def _starts(chosen: Plan, folder: Path, sections: Sequence[str], keep: Callable[[Any], None]) -> None:
    cold = [starts.ours(folder / f"cold{index}") for index in range(1 if chosen.num_rounds < 5 else 3)]
    starts.torch()  # so that its files have been read once, as ours have
    warm, theirs = [], []
    for _ in range(chosen.num_rounds):
        warm.append(starts.ours(folder / "cold0"))
        theirs.append(starts.torch())
    if "start" in sections:
        for field, what in (("first", "first step"), ("last", f"end of {starts.NUM_STEPS} steps")):
            for name, own in (("cold", cold), ("warm", warm)):
                times = {"ours": [getattr(s, field) for s in own], "PyTorch": [getattr(s, field) for s in theirs]}
                keep(_compared(f"command to {what}, {name} caches", "s", times, more_is_better=False))
    if "loop" in sections:
        _loop(folder, [start.rate for start in warm], chosen, keep)


def _loop(folder: Path, rates: list[float], chosen: Plan, keep: Callable[[Any], None]) -> None:
    """The loop with its input, log and progress beside the bare compiled step."""
    work = WORKS["cnn"]._replace(batch_size=starts.BATCH_SIZE)
    ours.write_weights(work, folder / "loop.npz")
    options = {"precision": "f32", "num_rounds": chosen.num_rounds, "seconds": 3.0}
    (bare,), _ = races.race(work, ["ours"], do="train", weights=folder / "loop.npz", **options)
    found = {"ours": rates, "our bare step": bare.rates}
    keep(_compared("loop: train cnn, batch 128, f32", "images/s", found, more_is_better=True))


def line(row: Row) -> str:
    """A row for people."""
    return (
        f"{row.work:52} {row.ours:10,.1f} {row.unit:8} {row.ratio:6.2f} x {row.peer} ({row.theirs:,.1f}); "
        f"spread {row.our_spread:.0%}, {row.their_spread:.0%}"
    )


def machine() -> dict[str, str]:
    """Names the machine: processor, cores, devices, Python."""
    import jax

    names = [text.split(":", 1)[1].strip() for text in _lines("/proc/cpuinfo") if text.startswith("model name")]
    devices = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": str(os.cpu_count()),
        "devices": f"{jax.device_count()} {devices}",
        "python": platform.python_version(),
    }


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines() if Path(file).is_file() else []


def write_json(found: Measured, file: str) -> None:
    """Writes the rows for machines."""
    Path(file).write_text(json.dumps([row._asdict() for row in found.rows], indent=1) + "\n")


def write_markdown(found: Measured, file: str, *, command: str) -> None:
    """Writes the table for people, with the machine, the versions and the date, between its marks in a file.

    What the file holds before the first mark and after the last stays; a new file has the table alone.
    """
    path, text = Path(file), _markdown(found, command)
    before, after = "", ""
    if path.exists():
        before, _, rest = path.read_text().partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
    path.write_text(f"{before}{MARKS[0]}\n{text}{MARKS[1]}{after or chr(10)}")


def _markdown(found: Measured, command: str) -> str:
    head = "| work | ours | peer | theirs | ratio | unit | spread of ours, theirs |\n|---|---|---|---|---|---|---|\n"
    rows = "".join(
        f"| {r.work} | {r.ours:,.1f} | {r.peer} | {r.theirs:,.1f} | {r.ratio:.2f} | {r.unit} | "
        f"{r.our_spread:.0%}, {r.their_spread:.0%} |\n"
        for r in found.rows
    )
    told = ", ".join(f"{name} {value}" for name, value in {**machine(), **found.versions}.items())
    notes = "".join(f"\n- {note}" for note in found.notes)
    return f"`{command}` on {datetime.date.today().isoformat()}: {told}.\n\n{head}{rows}{notes and notes + chr(10)}"
