"""Encode table columns as targets: classes, labels or numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.datasets.rows import Table, column, filled_in, named, number_of, numbers
from jaxvision.interfaces import Kind

FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}  # spellings of booleans
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
) -> Encoded:
    """Return the targets in `columns`; classes and labels with fewer than min_count training rows are dropped.

    Without a kind, several columns or a column with a delimiter hold labels; a single column holds numbers or classes,
    decided by its values. Raises ValueError if the columns have nothing to learn.
    """
    if not columns:
        raise ValueError("table: target=() names no column; expected one or more")
    if kind is None:
        is_multilabel = len(columns) > 1 or delimiter is not None
        kind = "multilabel" if is_multilabel else _kind_of(column(tables, columns[0]))
    if kind == "multilabel":
        return _encode_labels(tables, columns, delimiter, min_count, is_train)
    if len(columns) > 1:
        raise ValueError(
            f"table: target={tuple(columns)!r} names {len(columns)} columns; kind={kind!r} takes one column "
            "(several need kind='multilabel')"
        )
    if kind == "continuous":
        places = [place for table in tables for place in table.places]
        values = numbers(column(tables, columns[0]), columns[0], places)
        return Encoded(kind, values, (), np.ones(len(is_train), bool))
    return _encode_classes(tables, columns[0], min_count, is_train)


def _encode_labels(
    tables: Sequence[Table], columns: Sequence[str], delimiter: str | None, min_count: int, is_train: np.ndarray
) -> Encoded:
    labels = _labels(tables, columns, delimiter)
    seen = {label for row_labels in labels for label in row_labels}
    unused = next((name for name in columns if delimiter is None and not any(_is_of(t, name) for t in seen)), None)
    if unused is not None:
        raise ValueError(f"column {unused!r} of {named(tables)} has no label in any row; remove it from target")
    counted = Counter(label for i in np.flatnonzero(is_train).tolist() for label in labels[i])
    classes = _frequent(seen, counted, min_count)
    if not classes:
        raise ValueError(f"{tables[0]} has no label in {min_count} or more rows; lower min_count")
    targets = np.array([[label in row_labels for label in classes] for row_labels in labels], np.float32)
    return Encoded("multilabel", targets, classes, np.ones(len(is_train), bool))


def _encode_classes(tables: Sequence[Table], name: str, min_count: int, is_train: np.ndarray) -> Encoded:
    values = filled_in(column(tables, name), name, [place for table in tables for place in table.places])
    counted = Counter(values[i] for i in np.flatnonzero(is_train).tolist())
    classes = _frequent(set(values), counted, min_count)
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


def _frequent(names: set[str], counted: Counter[str], min_count: int) -> tuple[str, ...]:
    """Return the sorted names with min_count or more training rows.

    With min_count=1, names that train lacks are kept too, so that a later check can report them.
    """
    return tuple(sorted(name for name in names if counted[name] >= min_count or min_count == 1))


def _labels(tables: Sequence[Table], columns: Sequence[str], delimiter: str | None) -> list[set[str]]:
    """Return the labels of each row: from a delimited column, from columns of 0 and 1, or "column=value"."""
    values = {name: column(tables, name) for name in columns}
    count = len(values[columns[0]])
    if delimiter is not None:
        for name in columns:
            _check_delimiter(values[name], name, delimiter)
        listed = [delimiter.join(row) for row in zip(*values.values(), strict=True)]
        return [{label.strip() for label in row.split(delimiter) if label.strip()} for row in listed]
    if all(value.lower() in FLAGS for column_values in values.values() for value in column_values):
        return [{name for name in columns if FLAGS[values[name][i].lower()]} for i in range(count)]
    return [{f"{name}={values[name][i]}" for name in columns if values[name][i]} for i in range(count)]


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
