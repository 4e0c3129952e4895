"""Images with targets in a CSV or Parquet file: a class, labels or a number in each row."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from jaxvision.class_names import alike, quoted
from jaxvision.datasets import register
from jaxvision.datasets.arguments import requested_preprocessing
from jaxvision.datasets.encoding import Encoded, Flags, encode
from jaxvision.datasets.files import read_files
from jaxvision.datasets.rows import Table, column, filled_in, named, read_table
from jaxvision.image_decoding import MAX_PIXELS
from jaxvision.interfaces import Dataset, Interpolation, Kind, Preprocessing, Resize, Split
from jaxvision.specs import nearest
from jaxvision.split_roles import DESCRIBED, NAMES, ROLES, with_test
from jaxvision.splits import target_stats


def _files(table: Table, pattern: str) -> list[Path]:
    """Return each row's image file, from a column or a pattern such as "images/{id}.jpg", relative to the table."""
    if pattern in table.images:
        return table.images[pattern]()
    names = table.column(pattern) if "{" not in pattern else _filled(table, pattern)
    files = [table.file.parent / name for name in names]
    missing = [index for index, path in enumerate(files) if not names[index] or not _is_file(path)]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        first = str(files[missing[0]]) if names[missing[0]] else ""
        raise ValueError(
            f"{len(missing)} of the {len(files)} images of {str(table.file)!r} {are} missing, the first {first!r}"
            + _repair(table, names, missing)
        )
    return files


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long for a name
        return False


def _repair(table: Table, names: Sequence[str], missing: Sequence[int]) -> str:
    """Return the suggested fix: restore the files if some are missing, correct their paths if all are."""
    if "\\" in names[missing[0]]:
        path = names[missing[0]].replace("\\", "/")
        is_there = _is_file(table.file.parent / path)
        written = f"as {path!r}" if is_there else "with / and from the table's folder, as 'images/1.jpg'"
        return f"; paths with backslashes are read on Windows only: write them {written}"
    if len(missing) < len(table.rows):
        them, rows = ("it", "its row") if len(missing) == 1 else ("them", "their rows")
        return f" of {table.lines[missing[0]]}; add {them}, or remove {rows} from the table"
    return "; set image='…' to the column with their paths from the table's folder, or a pattern, 'images/{id}.jpg'"


def _filled(table: Table, pattern: str) -> list[str]:
    """Fill the columns that a pattern names into it; a pattern takes no formats, attributes or indices."""
    try:
        pieces = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise ValueError(f"table: image={pattern!r} is not a pattern like 'images/{{id}}.jpg': {error}") from None
    for _, name, form, conversion in pieces:
        if form or conversion or name == "":
            raise ValueError(
                f"table: image={pattern!r} is not a pattern like 'images/{{id}}.jpg': braces hold the name of a column "
                "alone"
            )
    columns = [table.column(name) if name is not None else [""] * len(table.rows) for _, name, _, _ in pieces]
    texts = [text for text, _, _, _ in pieces]
    return ["".join(text + value for text, value in zip(texts, row, strict=True)) for row in zip(*columns, strict=True)]


def _parts(tables: Sequence[Table], split: str | None) -> np.ndarray:
    """Return the split of each row; rows of a second table are test."""
    if split is None:
        return np.repeat(["train", "test"][: len(tables)], [len(table.rows) for table in tables])
    values = column(tables, split)
    unknown = next((value for value in values if value.lower() not in ROLES), None)
    if unknown is not None:
        raise ValueError(
            f"column {split!r} of {tables[0]} has {quoted(unknown)}{nearest(unknown, ROLES)}; expected train, "
            "validation or test"
        )
    return np.array([ROLES[value.lower()] for value in values])


def _roles(tables: Sequence[Table], split: str | None, how: str) -> str:
    """Return where the splits come from as a line of text; `how` is the origin of a test split that was held out."""
    values = dict.fromkeys([] if split is None else column(tables, split))
    words = {role: " or ".join(quoted(value) for value in values if ROLES[value.lower()] == role) for role in NAMES}
    if split is None:
        words = dict(zip(("train", "test"), [repr(table.file.name) for table in tables], strict=False))
    parts = ", ".join(f"{DESCRIBED.get(role, role)} is {word}" for role, word in words.items() if word)
    return f"roles: {parts}{f' of column {split!r}' if split else ''}{f'; {how}' if how else ''}"


def _contradictions(tables: Sequence[Table], files: Sequence[Path], encoded: Encoded) -> list[str]:
    """Return a note that counts the files with several classes, in several rows; none if there are none."""
    if encoded.kind != "multiclass":
        return []
    lines = [line for table in tables for line in table.lines]
    found: dict[Path, dict[int, str]] = {}  # by file: the first line of each class
    for index in np.flatnonzero(encoded.kept).tolist():
        found.setdefault(files[index], {}).setdefault(int(encoded.targets[index]), lines[index])
    several = {file: classes for file, classes in found.items() if len(classes) > 1}
    if not several:
        return []
    first, classes = next(iter(several.items()))
    listed = " and ".join(f"{quoted(encoded.classes[index])} ({line})" for index, line in classes.items())
    counted = "1 image has" if len(several) == 1 else f"{len(several):,} images have"
    return [
        f"{counted} several classes in {named(tables)}, the first {first.name!r}: {listed}; keep one row of each "
        "image, or name the classes of an image in one cell as labels, delimiter='|'"
    ]


def _groups(tables: Sequence[Table], name: str | None) -> np.ndarray | None:
    """Return the group number of each row, if a column has groups. Raises ValueError for the first without a group."""
    if not name:
        return None
    places = [place for table in tables for place in table.places]
    return np.unique(filled_in(column(tables, name), name, places), return_inverse=True)[1]


def _read_tables(path: str, test: str | None, split: str | None) -> list[Table]:
    """Read the table and that of the test rows. Raises ValueError if a column selects these, too."""
    if test is not None and split is not None:
        raise ValueError("table: split and test both select the test rows; give only one")
    return [read_table(Path(file).expanduser()) for file in (path, test) if file is not None]


def _other_columns(
    tables: Sequence[Table], image: str, target: str | Sequence[str], split: str | None
) -> dict[str, np.ndarray]:
    """Return the columns that all tables have and that are neither images, targets nor splits."""
    used = {image, split, *([target] if isinstance(target, str) else target)}
    names = [name for name in tables[0].rows[0] if all(name in table.rows[0] for table in tables)]
    rows = [row for table in tables for row in table.rows]
    return {name: np.array([row[name] for row in rows], np.str_) for name in names if name not in used}


def _read_splits(
    files: list[Path],
    encoded: Encoded,
    parts: np.ndarray,
    groups: np.ndarray | None,
    columns: dict[str, np.ndarray],
    shape: Preprocessing,
    on_bad_image: str,
    max_pixels: int,
) -> dict[str, Split]:
    """Read the images of the kept rows into the non-empty splits."""
    splits = {}
    for name in NAMES:
        chosen = np.flatnonzero(encoded.kept & (parts == name))
        if len(chosen):
            splits[name] = read_files(
                [files[i] for i in chosen],
                encoded.targets[chosen],
                shape,
                kind=encoded.kind,
                name=name,
                on_bad_image=on_bad_image,
                groups=None if groups is None else groups[chosen],
                columns={title: values[chosen] for title, values in columns.items()},
                max_pixels=max_pixels,
            )
    return splits


def _check(splits: dict[str, Split], classes: tuple[str, ...], tables: Sequence[Table], *, is_cut: bool) -> None:
    """Raise ValueError if train lacks a class or label, or if a group is in two splits."""
    train = splits["train"]
    if train.kind == "continuous" and np.ptp(train.targets) == 0:
        raise ValueError(f"{tables[0]} has only the number {train.targets[0]} in train; expected targets that vary")
    if train.kind != "continuous":
        known = np.array(target_stats(train, len(classes)).counts) > 0
        for name, part in splits.items():
            unknown = np.flatnonzero((np.array(target_stats(part, len(classes)).counts) > 0) & ~known)
            where = f"{name} of {tables[0]}" if len(tables) == 1 else str(tables[1])
            if len(unknown):
                raise ValueError(f"{where} has {_unknown([classes[i] for i in unknown], is_cut=is_cut)}")
    if train.groups is not None:
        seen: dict[int, str] = {}
        for name, part in splits.items():
            assert part.groups is not None
            for group in np.unique(part.groups).tolist():
                if seen.setdefault(group, name) != name:
                    raise ValueError(
                        f"{named(tables)}: rows of one group are in {seen[group]} and {name}; expected one split"
                    )


def _unknown(names: Sequence[str], *, is_cut: bool) -> str:
    """Return the names that train lacks, and the suggested fix."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    them, seed = ("them" if len(names) > 1 else "it"), (" use another split_seed," if is_cut else "")
    return (
        f"{', '.join(map(quoted, names[:3]))}{more}, which train does not have; add examples of {them},{seed} or drop "
        "rare ones with min_count=…"
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
    flags: Flags = "column",
    split: str | None = None,
    test: str | None = None,
    group: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    crop: float | Literal["squash", "pad"] | None = None,
    interpolation: Interpolation | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
    on_bad_image: str = "error",
    preprocessing: Preprocessing | None = None,
    resize: Resize = "short_side",
    run_classes: tuple[str, ...] = (),
    max_image_pixels: int = MAX_PIXELS,
) -> Dataset:
    """Load images and their targets from a table, .csv or .parquet, with a header.

    A single target column holds numbers if most values are numbers and one has a fraction, else classes. Several
    columns, or a delimiter, make labels: "season=Fall" from the value of a column, the column's own name from a column
    of 0 and 1, and the listed labels from a delimited column.

    A Parquet file may hold the images themselves, in a column of bytes or as the Hugging Face hub has them, and lists
    of labels.

    Args:
        path: the table.
        image: the column of image paths relative to the table's folder, or a pattern of columns, 'images/{id}.jpg'.
        target: the column of the targets, or several columns of labels.
        kind: "multiclass", "multilabel" or "continuous"; by default decided by the columns as above.
        delimiter: separates the labels in a column, e.g. '|'.
        min_count: drop labels, and classes with their rows, with fewer training rows than this.
        flags: "column" decides for each column whether it is one of 0 and 1; "all", as until version 0.3, takes columns
            for these only if all are.
        split: the column that assigns rows to train, validation and test.
        test: a second table, with the test rows.
        group: a column; rows with the same value stay in the same split.
        image_size: side in pixels, or (height, width); as for `folder`.
        channels: 3 for color, 1 for grayscale.
        crop: as for `folder`.
        interpolation: as for `folder`.
        test_fraction: fraction of train held out as test, stratified for classes, if there are no test rows. Defaults
            to 0.2 without validation rows; with them, nothing is held out.
        split_seed: seed of the split.
        on_bad_image: "error" raises for an unreadable file, "skip" warns and leaves it out.
        preprocessing: preprocessing of the initial weights, if there are any.
        resize: the rule of runs without initial weights, as in `Preprocessing`.
        run_classes: as for `folder`.
        max_image_pixels: the largest number of pixels of an image file.

    Raises:
        FileNotFoundError: if a table does not exist.
        ValueError: if a column, a value or an image is missing or invalid.
    """
    shape = requested_preprocessing(
        preprocessing, image_size=image_size, channels=channels, crop=crop, interpolation=interpolation, resize=resize
    )
    tables = _read_tables(path, test, split)
    parts = _parts(tables, split)
    files = [file for table in tables for file in _files(table, image)]
    encoded = encode(
        tables,
        [target] if isinstance(target, str) else target,
        kind,
        delimiter=delimiter,
        min_count=min_count,
        is_train=parts == "train",
        run_classes=run_classes,
        flags=flags,
    )
    groups, others = _groups(tables, group), _other_columns(tables, image, target, split)
    splits = _read_splits(files, encoded, parts, groups, others, shape, on_bad_image, max_image_pixels)
    if "train" not in splits:
        raise ValueError(f"{tables[0]} has no training rows")
    splits, how = with_test(splits, test_fraction, seed=split_seed)
    _check(splits, encoded.classes, tables, is_cut=bool(how))
    notes = (_roles(tables, split, how), *alike(encoded.classes), *_contradictions(tables, files, encoded))
    notes += tuple(note for each in tables for note in each.notes)
    return Dataset(splits["train"], splits.get("validation"), splits.get("test"), encoded.classes, shape, notes)
