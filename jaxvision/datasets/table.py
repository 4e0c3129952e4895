"""Images with targets in a table: a CSV or Parquet file with a class, tags or a number in each row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from jaxvision.datasets import register
from jaxvision.datasets.arguments import requested_preprocessing
from jaxvision.datasets.encoding import Encoded, encode
from jaxvision.datasets.files import read_files
from jaxvision.datasets.rows import Table, column, filled_in, named, read_table
from jaxvision.interfaces import Dataset, Interpolation, Kind, Preprocessing, Split
from jaxvision.specs import nearest
from jaxvision.splits import cut, measure_targets

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout", "eval"), "test"),
}


def _files(table: Table, pattern: str) -> list[Path]:
    """Return each row's image, by a column or a pattern as "images/{id}.jpg", relative to the table's folder."""
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
    """Return what is to be done about missing images: some are lost, all are looked for at the wrong place."""
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


def _parts(tables: Sequence[Table], split: str | None) -> np.ndarray:
    """Return of each row in which split it is; of two tables, the second is test."""
    if split is None:
        return np.repeat(["train", "test"][: len(tables)], [len(table.rows) for table in tables])
    values = column(tables, split)
    unknown = next((value for value in values if value.lower() not in SPLITS), None)
    if unknown is not None:
        raise ValueError(
            f"column {split!r} of {tables[0]} has {unknown!r}{nearest(unknown, SPLITS)}; wanted train, validation and "
            "test"
        )
    return np.array([SPLITS[value.lower()] for value in values])


def _groups(tables: Sequence[Table], name: str) -> np.ndarray:
    """Return of each row the number of its group. Raise ValueError for the first that is in none."""
    places = [place for table in tables for place in table.places]
    return np.unique(filled_in(column(tables, name), name, places), return_inverse=True)[1]


def _read_splits(
    files: list[Path],
    found: Encoded,
    parts: np.ndarray,
    groups: np.ndarray | None,
    shape: Preprocessing,
    on_bad_image: str,
) -> dict[str, Split]:
    """Read the images of the rows that are kept into the splits that have some."""
    splits = {}
    for name in dict.fromkeys(SPLITS.values()):
        chosen = np.flatnonzero(found.kept & (parts == name))
        if len(chosen):
            splits[name] = read_files(
                [files[i] for i in chosen],
                found.targets[chosen],
                shape,
                kind=found.kind,
                name=name,
                on_bad_image=on_bad_image,
                groups=None if groups is None else groups[chosen],
            )
    return splits


def _check(splits: dict[str, Split], classes: tuple[str, ...], tables: Sequence[Table], *, is_cut: bool) -> None:
    """Raise ValueError for classes or tags that train has never, and for groups that are in two splits."""
    train = splits["train"]
    if train.kind == "numbers" and np.ptp(train.targets) == 0:
        raise ValueError(f"{tables[0]} has the one number {train.targets[0]} in train: nothing to learn")
    if train.kind != "numbers":
        known = np.array(measure_targets(train, len(classes)).counts) > 0
        for name, part in splits.items():
            unknown = np.flatnonzero((np.array(measure_targets(part, len(classes)).counts) > 0) & ~known)
            where = f"{name} of {tables[0]}" if len(tables) == 1 else str(tables[1])
            if len(unknown):
                raise ValueError(f"{where} has {_unknown([classes[i] for i in unknown], is_cut=is_cut)}")
    if train.groups is not None:
        seen: dict[int, str] = {}
        for name, part in splits.items():
            assert part.groups is not None
            for each in np.unique(part.groups).tolist():
                if seen.setdefault(each, name) != name:
                    raise ValueError(f"{named(tables)}: rows of one group are in {seen[each]} and in {name}")


def _unknown(names: Sequence[str], *, is_cut: bool) -> str:
    """Return which classes or tags train has never, and what is to be done."""
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
    files = [file for table in tables for file in _files(table, image)]
    found = encode(tables, columns, kind, delimiter=delimiter, min_count=min_count, is_train=parts == "train")
    groups = _groups(tables, group) if group else None
    shape = requested_preprocessing(
        preprocessing, image_size=image_size, channels=channels, crop=crop, interpolation=interpolation
    )
    splits = _read_splits(files, found, parts, groups, shape, on_bad_image)
    if "train" not in splits:
        raise ValueError(f"{tables[0]} has no row of train")
    is_cut = "test" not in splits
    if is_cut:
        splits["train"], splits["test"] = cut(splits["train"], test_fraction, seed=split_seed)
    _check(splits, found.classes, tables, is_cut=is_cut)
    return Dataset(splits["train"], splits.get("validation"), splits["test"], found.classes, shape)
