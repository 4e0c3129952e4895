"""Images with targets in a table: a CSV or Parquet file with a class, tags or a number in each row."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from jaxvision.datasets import register
from jaxvision.datasets.files import read_files
from jaxvision.images import asked
from jaxvision.interfaces import Dataset, Interpolation, Kind, Preprocessing, Split, Targets
from jaxvision.registry import nearest

Row = dict[str, str]
FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}  # as tables write them
DELIMITERS = ("|", ";", ",")  # in common use
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout", "eval"), "test"),
}


@dataclass(frozen=True)
class Table:
    """The rows of a file, values as strings; `lines` says where each stands, as people count.

    That is "line 5" of a CSV, whose head is line 1, and "row 4" of Parquet.
    """

    file: Path
    rows: list[Row]
    lines: list[str]

    def __str__(self) -> str:
        return f"the table {str(self.file)!r}"

    @property
    def places(self) -> list[str]:
        """Says of each row in which file it stands, and where."""
        return [f"{self}, {line}" for line in self.lines]

    def column(self, name: str) -> list[str]:
        """Gives a column. Raises ValueError with the nearest names where there is none of that name."""
        names = self.rows[0]
        if name not in names:
            raise ValueError(f"{self} has no column {name!r}{nearest(name, names)}; it has {', '.join(names)}")
        return [row[name] for row in self.rows]


def read_table(file: Path) -> Table:
    """Reads a table, its values as strings, empty where there are none. Raises ValueError for what is no table."""
    if not file.is_file():
        raise FileNotFoundError(f"no table {str(file)!r}; name a .csv or .parquet file")
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
        raise ValueError(f"the table {str(file)!r} has two columns {twice!r}; name them apart")
    table, end = Table(file, [], []), reader.line_num
    for values in reader:
        line, end = f"line {end + 1}", reader.line_num  # a quoted value may go over several
        if not any(values):
            continue
        if len(values) != len(names):
            raise ValueError(
                f"{table}, {line}: {len(values)} values, and the head names {len(names)} columns; quote values that "
                f"hold {separator!r}"
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


def _column(tables: Sequence[Table], name: str) -> list[str]:
    """Gives a column of tables that follow each other."""
    return [value for table in tables for value in table.column(name)]


def _files(table: Table, pattern: str) -> list[Path]:
    """Gives each row's image, by a column or a pattern as "images/{id}.jpg", relative to the table's folder."""
    names = table.column(pattern) if "{" not in pattern else _filled(table, pattern)
    found = [table.file.parent / name for name in names]
    missing = [index for index, path in enumerate(found) if not names[index] or not path.is_file()]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        first = str(found[missing[0]]) if names[missing[0]] else ""
        raise ValueError(
            f"{len(missing)} of the {len(found)} images of {str(table.file)!r} {are} not there, the first {first!r}"
            + _repair(table, missing)
        )
    return found


def _repair(table: Table, missing: Sequence[int]) -> str:
    """Says what is to be done about missing images: some are lost, all are looked for at the wrong place."""
    if len(missing) < len(table.rows):
        them, rows = ("it", "its row") if len(missing) == 1 else ("them", "their rows")
        return f" of {table.lines[missing[0]]}; put {them} there, or take {rows} out of the table"
    return "; image='…' names the column with their paths from the table's folder, or a pattern as 'images/{id}.jpg'"


def _filled(table: Table, pattern: str) -> list[str]:
    try:
        return [pattern.format_map(row) for row in table.rows]
    except KeyError as error:
        table.column(str(error.args[0]))
        raise
    except (ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"table: image={pattern!r} is no pattern as 'images/{{id}}.jpg': {error}") from None


def numbers(values: Sequence[str], name: str, places: Sequence[str]) -> np.ndarray:
    """Reads a column of numbers. Raises ValueError for the first that is none, or not finite as float32."""
    found = []
    for value, place in zip(values, places, strict=True):
        number = _number(value)
        if number is None or not abs(number) <= float(np.finfo(np.float32).max):
            what = "is empty" if not value else f"{value!r} is no finite number"
            repair = "write decimals with a point, not a comma" if _has_comma(value) else "mend or remove the row"
            raise ValueError(f"{place}: column {name!r} {what}; {repair}")
        found.append(number)
    return np.array(found, np.float32)


def _filled_in(values: Sequence[str], name: str, places: Sequence[str]) -> Sequence[str]:
    """Gives a column that has a value in each row. Raises ValueError for the first that has none."""
    empty = next((place for value, place in zip(values, places, strict=True) if not value), None)
    if empty is not None:
        raise ValueError(f"{empty}: column {name!r} is empty; mend or remove the row")
    return values


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _has_comma(value: str) -> bool:
    """Says whether a value is a number but for its decimal comma."""
    return "," in value and _number(value.replace(",", ".")) is not None


def _kind(values: Sequence[str]) -> Kind:
    """Numbers where most are, be it with a decimal comma, and one of them has a fraction; classes else."""
    found = [number for value in values if (number := _number(value.replace(",", "."))) is not None]
    is_measured = len(found) > len(values) / 2 and any(number % 1 for number in found)
    return "numbers" if is_measured else "classes"


def _tags(tables: Sequence[Table], columns: Sequence[str], delimiter: str | None) -> list[set[str]]:
    """Gives the tags of each row: those listed in one column, or each column's value, or columns of 0 and 1."""
    values = {name: _column(tables, name) for name in columns}
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
    """Raises ValueError where no row has the delimiter, and most have another."""
    if any(delimiter in value for value in values):
        return
    counts = {each: sum(each in value for value in values) for each in DELIMITERS}
    other = max(counts, key=lambda each: counts[each])
    if counts[other] > len(values) / 2:
        raise ValueError(
            f"table: delimiter={delimiter!r} is in no row of column {name!r}, and {other!r} in {counts[other]} of "
            f"{len(values)}: use delimiter={other!r}, or without one kind='tags' where it parts nothing"
        )


def _encoded(
    tables: Sequence[Table],
    columns: Sequence[str],
    kind: Kind,
    delimiter: str | None,
    min_count: int,
    *,
    is_train: np.ndarray,
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Gives the targets, the names of classes or tags, and which rows are kept. What is rare is so in train."""
    learned = np.flatnonzero(is_train).tolist()
    if kind == "tags":
        tags = _tags(tables, columns, delimiter)
        seen = {tag for each in tags for tag in each}
        never = next((name for name in columns if delimiter is None and not any(_is_of(t, name) for t in seen)), None)
        if never is not None:
            raise ValueError(f"column {never!r} of {_named(tables)} has no tag in any row; leave it out of target")
        counted = Counter(tag for i in learned for tag in tags[i])
        classes = tuple(sorted(tag for tag in seen if counted[tag] >= min_count or min_count == 1))
        if not classes:
            raise ValueError(f"{tables[0]} has no tag of {min_count} rows or more; min_count=… says how many")
        targets = np.array([[tag in each for tag in classes] for each in tags], np.float32)
        return targets, classes, np.ones(len(is_train), bool)
    if len(columns) > 1:
        raise ValueError(
            f"table: target={tuple(columns)!r} are several columns, which make tags; kind={kind!r} wants one"
        )
    values = _column(tables, columns[0])
    places = [place for table in tables for place in table.places]
    if kind == "numbers":
        return numbers(values, columns[0], places), (), np.ones(len(is_train), bool)
    values = _filled_in(values, columns[0], places)
    counted = Counter(values[i] for i in learned)
    classes = tuple(sorted(value for value in set(values) if counted[value] >= min_count or min_count == 1))
    if len(classes) < 2:
        raise ValueError(
            f"column {columns[0]!r} of {tables[0]} has {len(classes) or 'no'} class of {min_count} rows or "
            f"more ({', '.join(list(counted)[:3])}); a classifier needs two or more"
        )
    if all(count == 1 for count in counted.values()):
        hint = ", or kind='numbers'" if all(_number(value) is not None for value in counted) else ""
        raise ValueError(
            f"column {columns[0]!r} of {tables[0]} has another class in each row: wanted a column whose "
            f"values come again{hint}"
        )
    indices = {value: index for index, value in enumerate(classes)}
    targets = np.array([indices.get(value, -1) for value in values], np.int32)
    return targets, classes, targets >= 0


def _is_of(tag: str, column: str) -> bool:
    return tag == column or tag.startswith(f"{column}=")


def _named(tables: Sequence[Table]) -> str:
    return " and ".join(map(str, tables))


def _parts(tables: Sequence[Table], split: str | None) -> np.ndarray:
    """Says of each row in which split it is; of two tables, the second is test."""
    if split is None:
        return np.repeat(["train", "test"][: len(tables)], [len(table.rows) for table in tables])
    values = _column(tables, split)
    unknown = next((value for value in values if value.lower() not in SPLITS), None)
    if unknown is not None:
        raise ValueError(
            f"column {split!r} of {tables[0]} has {unknown!r}{nearest(unknown, SPLITS)}; wanted train, validation and "
            "test"
        )
    return np.array([SPLITS[value.lower()] for value in values])


def _check(splits: dict[str, Split], classes: tuple[str, ...], tables: Sequence[Table], *, is_cut: bool) -> None:
    """Raises ValueError for classes or tags that train has never, and for groups that are in two splits."""
    train = splits["train"]
    if train.kind == "numbers" and np.ptp(train.targets) == 0:
        raise ValueError(f"{tables[0]} has the one number {train.targets[0]} in train: nothing to learn")
    if train.kind != "numbers":
        known = np.array(Targets.of(train, len(classes)).counts) > 0
        for name, part in splits.items():
            unknown = np.flatnonzero((np.array(Targets.of(part, len(classes)).counts) > 0) & ~known)
            where = f"{name} of {tables[0]}" if len(tables) == 1 else str(tables[1])
            if len(unknown):
                raise ValueError(f"{where} has {_unknown([classes[i] for i in unknown], is_cut=is_cut)}")
    if train.groups is not None:
        seen: dict[int, str] = {}
        for name, part in splits.items():
            assert part.groups is not None
            for each in np.unique(part.groups).tolist():
                if seen.setdefault(each, name) != name:
                    raise ValueError(f"{_named(tables)}: rows of one group are in {seen[each]} and in {name}")


def _unknown(names: Sequence[str], *, is_cut: bool) -> str:
    """Says which classes or tags train has never, and what is to be done."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    them, seed = ("them" if len(names) > 1 else "it"), (" another split_seed," if is_cut else "")
    return (
        f"{', '.join(map(repr, names[:3]))}{more}, which train has never; give more examples of {them},{seed} or leave "
        "rare ones out by min_count=…"
    )


@register("table")
def table(
    *,
    path: str,
    image: str = "image",
    target: str | tuple[str, ...] = "target",
    kind: Kind | None = None,
    delimiter: str | None = None,
    min_count: int = 1,
    split: str | None = None,
    test: str | None = None,
    group: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    crop: float | Literal["squash"] | None = None,
    interpolation: Interpolation | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    on_bad_image: str = "error",
    preprocessing: Preprocessing | None = None,
) -> Dataset:
    """Images whose targets stand in a table, .csv or .parquet, with a head.

    image names the column of their paths from the table's folder, or a pattern of columns, as 'images/{id}.jpg'. target
    names the column of the class or of a number, or several, whose values are tags, as 'season=Fall' (columns of 0 and
    1 are tags themselves); with a delimiter, as '|', the column lists tags. A single column holds numbers where most
    are and one has a fraction; kind says otherwise. Tags, and classes with their rows, of fewer than min_count rows of
    train are left out. split names a column of train, validation and test; test another table, of the test split; else
    test_fraction is cut off. Rows that share the value of the column group are in one split. Images are read as by
    `folder`.
    """
    if test is not None and split is not None:
        raise ValueError("table: split and test both say which rows are test; give one")
    tables = [read_table(Path(each).expanduser()) for each in (path, test) if each is not None]
    parts = _parts(tables, split)
    columns = [target] if isinstance(target, str) else list(target)
    if not columns:
        raise ValueError("table: target=() names no column; wanted one or more")
    files = [file for table in tables for file in _files(table, image)]
    if len(columns) > 1 or delimiter is not None:
        kind = kind or "tags"
    kind = kind or _kind(_column(tables, columns[0]))
    targets, classes, kept = _encoded(tables, columns, kind, delimiter, min_count, is_train=parts == "train")
    groups = None
    if group:
        places = [place for table in tables for place in table.places]
        groups = np.unique(_filled_in(_column(tables, group), group, places), return_inverse=True)[1]
    shape = asked(preprocessing, image_size=image_size, channels=channels, crop=crop, interpolation=interpolation)
    splits = {}
    for name in dict.fromkeys(SPLITS.values()):
        chosen = np.flatnonzero(kept & (parts == name))
        if len(chosen):
            splits[name] = read_files(
                [files[i] for i in chosen],
                targets[chosen],
                shape,
                name=name,
                on_bad_image=on_bad_image,
                groups=None if groups is None else groups[chosen],
            )
    if "train" not in splits:
        raise ValueError(f"{tables[0]} has no row of train")
    is_cut = "test" not in splits
    if is_cut:
        splits["train"], splits["test"] = splits["train"].cut(test_fraction, seed=split_seed)
    _check(splits, classes, tables, is_cut=is_cut)
    return Dataset(splits["train"], splits.get("validation"), splits["test"], classes, shape)
