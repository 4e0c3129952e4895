"""Encode table columns as targets: classes, labels or numbers."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from jaxvision.class_names import MISSING, check, in_order, quoted
from jaxvision.datasets.rows import Table, column, filled_in, named, number_of, numbers
from jaxvision.interfaces import Kind

FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}  # spellings of booleans
Flags = Literal["column", "all"]
DELIMITERS = ("|", ";", ",")  # common delimiters of label lists


class Encoded(NamedTuple):
    """Targets of one kind, the names of classes or labels (empty for numbers), and a mask of the rows to keep."""

    kind: Kind
    targets: np.ndarray
    classes: tuple[str, ...]
    kept: np.ndarray


def _kind_of(values: Sequence[str]) -> Kind:
    """Return "continuous" if most values are numbers and one has a fraction, else "multiclass".

    A decimal comma is accepted here, so that the later error can name it.
    """
    parsed = [number for value in values if (number := number_of(value.replace(",", "."))) is not None]
    is_measured = len(parsed) > len(values) / 2 and any(number % 1 for number in parsed)
    return "continuous" if is_measured else "multiclass"


def encode(
    tables: Sequence[Table],
    columns: Sequence[str],
    kind: Kind | None,
    *,
    delimiter: str | None,
    min_count: int,
    is_train: np.ndarray,
    run_classes: tuple[str, ...] = (),
    flags: Flags = "column",
) -> Encoded:
    """Return the targets in `columns`; classes and labels with fewer than min_count training rows are dropped.

    Without a kind, several columns or a column with a delimiter hold labels; a single column holds numbers or classes,
    decided by its values. Raises ValueError if the columns have nothing to learn.
    """
    if not columns:
        raise ValueError("table: target=() names no column; expected one or more")
    lists = [name for name in columns if any(name in table.lists for table in tables)]
    if lists and delimiter is not None:
        raise ValueError(
            f"column {lists[0]!r} of {named(tables)} holds lists of labels: remove delimiter={delimiter!r}"
        )
    if kind is None:
        is_multilabel = len(columns) > 1 or delimiter is not None or bool(lists)
        kind = "multilabel" if is_multilabel else _kind_of(column(tables, columns[0]))
    if kind == "multilabel":
        return _encode_labels(tables, columns, delimiter, min_count, is_train, run_classes, flags)
    if len(columns) > 1:
        raise ValueError(
            f"table: target={tuple(columns)!r} names {len(columns)} columns; kind={kind!r} takes one column "
            "(several need kind='multilabel')"
        )
    if kind == "continuous":
        places = [place for table in tables for place in table.places]
        values = numbers(column(tables, columns[0]), columns[0], places)
        return Encoded(kind, values, (), np.ones(len(is_train), bool))
    return _encode_classes(tables, columns[0], min_count, is_train, run_classes)


def _encode_labels(
    tables: Sequence[Table],
    columns: Sequence[str],
    delimiter: str | None,
    min_count: int,
    is_train: np.ndarray,
    run_classes: tuple[str, ...],
    flags: Flags,
) -> Encoded:
    labels = _labels(tables, columns, delimiter, flags)
    seen = {label for row_labels in labels for label in row_labels}
    plain = [name for name in columns if delimiter is None and not any(name in table.lists for table in tables)]
    unused = next((name for name in plain if not any(_is_of(label, name) for label in seen)), None)
    if unused is not None:
        raise ValueError(f"column {unused!r} of {named(tables)} has no label in any row; remove it from target")
    counted = Counter(label for i in np.flatnonzero(is_train).tolist() for label in labels[i])
    classes = _frequent(seen, counted, min_count, run_classes, named(tables))
    if not classes:
        raise ValueError(f"{tables[0]} has no label in {min_count} or more rows; lower min_count")
    targets = np.array([[label in row_labels for label in classes] for row_labels in labels], np.float32)
    return Encoded("multilabel", targets, classes, np.ones(len(is_train), bool))


def _encode_classes(
    tables: Sequence[Table], name: str, min_count: int, is_train: np.ndarray, run_classes: tuple[str, ...]
) -> Encoded:
    values = _given(tables, name)
    filled_in(values, name, [place for table in tables for place in table.places])
    counted = Counter(values[i] for i in np.flatnonzero(is_train).tolist())
    classes = _frequent(set(values), counted, min_count, run_classes, f"column {name!r} of {named(tables)}")
    if len(classes) < 2:
        raise ValueError(
            f"column {name!r} of {tables[0]} has {len(classes) or 'no'} class with {min_count} or more "
            f"rows ({', '.join(list(counted)[:3])}); a classifier needs two or more"
        )
    if all(count == 1 for count in counted.values()):
        hint = ", or kind='continuous'" if all(number_of(value) is not None for value in counted) else ""
        raise ValueError(
            f"column {name!r} of {tables[0]} has a different class in each row; expected a column whose "
            f"values repeat{hint}"
        )
    indices = {value: index for index, value in enumerate(classes)}
    targets = np.array([indices.get(value, -1) for value in values], np.int32)
    return Encoded("multiclass", targets, classes, targets >= 0)


def _frequent(
    names: set[str], counted: Counter[str], min_count: int, run_classes: tuple[str, ...], source: str
) -> tuple[str, ...]:
    """Return the names with min_count or more training rows, in order.

    With min_count=1, names that train lacks are kept too, so that a later check can report them.
    """
    kept = in_order((name for name in names if counted[name] >= min_count or min_count == 1), run_classes)
    check(kept, source)
    return kept


def _given(tables: Sequence[Table], name: str) -> list[str]:
    """Return a column of names. Raises ValueError for a value that another program wrote in place of a name."""
    for table in tables:
        for value, line in zip(table.column(name), table.lines, strict=True):
            if why := _why_no_name(value):
                raise ValueError(f"{table}, {line}: column {name!r} has {quoted(value)}, {why}")
    return column(tables, name)


def _why_no_name(value: str) -> str:
    """Return why a value is not a name: it is NaN or <NA>, or the text of a Python list or of bytes; "" for a name."""
    if value.lower() in MISSING:
        return "which stands for a missing value; write a name, or remove the row"
    if value[:1] not in ("[", "(", "{", "b") or value[-1:] not in ("]", ")", "}", "'", '"'):
        return ""
    try:
        content = ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ""
    if isinstance(content, bytes):
        return "Python's text for bytes; write the name alone"
    if isinstance(content, list | tuple | set | dict):
        return "Python's text for a list; write its values as a|b and set delimiter='|'"
    return ""


def _labels(tables: Sequence[Table], columns: Sequence[str], delimiter: str | None, flags: Flags) -> list[set[str]]:
    """Return the labels of each row: from lists, a delimited column, columns of 0 and 1, or "column=value"."""
    num_rows = sum(len(table.rows) for table in tables)
    labels: list[set[str]] = [set() for _ in range(num_rows)]
    plain = [name for name in columns if not any(name in table.lists for table in tables)]
    for name in columns:
        if name not in plain:
            for row_labels, items in zip(labels, _lists(tables, name), strict=True):
                row_labels.update(item for item in items if item)
    values = {name: _given(tables, name) for name in plain}
    if delimiter is not None:
        for name in plain:
            _check_delimiter(values[name], name, delimiter)
        listed = [delimiter.join(row) for row in zip(*values.values(), strict=True)]
        return [{label.strip() for label in row.split(delimiter) if label.strip()} for row in listed]
    for name in plain:
        _check_flags(tables, name)
    of_flags = {name for name in plain if all(value.lower() in FLAGS for value in values[name])}
    if flags == "all" and len(of_flags) < len(plain):
        of_flags = set()
    for name in plain:
        for row_labels, value in zip(labels, values[name], strict=True):
            if name in of_flags:
                row_labels.update([name] * FLAGS[value.lower()])
            elif value:
                row_labels.add(f"{name}={value}")
    return labels


def _lists(tables: Sequence[Table], name: str) -> list[tuple[str, ...]]:
    """Return a column of lists. Raises ValueError if it has single values in one of the tables."""
    other = next((table for table in tables if name not in table.lists), None)
    if other is not None:
        other.column(name)  # raises its own message if there is no such column
        raise ValueError(
            f"column {name!r} of {other} holds single values, and in another table lists; write both alike"
        )
    for table in tables:
        for items, line in zip(table.lists[name], table.lines, strict=True):
            wrong = next((item for item in items if not item or item.lower() in MISSING), None)
            if wrong is not None:
                raise ValueError(f"{table}, {line}: column {name!r} has the label {wrong!r} in a list; remove it")
    return [items for table in tables for items in table.lists[name]]


def _check_flags(tables: Sequence[Table], name: str) -> None:
    """Raise ValueError for the first value that is not 0 or 1 in a column of these.

    It is one of these if they are more than half of the values that it has, and the others are no whole numbers from 2.
    """
    values = column(tables, name)
    others = Counter(value for value in values if value.lower() not in FLAGS)
    num_flags, num_filled = len(values) - sum(others.values()), len(values) - others[""]
    strays = [value for value, count in others.items() if not _is_count(value) or (count == 1 and num_flags >= 10)]
    if not others or num_flags <= num_filled / 2 or len(strays) < len(others):
        return
    places = [place for table in tables for place in table.places]
    place = next(place for place, value in zip(places, values, strict=True) if value in strays)
    value = next(value for value in values if value in strays)
    what = f"has {quoted(value)}" if value else "is empty"
    raise ValueError(
        f"{place}: column {name!r} {what}, and {num_flags} of its {num_filled} values are 0 or 1; write 0 or 1, or "
        "remove the row"
    )


def _is_count(value: str) -> bool:
    """Return whether a value is a whole number from 2, which a column of categories may have beside 0 and 1."""
    number = number_of(value)
    return number is not None and number >= 2 and number % 1 == 0


def _check_delimiter(values: Sequence[str], name: str, delimiter: str) -> None:
    """Raise ValueError if no row has the delimiter and most rows have another common one."""
    if any(delimiter in value for value in values):
        return
    counts = {candidate: sum(candidate in value for value in values) for candidate in DELIMITERS}
    other = max(counts, key=lambda candidate: counts[candidate])
    if counts[other] > len(values) / 2:
        raise ValueError(
            f"table: delimiter={delimiter!r} is in no row of column {name!r}, but {other!r} is in {counts[other]} of "
            f"{len(values)}: use delimiter={other!r}, or kind='multilabel' without a delimiter"
        )


def _is_of(label: str, column: str) -> bool:
    return label == column or label.startswith(f"{column}=")
