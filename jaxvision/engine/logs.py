"""Rows of figures -> metrics.jsonl, TensorBoard where it is installed, and the terminal."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from jaxvision import storage
from jaxvision.distributed import multihost

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Read metrics.jsonl; a last line that a kill cut short is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def drop_rows(path: Path, *, after: int) -> None:
    """Drop the rows beyond a step: those that a resumed run will write again."""
    kept = [row for row in read_rows(path) if row["step"] <= after]
    if path.exists():
        storage.write_text(path, "".join(json.dumps(row) + "\n" for row in kept))


class _TensorBoard:
    """TensorBoard's event file, written at each report: tensorboardX's own thread would print pages on a full disk."""

    def __init__(self, folder: Path, *, start: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]

        folder.mkdir(exist_ok=True)
        self._make_event = Event
        self._writer = EventsWriter(str(folder / "events"), filename_suffix=f".{os.getpid()}")
        self._write(step=start + 1, session_log=SessionLog(status=SessionLog.START))  # what was beyond is dropped

    def _write(self, **content: Any) -> None:
        self._writer.write_event(self._make_event(wall_time=time.time(), **content))

    def report(self, row: Row) -> None:
        from tensorboardX.summary import scalar

        for name, value in row.items():
            if isinstance(value, float):
                self._write(step=row["step"], summary=scalar(f"{row['split']}/{name}", value))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _tensorboard(folder: Path, *, start: int) -> _TensorBoard | None:
    """Return the event file, None where the extra is not installed."""
    return _TensorBoard(folder, start=start) if importlib.util.find_spec("tensorboardX") else None


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def format_values(row: Row) -> str:
    """Write the figures of a row that people look at: loss and the like, without where and when."""
    shown = {k: v for k, v in row.items() if k not in ("step", "epoch", "split", "seconds", "waiting", "learning_rate")}
    return " ".join(f"{name} {value:.4f}" for name, value in shown.items())


def progress(total: int, description: str, *, initial: int = 0, leave: bool = False) -> Any:
    """Make a bar that counts images, shown where there is a terminal."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=description,
        initial=initial,
        leave=leave,
        unit="img",
        unit_scale=True,
        dynamic_ncols=True,
        disable=not (sys.stderr.isatty() and multihost.is_first()),
    )


class Log:
    """The log of a run under way. A bar where there is a terminal; a line for each report everywhere.

    Of several hosts, the first alone writes and speaks.
    """

    def __init__(self, workdir: Path, *, num_steps: int, batch_size: int, start: int):
        self.folder = workdir
        self._is_first = multihost.is_first()
        path = workdir / "metrics.jsonl" if self._is_first else Path(os.devnull)
        if self._is_first:
            drop_rows(path, after=start)
        self._file = path.open("a")
        self._tensorboard: _TensorBoard | None = None  # from the first report on: its library takes seconds to import
        self._num_steps, self._batch_size = num_steps, batch_size
        self._start, self._began = start, time.perf_counter()
        self._bar = progress(num_steps * batch_size, "train", initial=start * batch_size, leave=True)

    def step(self, means: dict[str, float]) -> None:
        """Move the bar by one step, beside the step's values."""
        self._bar.set_postfix({k: f"{v:.3f}" for k, v in means.items()}, refresh=False)
        self._bar.update(self._batch_size)

    def report(self, *rows: Row, num_images: int) -> None:
        """Write rows of one step, train's and those of other splits, and one line for people.

        num_images were trained on for it.
        """
        if self._is_first and self._tensorboard is None:
            self._tensorboard = _tensorboard(self.folder / "tensorboard", start=self._start)
        for row in rows:
            self._file.write(json.dumps(row) + "\n")
            if self._tensorboard:
                self._tensorboard.report(row)
        self._file.flush()
        step = rows[0]["step"]
        speed = f"{num_images / rows[0]['seconds']:,.0f} images/s, {rows[0]['waiting']:.0%} waiting"
        left = (self._num_steps - step) * (time.perf_counter() - self._began) / (step - self._start)
        place = f"step {step}/{self._num_steps} epoch {rows[0]['epoch']:.1f}"
        figures = (f"{row['split']} {format_values(row)}" for row in rows)
        self.say(" | ".join([place, *figures, f"{speed}, {_clock(left)} left"]))

    def say(self, line: str) -> None:
        """Print a line without breaking the bar."""
        if self._is_first:
            self._bar.write(line, file=sys.stdout)
            sys.stdout.flush()

    def close(self) -> None:
        """Close the files and the bar. All that counts is written: a disk that failed before does so again here."""
        self._bar.close()
        for file in filter(None, (self._file, self._tensorboard)):
            with contextlib.suppress(OSError):
                file.close()
