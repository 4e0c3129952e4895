"""Read CSV and Parquet files as rows of strings, and parse their columns."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxvision.specs import nearest

Row = dict[str, str]


@dataclass(frozen=True)
class Table:
    """The rows of a file, with values as strings.

    `lines` locates each row as a reader would: "line 5" of a CSV whose header is line 1, "row 4" of Parquet.
    """

    file: Path
    rows: list[Row]
    lines: list[str]

    def __str__(self) -> str:
        return f"the table {str(self.file)!r}"

    @property
    def places(self) -> list[str]:
        """Return the file and line of each row, for messages."""
        return [f"{self}, {line}" for line in self.lines]

    def column(self, name: str) -> list[str]:
        """Return a column. Raises ValueError with the nearest names if it does not exist."""
        names = self.rows[0]
        if name not in names:
            raise ValueError(f"{self} has no column {name!r}{nearest(name, names)}; it has {', '.join(names)}")
        return [row[name] for row in self.rows]


def read_table(file: Path) -> Table:
    """Read a .csv or .parquet file as strings; missing values are empty. Raises ValueError if it is not a table."""
    if not file.is_file():
        raise FileNotFoundError(f"no table {str(file)!r}; expected a .csv or .parquet file")
    table = _read_parquet(file) if file.suffix.lower() in (".parquet", ".pq") else _read_csv(file)
    if not table.rows:
        raise ValueError(f"{table} has no rows")
    return table


def _read_csv(file: Path) -> Table:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"the table {str(file)!r}, line {line}: byte {error.object[error.start]:#x} is not UTF-8 text; save it as "
            "UTF-8"
        ) from None
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names = [name.strip() for name in next(reader, [])]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"the table {str(file)!r} has two columns {twice!r}; rename one")
    table, end = Table(file, [], []), reader.line_num
    for values in reader:
        line, end = f"line {end + 1}", reader.line_num  # a quoted value may span several lines
        if not any(values):
            continue
        if len(values) != len(names):
            raise ValueError(
                f"{table}, {line}: {len(values)} values, but the header has {len(names)} columns; quote values that "
                f"contain {separator!r}"
            )
        table.rows.append(dict(zip(names, map(str.strip, values), strict=True)))
        table.lines.append(line)
    return table


def _read_parquet(file: Path) -> Table:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"the table {str(file)!r} is Parquet, which needs `pip install pyarrow`") from None
    try:
        table = pyarrow.parquet.read_table(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"cannot read the table {str(file)!r} as Parquet: {error}") from None
    columns = {
        name: ["" if value is None else str(value) for value in table[name].to_pylist()] for name in table.schema.names
    }
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return Table(file, rows, [f"row {number}" for number in range(1, len(rows) + 1)])


def column(tables: Sequence[Table], name: str) -> list[str]:
    """Return a column of several tables, concatenated."""
    return [value for table in tables for value in table.column(name)]


def named(tables: Sequence[Table]) -> str:
    """Return the names of the tables, joined by "and"."""
    return " and ".join(map(str, tables))


def numbers(values: Sequence[str], name: str, places: Sequence[str]) -> np.ndarray:
    """Parse a column of numbers as float32. Raises ValueError for the first value that is not a finite number."""
    parsed = []
    for value, place in zip(values, places, strict=True):
        number = number_of(value)
        if number is None or not abs(number) <= float(np.finfo(np.float32).max):
            what = "is empty" if not value else f"has {value!r}, which is not a finite number"
            repair = "write decimals with a point, not a comma" if _has_comma(value) else "correct or remove the row"
            raise ValueError(f"{place}: column {name!r} {what}; {repair}")
        parsed.append(number)
    return np.array(parsed, np.float32)


def filled_in(values: Sequence[str], name: str, places: Sequence[str]) -> Sequence[str]:
    """Return a column unchanged. Raises ValueError for the first empty value."""
    empty = next((place for value, place in zip(values, places, strict=True) if not value), None)
    if empty is not None:
        raise ValueError(f"{empty}: column {name!r} is empty; correct or remove the row")
    return values


def number_of(value: str) -> float | None:
    """Return a string as a number, or None if it is not one."""
    try:
        return float(value)
    except ValueError:
        return None


def _has_comma(value: str) -> bool:
    """Return whether a value is a number with a decimal comma."""
    return "," in value and number_of(value.replace(",", ".")) is not None
