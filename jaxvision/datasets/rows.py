"""Read CSV and Parquet files as rows of strings, and parse their columns."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaxvision.class_names import quoted
from jaxvision.specs import nearest

Row = dict[str, str]
NO_TEXT = {  # what files of other formats begin with, and the repair
    b"PK\3\4": "a spreadsheet or a ZIP archive; save the sheet as CSV (UTF-8), or extract the archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet; save the sheet as CSV (UTF-8)",
    b"PAR1": "a Parquet file; rename it to end in .parquet",
    b"\x1f\x8b": "compressed by gzip; extract it with gunzip",
}


@dataclass(frozen=True)
class Table:
    """The rows of a file, with values as strings.

    `lines` locates each row as a reader would: "line 5" of a CSV whose header is line 1, "row 4" of Parquet. Parquet
    may also have columns of lists, of images, functions that write them into files and return these, and `unusable`
    ones: why they are. `blank` locates the rows of a CSV without any value, which are left out.
    """

    file: Path
    rows: list[Row]
    lines: list[str]
    lists: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    images: dict[str, Callable[[], list[Path]]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    blank: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"the table {str(self.file)!r}"

    @property
    def places(self) -> list[str]:
        """Return the file and line of each row, for messages."""
        return [f"{self}, {line}" for line in self.lines]

    @property
    def notes(self) -> list[str]:
        """Return a line that counts the blank rows, if there are any."""
        rows = f"{len(self.blank):,} blank row{'s' * (len(self.blank) > 1)}"
        return [f"{rows} of {self} left out, the first on {self.blank[0]}"] if self.blank else []

    @property
    def names(self) -> list[str]:
        """Return the names of all columns."""
        return [*self.rows[0], *self.lists, *self.images, *self.unusable]

    def column(self, name: str) -> list[str]:
        """Return a column. Raises ValueError if there is none, with the nearest names, or if it holds other values."""
        if name not in self.rows[0]:
            self._refuse(name)
        values = [row[name] for row in self.rows]
        for value, line in zip(values, self.lines, strict=True):
            if "\n" in value or "\r" in value:
                raise ValueError(
                    f"{self}, {line}: column {name!r} has a value of several lines, {quoted(value)}; close its quote"
                )
        return values

    def _refuse(self, name: str) -> None:
        if name not in self.names:
            raise ValueError(
                f"{self} has no column {name!r}{nearest(name, self.names)}; it has {', '.join(self.names)}"
                + ("; separate its values by commas" if "|" in "".join(self.names) and len(self.names) == 1 else "")
            )
        what = "lists, which are labels (target=…)" if name in self.lists else "images (image=…)"
        why = self.unusable.get(name, f"it holds {what}; expected one value in a row")
        raise ValueError(f"column {name!r} of {self} cannot be used: {why}")


def read_table(file: Path) -> Table:
    """Read a .csv or .parquet file as strings; missing values are empty. Raises ValueError if it is not a table."""
    if not file.is_file():
        raise FileNotFoundError(f"no table {str(file)!r}; expected a .csv or .parquet file")
    if file.suffix.lower() in (".parquet", ".pq"):
        from jaxvision.datasets.parquet import read_parquet

        table = read_parquet(file)
    else:
        table = _read_csv(file)
    if not table.rows:
        raise ValueError(f"{table} has no rows")
    return table


def _read_csv(file: Path) -> Table:
    table = Table(file, [], [])
    text = _read_text(table)
    head = re.split("[\r\n]", text.lstrip("\r\n "), maxsplit=1)[0]
    separator = max(",;\t", key=re.sub('"[^"]*"', "", head).count)
    text = re.sub(rf'(?<!")" +(?=[{separator}\r\n]|\Z)', '"', text)  # spaces after a quoted value
    records = _records(table, text, separator)
    names = [name.strip() for name in next((values for _, values in records if any(values)), [])]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{table} has two columns {twice!r}; rename one")
    for line, values in records:
        if not any(map(str.strip, values)):
            table.blank.extend([line] * (len(values) > 1))  # an empty line is no row
            continue
        if len(values) != len(names):
            repair = (
                f"quote values that contain {separator!r}" if len(values) > len(names) else "fill in what is missing"
            )
            counted = f"{len(values)} value{'s' * (len(values) != 1)}"
            raise ValueError(f"{table}, {line}: {counted}, but the header has {len(names)} columns; {repair}")
        swallowed = next((i for i in range(len(values)) if _has_rows(values, i, separator)), None)
        if swallowed is not None:
            raise ValueError(
                f"{table}, {line}: column {names[swallowed]!r} has a value of several lines with rows, "
                f"{quoted(values[swallowed])}; close its quote, or write it on one line"
            )
        table.rows.append(dict(zip(names, map(str.strip, values), strict=True)))
        table.lines.append(line)
    return table


def _has_rows(values: Sequence[str], index: int, separator: str) -> bool:
    """Return whether a value of several lines holds rows, which a quote that is not closed takes into it.

    A line between the first and the last is a row if it has as many values; the ends of the two others are before and
    after the value.
    """
    if "\n" not in values[index] and "\r" not in values[index]:
        return False
    lines = re.split("\r\n|\r|\n", values[index])
    first, *between, last = (
        len(next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])) or 1 for line in lines
    )
    has_ends = index > 0 and first == len(values) - index and last == index + 1
    return len(values) in between or has_ends


def _read_text(table: Table) -> str:
    """Return the text of a file. Raises ValueError for other formats, and for a line that is not UTF-8 or has a NUL."""
    content = table.file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    other = next((what for start, what in NO_TEXT.items() if content.startswith(start)), None)
    if other is not None:
        raise ValueError(f"{table} is {other}")
    try:
        text, position = content.decode(), content.find(b"\0")
    except UnicodeDecodeError as error:
        text, position = "", error.start
    if position < 0:
        return text
    line = 1 + len(re.findall(rb"\r\n|\r|\n", content[:position]))
    raise ValueError(f"{table}, line {line}: byte {content[position]:#x} is not UTF-8 text; save it as UTF-8")


def _records(table: Table, text: str, separator: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the line on which each record begins, and its values. Raises ValueError for the first that is not CSV."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    start = 1
    try:
        for values in reader:
            yield f"line {start}", values
            start = reader.line_num + 1  # a quoted value may span several lines
    except csv.Error as error:
        why = str(error)
        if "unexpected end" in why or "expected after" in why:
            why = (
                "a quoted value does not end before the next separator: close its quote, remove the text after it, or "
                "double a quote within it"
            )
        elif "field larger" in why:
            why = f"a value has more than {csv.field_size_limit():,} characters; close its quote, or shorten it"
        raise ValueError(f"{table}, line {start}: {why}") from None


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
            what = "is empty" if not value else f"has {quoted(value)}, which is not a finite number"
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
    """Return a string as a number, or None if it is not one; Python's 1_000 is none."""
    try:
        return None if "_" in value else float(value)
    except ValueError:
        return None


def _has_comma(value: str) -> bool:
    """Return whether a value is a number with a decimal comma."""
    return "," in value and number_of(value.replace(",", ".")) is not None
