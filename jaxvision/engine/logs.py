"""Log metrics to metrics.jsonl, to the terminal, and to the loggers of the run."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import shutil
import sys
import textwrap
import time
import warnings
from pathlib import Path
from typing import Any

from jaxvision import registry, specs, storage
from jaxvision.config import Execution
from jaxvision.distributed import multihost

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Read the rows of metrics.jsonl, without a last line that a kill cut short; warn about other damaged lines."""
    rows, damaged = [], []
    for number, line in enumerate(storage.read_file(path).splitlines(keepends=True) if path.exists() else (), 1):
        try:
            rows.append(_checked(json.loads(line)))
        except (ValueError, TypeError, KeyError, RecursionError):
            damaged += [number] * line.endswith(b"\n")
    if damaged:
        warnings.warn(f"{path}: ignores {len(damaged)} damaged lines, the first is line {damaged[0]}", stacklevel=2)
    return rows


def _checked(row: Row) -> Row:
    """Return a row. Raises ValueError, TypeError or KeyError if it has no step, epoch or split, or other texts."""
    numbers = [row["epoch"], *(value for name, value in row.items() if name != "split")]
    is_huge = any(abs(value) >= 2**63 and isinstance(value, int) for value in numbers)
    if type(row["step"]) is not int or not isinstance(row["split"], str) or is_huge:
        raise ValueError
    return row


def drop_rows(path: Path, *, after: int) -> None:
    """Drop the rows after a step, which a resumed run writes again."""
    kept = [row for row in read_rows(path) if row["step"] <= after]
    if path.exists():
        storage.write_text(path, "".join(json.dumps(row) + "\n" for row in kept))


def _open_loggers(folder: Path, *, start: int) -> list[Any]:
    """Open the loggers that execution.json names, or else TensorBoard's event files, if it is installed."""
    path = folder / "execution.json"
    named = Execution.load(path).loggers if path.exists() else ""
    default = "tensorboard" if importlib.util.find_spec("tensorboardX") else ""
    return [registry.loggers.build(s, folder=folder, start=start) for s in specs.parse_list(named or default)]


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def format_values(row: Row) -> str:
    """Return the metrics of a row as text, without epoch, step, split, times and learning rate."""
    hidden = ("step", "epoch", "split", "seconds", "data_wait_fraction", "learning_rate")
    return " ".join(f"{name} {value:.4f}" for name, value in row.items() if name not in hidden)


def _broken(line: str) -> str:
    """Return a line; on a terminal, break it at " | " into indented lines that fit its width."""
    lines: list[str] = []
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else len(line)
    for part in line.split(" | "):
        if lines and len(f"{lines[-1]} | {part}") <= width:
            lines[-1] += f" | {part}"
        else:
            lines += textwrap.wrap(part, max(width, 3), initial_indent="  " * bool(lines), subsequent_indent="  ")
    return "\n".join(lines)


def progress(total: int | None, description: str, *, initial: int = 0, leave: bool = False) -> Any:
    """Return a progress bar that counts images; it is hidden without a terminal or notebook."""
    from tqdm.auto import tqdm  # a notebook's bar there, a line of text where ipywidgets are missing

    has_display = sys.stderr.isatty() or "ipykernel.zmqshell" in sys.modules  # by which tqdm knows a notebook, too
    style = {"unit": "img", "unit_scale": True, "dynamic_ncols": True}
    hidden = not (has_display and multihost.is_main_process())
    return tqdm(total=total, desc=description, initial=initial, leave=leave, disable=hidden, **style)


class Log:
    """The log of a run: a row and a printed line for each evaluation, and a progress bar on a terminal.

    Only the main process writes and prints.
    """

    def __init__(self, workdir: Path, *, num_steps: int, batch_size: int, start: int):
        self.folder = workdir
        self._is_first = multihost.is_main_process()
        self._path = workdir / "metrics.jsonl"
        if self._is_first:
            drop_rows(self._path, after=start)
        self._loggers: list[Any] | None = None  # from the first report on: their libraries take seconds to import
        self._num_steps, self._batch_size = num_steps, batch_size
        self._start, self._has_stepped = start, False
        self._since: tuple[int, float] | None = None  # step and time of the first report after steps: all is compiled
        self._bar = progress(num_steps * batch_size, "train", initial=start * batch_size, leave=True)

    def step(self, means: dict[str, float]) -> None:
        """Advance the bar by one step, and show the metrics of the step."""
        if not self._has_stepped:
            self._bar.unpause()  # its clock begins here, after compilation
            self._has_stepped = True
        self._bar.set_postfix({k: f"{v:.3f}" for k, v in means.items()}, refresh=False)
        self._bar.update(self._batch_size)

    def report(self, *rows: Row, num_images: int) -> None:
        """Write the rows of one step, for train and other splits, and print a line.

        `num_images` is the number of training images since the last report, 0 before the first step.
        """
        if self._is_first and self._loggers is None:
            self._loggers = _open_loggers(self.folder, start=self._start)
        if self._is_first:
            storage.append_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        for row, logger in itertools.product(rows, self._loggers or ()):
            logger.report(row)
        step = rows[0]["step"]
        waiting = rows[0].get("data_wait_fraction", 0.0)
        rate = (
            f" | {num_images / rows[0]['seconds']:,.0f} images/s, {waiting:.0%} waiting for data" if num_images else ""
        )
        left, now = "", time.perf_counter()
        if self._since:
            left = f", {_clock((self._num_steps - step) * (now - self._since[1]) / (step - self._since[0]))} left"
        elif self._has_stepped:
            self._since = step, now
        place = f"step {step}/{self._num_steps} epoch {rows[0]['epoch']:.1f}"
        figures = (f"{row['split']} {format_values(row)}" for row in rows)
        self.say(_broken(" | ".join([place, *figures]) + rate + left))

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self._is_first:
            self._bar.write(line, file=sys.stdout)
            sys.stdout.flush()

    def close(self) -> None:
        """Close the bar and the files; errors are ignored, because all rows are written already."""
        self._bar.close()
        for logger in self._loggers or ():
            with contextlib.suppress(OSError):
                logger.close()
