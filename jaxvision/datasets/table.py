"""Images with targets in a table: a CSV or Parquet file with a class, tags or a number in each row."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
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
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout", "eval"), "test"),
}


def read_rows(file: Path) -> list[Row]:
    """Reads a table, its values as strings, empty where there are none. Raises ValueError for what is no table."""
    if not file.is_file():
        raise FileNotFoundError(f"no table {str(file)!r}; name a .csv or .parquet file: table(path='…')")
    rows = _read_parquet(file) if file.suffix.lower() in (".parquet", ".pq") else _read_csv(file)
    if not rows:
        raise ValueError(f"the table {str(file)!r} has no rows")
    return rows


def _read_csv(file: Path) -> list[Row]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"the table {str(file)!r} is not UTF-8 text: {error}") from None
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names = [name.strip() for name in next(reader, [])]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"the table {str(file)!r} has two columns {twice!r}; name them apart")
    rows = []
    for values in reader:
        if not any(values):
            continue
        if len(values) != len(names):
            raise ValueError(
                f"the table {str(file)!r}, line {reader.line_num}: {len(values)} values, and the head names "
                f"{len(names)} columns; quote values that hold {separator!r}"
            )
        rows.append(dict(zip(names, map(str.strip, values), strict=True)))
    return rows


def _read_parquet(file: Path) -> list[Row]:
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
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def column(rows: Sequence[Row], name: str, file: Path) -> list[str]:
    """Gives a column. Raises ValueError with the nearest names where there is none of that name."""
    without = next((row for row in rows if name not in row), None)
    if without is not None:
        names = ", ".join(without)
        raise ValueError(f"the table {str(file)!r} has no column {name!r}{nearest(name, without)}; it has {names}")
    return [row[name] for row in rows]


def _files(rows: Sequence[Row], pattern: str, file: Path) -> list[Path]:
    """Gives each row's image, by a column or a pattern as "images/{id}.jpg", relative to the table's folder."""
    names = column(rows, pattern, file) if "{" not in pattern else _filled(rows, pattern, file)
    found = [file.parent / name for name in names]
    missing = [str(path) for path, name in zip(found, names, strict=True) if not name or not path.is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(found)} images of {str(file)!r} are not there, the first {missing[0]!r}; "
            "image='…' names the column with their paths from the table's folder, or a pattern as 'images/{id}.jpg'"
        )
    return found


def _filled(rows: Sequence[Row], pattern: str, file: Path) -> list[str]:
    try:
        return [pattern.format_map(row) for row in rows]
    except KeyError as error:
        column(rows, str(error.args[0]), file)
        raise
    except (ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"table: image={pattern!r} is no pattern as 'images/{{id}}.jpg': {error}") from None


def places_of(rows: Sequence[Row], file: Path) -> list[str]:
    """Says of each row where it stands."""
    return [f"the table {str(file)!r}, row {index}" for index in range(1, len(rows) + 1)]


def numbers(values: Sequence[str], name: str, places: Sequence[str]) -> np.ndarray:
    """Reads a column of numbers. Raises ValueError for the first that is none, or not finite as float32."""
    found = []
    for value, place in zip(values, places, strict=True):
        number = _number(value)
        if number is None or not abs(number) <= float(np.finfo(np.float32).max):
            what = "is empty" if not value else f"{value!r} is no finite number"
            raise ValueError(f"{place}: column {name!r} {what}; mend or remove the row")
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


def _kind(values: Sequence[str]) -> Kind:
    """Numbers where most are, and one of them has a fraction; classes else."""
    found = [number for number in map(_number, values) if number is not None]
    is_measured = len(found) > len(values) / 2 and any(number % 1 for number in found)
    return "numbers" if is_measured else "classes"


def _tags(rows: Sequence[Row], columns: Sequence[str], delimiter: str | None, file: Path) -> list[set[str]]:
    """Gives the tags of each row: those listed in one column, or each column's value, or columns of 0 and 1."""
    values = {name: column(rows, name, file) for name in columns}
    if delimiter is not None:
        listed = [delimiter.join(row) for row in zip(*values.values(), strict=True)]
        return [{tag.strip() for tag in each.split(delimiter) if tag.strip()} for each in listed]
    if all(value.lower() in FLAGS for each in values.values() for value in each):
        return [{name for name in columns if FLAGS[values[name][i].lower()]} for i in range(len(rows))]
    return [{f"{name}={values[name][i]}" for name in columns if values[name][i]} for i in range(len(rows))]


def _encoded(
    rows: Sequence[Row],
    columns: Sequence[str],
    kind: Kind,
    delimiter: str | None,
    min_count: int,
    file: Path,
    *,
    places: Sequence[str],
    is_train: np.ndarray,
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Gives the targets, the names of classes or tags, and which rows are kept. What is rare is so in train."""
    learned = np.flatnonzero(is_train).tolist()
    if kind == "tags":
        tags = _tags(rows, columns, delimiter, file)
        seen = {tag for each in tags for tag in each}
        never = next((name for name in columns if delimiter is None and not any(_is_of(t, name) for t in seen)), None)
        if never is not None:
            raise ValueError(
                f"column {never!r} of the table {str(file)!r} has no tag in any row; leave it out of target"
            )
        counted = Counter(tag for i in learned for tag in tags[i])
        classes = tuple(sorted(tag for tag in seen if counted[tag] >= min_count or min_count == 1))
        if not classes:
            raise ValueError(
                f"the table {str(file)!r} has no tag of {min_count} rows or more; min_count=… says how many"
            )
        targets = np.array([[tag in each for tag in classes] for each in tags], np.float32)
        return targets, classes, np.ones(len(rows), bool)
    if len(columns) > 1:
        raise ValueError(
            f"table: target={tuple(columns)!r} are several columns, which make tags; kind={kind!r} wants one"
        )
    values = column(rows, columns[0], file)
    if kind == "numbers":
        return numbers(values, columns[0], places), (), np.ones(len(rows), bool)
    values = _filled_in(values, columns[0], places)
    counted = Counter(values[i] for i in learned)
    classes = tuple(sorted(value for value in set(values) if counted[value] >= min_count or min_count == 1))
    if len(classes) < 2:
        raise ValueError(
            f"column {columns[0]!r} of the table {str(file)!r} has {len(classes) or 'no'} class of {min_count} rows or "
            f"more ({', '.join(list(counted)[:3])}); a classifier needs two or more"
        )
    if all(count == 1 for count in counted.values()):
        hint = ", or kind='numbers'" if all(_number(value) is not None for value in counted) else ""
        raise ValueError(
            f"column {columns[0]!r} of the table {str(file)!r} has another class in each row: wanted a column whose "
            f"values come again{hint}"
        )
    indices = {value: index for index, value in enumerate(classes)}
    targets = np.array([indices.get(value, -1) for value in values], np.int32)
    return targets, classes, targets >= 0


def _is_of(tag: str, column: str) -> bool:
    return tag == column or tag.startswith(f"{column}=")


def _parts(tables: dict[str | None, list[Row]], split: str | None, file: Path) -> np.ndarray:
    """Says of each row in which split it is."""
    if split is None:
        return np.concatenate([np.full(len(rows), name or "train") for name, rows in tables.items()])
    values = column(tables[None], split, file)
    unknown = next((value for value in values if value.lower() not in SPLITS), None)
    if unknown is not None:
        raise ValueError(
            f"column {split!r} of the table {str(file)!r} has {unknown!r}{nearest(unknown, SPLITS)}; wanted train, "
            "validation and test"
        )
    return np.array([SPLITS[value.lower()] for value in values])


def _check(splits: dict[str, Split], classes: tuple[str, ...], file: Path) -> None:
    """Raises ValueError for classes or tags that train has never, and for groups that are in two splits."""
    train = splits["train"]
    if train.kind == "numbers" and np.ptp(train.targets) == 0:
        raise ValueError(f"the table {str(file)!r} has the one number {train.targets[0]} in train: nothing to learn")
    if train.kind != "numbers":
        counts = Targets.of(train, len(classes)).counts
        for name, part in splits.items():
            for index, count in enumerate(Targets.of(part, len(classes)).counts):
                if count and not counts[index]:
                    raise ValueError(
                        f"{name} of the table {str(file)!r} has {classes[index]!r}, which train has never; give more "
                        "examples of it, another split_seed, or leave rare ones out by min_count=…"
                    )
    if train.groups is not None:
        seen: dict[int, str] = {}
        for name, part in splits.items():
            assert part.groups is not None
            for each in np.unique(part.groups).tolist():
                if seen.setdefault(each, name) != name:
                    raise ValueError(f"the table {str(file)!r}: rows of one group are in {seen[each]} and in {name}")


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
    file = Path(path).expanduser()
    tables: dict[str | None, Path] = {None: file}
    if test is not None:
        tables = {"train": file, "test": Path(test).expanduser()}
    read = {name: read_rows(each) for name, each in tables.items()}
    if test is not None and split is not None:
        raise ValueError("table: split and test both say which rows are test; give one")
    rows = [row for part in read.values() for row in part]
    parts = _parts(read, split, file)
    columns = [target] if isinstance(target, str) else list(target)
    if not columns:
        raise ValueError("table: target=() names no column; wanted one or more")
    files = [place for name, part in read.items() for place in _files(part, image, tables[name])]
    if len(columns) > 1 or delimiter is not None:
        kind = kind or "tags"
    kind = kind or _kind(column(rows, columns[0], file))
    places = [place for name, part in read.items() for place in places_of(part, tables[name])]
    targets, classes, kept = _encoded(
        rows, columns, kind, delimiter, min_count, file, places=places, is_train=parts == "train"
    )
    groups = None
    if group:
        groups = np.unique(_filled_in(column(rows, group, file), group, places), return_inverse=True)[1]
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
        raise ValueError(f"the table {str(file)!r} has no row of train")
    if "test" not in splits:
        splits["train"], splits["test"] = splits["train"].cut(test_fraction, seed=split_seed)
    _check(splits, classes, file)
    return Dataset(splits["train"], splits.get("validation"), splits["test"], classes, shape)
