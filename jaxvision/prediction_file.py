"""A CSV file of predictions that is written batch by batch, and goes on where an interrupted command stopped."""

from __future__ import annotations

import csv
import io
import itertools
import sys
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from jaxvision import storage
from jaxvision.engine import logs
from jaxvision.prediction_rows import Table
from jaxvision.reports import prediction_table

REPAIR = "write to another --out, or delete it"


class Written(NamedTuple):
    """The number of rows of the file, of those that were there before, and of errors, with the first of these."""

    num_rows: int = 0
    num_resumed: int = 0
    num_errors: int = 0
    first_error: str = ""

    def add(self, rows: Iterable[list[str]], columns: list[str]) -> Written:
        """Count further rows."""
        rows = list(rows)
        errors = [row[-1] for row in rows if columns[-1] == "error" and row[-1]]
        first = self.first_error or next(iter(errors), "")
        return self._replace(
            num_rows=self.num_rows + len(rows), num_errors=self.num_errors + len(errors), first_error=first
        )


def record_of(out: Path) -> Path:
    """Return the file beside a table that states which model wrote it."""
    return out.with_name(f"{out.name}.json")


def write(table: Table, names: Iterable[str], out: Path) -> Written:
    """Write a row for each file, and go on after the rows that an interrupted command of the same model left.

    A finished table of the same model is replaced. Raises ValueError if the file has the rows of another model, other
    columns or other files, or if another process writes it.
    """
    if out.exists() and not out.is_file():  # a pipe or a device
        with out.open("w", **prediction_table.TEXT) as file:
            return write_to(table, names, file)
    with out.open("a+b") as binary:
        _lock(binary, out)
        record = _read_record(out)
        total, names = _length(names), iter(names)
        written, end, names = _resume(table, names, binary, out, record)
        binary.truncate(end)
        record = {"model": table.model, "columns": table.columns}
        storage.write_json(record_of(out), record)
        with io.TextIOWrapper(binary, **prediction_table.TEXT) as file:
            written = write_to(table, names, file, written, total=total, has_header=end > 0)
        storage.write_json(record_of(out), {**record, "num_rows": written.num_rows})
    return written


def write_to(
    table: Table,
    names: Iterable[str],
    file: TextIO,
    written: Written | None = None,
    *,
    total: int | None = None,
    has_header: bool = False,
) -> Written:
    """Write the rows to an open file, after those already `written`; a progress bar counts up to `total`."""
    written = written or Written()
    rows = prediction_table.writer(file)
    if not has_header:
        rows.writerow(table.columns)
    with logs.progress(total or _length(names), "predict", initial=written.num_rows) as bar:
        for batch in table.rows(names):
            rows.writerows(batch)
            file.flush()
            written = written.add(batch, table.columns)
            bar.update(len(batch))
    return written


def _length(names: Iterable[str]) -> int | None:
    return len(names) if isinstance(names, Sized) else None


def _lock(file: Any, out: Path) -> None:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"another process writes {str(out)!r}; wait for it, or write to another --out") from None
    except OSError as error:  # some network file systems have no locks
        print(f"jaxvision: warning: {out} cannot be locked ({error})", file=sys.stderr)


def _resume(
    table: Table, names: Iterator[str], file: Any, out: Path, record: dict[str, Any] | None
) -> tuple[Written, int, Iterator[str]]:
    """Return what the file holds already, the position after its last whole batch, and the names that follow.

    The position is 0 if the file is to be written from the start. Only whole batches count, so that the others have
    the size, and thus the same rounding, that they have without an interruption.
    """
    file.seek(0, io.SEEK_END)
    size = file.tell()
    if size == 0:
        return Written(), 0, names
    _, header, start = next(_whole_rows(file, out), (1, table.columns, 0))
    if header != table.columns:
        raise ValueError(f"{str(out)!r} has other columns than this command writes; {REPAIR}")
    if record is None:
        raise ValueError(
            f"{str(out)!r} exists, and there is no {record_of(out).name!r} that states which model wrote it; {REPAIR}"
        )
    if record["model"] != table.model or record["columns"] != table.columns:
        raise ValueError(f"{str(out)!r} has predictions of another model, --max_image_pixels or --calibrate; {REPAIR}")
    if "num_rows" in record and _is_finished(file, out, record["num_rows"], size):
        return Written(), 0, names
    written, end, batch = Written(), start, []
    for number, row, position in _whole_rows(file, out):
        if position == start:
            continue
        name = next(names, None)
        if len(row) != len(table.columns):
            raise ValueError(f"line {number} of {str(out)!r} is damaged; {REPAIR}")
        if row[0] != name:
            raise ValueError(
                f"line {number} of {str(out)!r} is for {row[0]!r}, and the files of this command have "
                f"{name or 'none'!r} there; {REPAIR}"
            )
        batch.append(row)
        if len(batch) == table.batch_size:
            written, end, batch = written.add(batch, table.columns), position, []
    return written._replace(num_resumed=written.num_rows), end, itertools.chain([row[0] for row in batch], names)


def _is_finished(file: Any, out: Path, num_rows: int, size: int) -> bool:
    """Return whether the file has a header, all rows, and no part of another."""
    count, last = 0, 0
    for _, _, end in _whole_rows(file, out):
        count, last = count + 1, end
    return count > num_rows and last == size


def _read_record(out: Path) -> dict[str, Any] | None:
    def parse(content: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(content["model"], str) or not isinstance(content["columns"], list):
            raise TypeError("it has no model and columns")
        if not isinstance(content.get("num_rows", 0), int):
            raise TypeError("num_rows is not a number")
        return content

    place = record_of(out)
    return storage.read_json(place, parse, repair=f"delete it and {out.name}") if place.exists() else None


def _whole_rows(file: Any, out: Path) -> Iterator[tuple[int, list[str], int]]:
    """Yield the number of the line, the cells and the end of each row of an open file that was written to its end."""
    file.seek(0)
    parts: list[bytes] = []
    number, num_quotes, end = 1, 0, 0
    for count, line in enumerate(file, 1):
        parts.append(line)
        num_quotes += line.count(b'"')
        if num_quotes % 2 == 0 and line.endswith(b"\n"):
            text = b"".join(parts).decode("utf-8", "surrogateescape")
            end += sum(map(len, parts))
            try:
                row = next(csv.reader(io.StringIO(text, newline=""), strict=True))
            except csv.Error as error:
                raise ValueError(f"line {number} of {str(out)!r} is damaged: {error}; {REPAIR}") from None
            yield number, row, end
            parts, number = [], count + 1
