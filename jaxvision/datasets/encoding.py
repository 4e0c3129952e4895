"""Columns of tables -> targets: classes, tags or numbers, and what they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.datasets.rows import Table, column, filled_in, named, number_of, numbers
from jaxvision.interfaces import Kind

FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}  # as tables write them
DELIMITERS = ("|", ";", ",")  # in common use


class Encoded(NamedTuple):
    """Targets of one kind, the names of classes or tags (none of numbers), and of each row whether it is kept."""

    kind: Kind
    targets: np.ndarray
    classes: tuple[str, ...]
    kept: np.ndarray


def _kind_of(values: Sequence[str]) -> Kind:
    """Return numbers where most are, be it with a decimal comma, and one of them has a fraction; else classes."""
    found = [number for value in values if (number := number_of(value.replace(",", "."))) is not None]
    is_measured = len(found) > len(values) / 2 and any(number % 1 for number in found)
    return "numbers" if is_measured else "classes"


def encode(
    tables: Sequence[Table],
    columns: Sequence[str],
    kind: Kind | None,
    *,
    delimiter: str | None,
    min_count: int,
    is_train: np.ndarray,
) -> Encoded:
    """Return the targets that columns hold. Classes and tags of fewer than min_count rows of train are left out.

    Without a kind, several columns and those with a delimiter are tags; a single one is what most of its values are.
    Raise ValueError for columns from which nothing can be learned.
    """
    if not columns:
        raise ValueError("table: target=() names no column; wanted one or more")
    if kind is None:
        is_tags = len(columns) > 1 or delimiter is not None
        kind = "tags" if is_tags else _kind_of(column(tables, columns[0]))
    if kind == "tags":
        return _encode_tags(tables, columns, delimiter, min_count, is_train)
    if len(columns) > 1:
        raise ValueError(
            f"table: target={tuple(columns)!r} are several columns, which make tags; kind={kind!r} wants one"
        )
    if kind == "numbers":
        places = [place for table in tables for place in table.places]
        values = numbers(column(tables, columns[0]), columns[0], places)
        return Encoded(kind, values, (), np.ones(len(is_train), bool))
    return _encode_classes(tables, columns[0], min_count, is_train)


def _encode_tags(
    tables: Sequence[Table], columns: Sequence[str], delimiter: str | None, min_count: int, is_train: np.ndarray
) -> Encoded:
    tags = _tags(tables, columns, delimiter)
    seen = {tag for each in tags for tag in each}
    never = next((name for name in columns if delimiter is None and not any(_is_of(t, name) for t in seen)), None)
    if never is not None:
        raise ValueError(f"column {never!r} of {named(tables)} has no tag in any row; leave it out of target")
    counted = Counter(tag for i in np.flatnonzero(is_train).tolist() for tag in tags[i])
    classes = _frequent(seen, counted, min_count)
    if not classes:
        raise ValueError(f"{tables[0]} has no tag of {min_count} rows or more; min_count=… says how many")
    targets = np.array([[tag in each for tag in classes] for each in tags], np.float32)
    return Encoded("tags", targets, classes, np.ones(len(is_train), bool))


def _encode_classes(tables: Sequence[Table], name: str, min_count: int, is_train: np.ndarray) -> Encoded:
    values = filled_in(column(tables, name), name, [place for table in tables for place in table.places])
    counted = Counter(values[i] for i in np.flatnonzero(is_train).tolist())
    classes = _frequent(set(values), counted, min_count)
    if len(classes) < 2:
        raise ValueError(
            f"column {name!r} of {tables[0]} has {len(classes) or 'no'} class of {min_count} rows or "
            f"more ({', '.join(list(counted)[:3])}); a classifier needs two or more"
        )
    if all(count == 1 for count in counted.values()):
        hint = ", or kind='numbers'" if all(number_of(value) is not None for value in counted) else ""
        raise ValueError(
            f"column {name!r} of {tables[0]} has another class in each row: wanted a column whose "
            f"values come again{hint}"
        )
    indices = {value: index for index, value in enumerate(classes)}
    targets = np.array([indices.get(value, -1) for value in values], np.int32)
    return Encoded("classes", targets, classes, targets >= 0)


def _frequent(names: set[str], counted: Counter[str], min_count: int) -> tuple[str, ...]:
    """Return the names that count so often in train, sorted; for 1 all, so that one which train lacks is told later."""
    return tuple(sorted(name for name in names if counted[name] >= min_count or min_count == 1))


def _tags(tables: Sequence[Table], columns: Sequence[str], delimiter: str | None) -> list[set[str]]:
    """Return the tags of each row: those listed in one column, or each column's value, or columns of 0 and 1."""
    values = {name: column(tables, name) for name in columns}
    count = len(values[columns[0]])
    if delimiter is not None:
        for name in columns:
            _check_delimiter(values[name], name, delimiter)
        listed = [delimiter.join(row) for row in zip(*values.values(), strict=True)]
        return [{tag.strip() for tag in each.split(delimiter) if tag.strip()} for each in listed]
    if all(value.lower() in FLAGS for each in values.values() for value in each):
        return [{name for name in columns if FLAGS[values[name][i].lower()]} for i in range(count)]
    return [{f"{name}={values[name][i]}" for name in columns if values[name][i]} for i in range(count)]


def _check_delimiter(values: Sequence[str], name: str, delimiter: str) -> None:
    """Raise ValueError where no row has the delimiter, and most have another."""
    if any(delimiter in value for value in values):
        return
    counts = {each: sum(each in value for value in values) for each in DELIMITERS}
    other = max(counts, key=lambda each: counts[each])
    if counts[other] > len(values) / 2:
        raise ValueError(
            f"table: delimiter={delimiter!r} is in no row of column {name!r}, and {other!r} in {counts[other]} of "
            f"{len(values)}: use delimiter={other!r}, or without one kind='tags' where it parts nothing"
        )


def _is_of(tag: str, column: str) -> bool:
    return tag == column or tag.startswith(f"{column}=")
