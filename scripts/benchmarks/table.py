"""The results as lines and a table for people, and as JSON."""

from __future__ import annotations

import datetime
import json
import platform
from pathlib import Path
from typing import NamedTuple

from jaxvision.machine import num_cores

MARKS = ("<!-- measured -->", "<!-- end -->")  # around the table in a file


class Row(NamedTuple):
    """One comparison. `ratio` is above 1 if we are ahead; spreads are (largest - smallest) / median."""

    work: str
    ours: float
    peer: str
    theirs: float
    ratio: float
    unit: str
    our_spread: float
    their_spread: float


class Measured(NamedTuple):
    """Rows, notes, and the versions of libraries."""

    rows: list[Row]
    notes: list[str]
    versions: dict[str, str]


def line(row: Row) -> str:
    """Return a row as text."""
    return (
        f"{row.work:52} {row.ours:10,.1f} {row.unit:8} {row.ratio:6.2f} x {row.peer} ({row.theirs:,.1f}); "
        f"spread {row.our_spread:.0%}, {row.their_spread:.0%}"
    )


def machine() -> dict[str, str]:
    """Return a description of the machine: processor, cores, devices, Python."""
    import jax

    names = [text.split(":", 1)[1].strip() for text in _lines("/proc/cpuinfo") if text.startswith("model name")]
    devices = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": str(num_cores()),
        "devices": f"{jax.device_count()} {devices}",
        "python": platform.python_version(),
    }


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines() if Path(file).is_file() else []


def check_files(*files: str | None) -> None:
    """Raise OSError for files that cannot be written, ValueError for a missing mark, before measuring."""
    for path in map(Path, filter(None, files)):
        if not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"no folder {str(path.parent)!r} to write {path.name!r} into")
        if path.is_dir():
            raise IsADirectoryError(f"{str(path)!r} is a folder; use a file in it")
        is_there = path.exists()
        try:
            path.open("a").close()
        except OSError as error:
            raise OSError(f"{str(path)!r} cannot be written ({error.strerror}); use another file") from None
        if not is_there:
            path.unlink()
        places = [path.read_text().find(mark) for mark in MARKS] if path.is_file() else [-1, -1]
        if max(places) >= 0 and not -1 < places[0] < places[1]:
            raise ValueError(f"{str(path)!r} needs both marks in this order: {' and '.join(MARKS)}")


def write_json(found: Measured, file: str) -> None:
    """Write the rows as JSON."""
    Path(file).write_text(json.dumps([row._asdict() for row in found.rows], indent=1) + "\n")


def write_markdown(found: Measured, file: str, *, command: str) -> None:
    """Write the table between its marks in a file, with the machine, the versions and the date.

    Text before the first mark and after the last is kept; a new file has only the table.
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
