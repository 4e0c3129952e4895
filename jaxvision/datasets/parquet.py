"""Read Parquet files: the text of plain columns, the values of lists, and images inside the file."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jaxvision.array_cache import cached_files, stamps
from jaxvision.class_names import quoted
from jaxvision.datasets.rows import Table
from jaxvision.machine import require_memory

CELL_BYTES = 50  # the least that a value takes as a Python string


def read_parquet(file: Path) -> Table:
    """Read a Parquet file as strings; missing values are empty. Raises ValueError if it is damaged."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"the table {str(file)!r} is Parquet, which needs `pip install pyarrow`") from None
    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            groups = [opened.metadata.row_group(index) for index in range(opened.metadata.num_row_groups)]
            num_cells = opened.metadata.num_rows * len(opened.schema_arrow.names)
            need = max(sum(group.total_byte_size for group in groups), num_cells * CELL_BYTES)
            require_memory(need, f"the table {str(file)!r} of {opened.metadata.num_rows:,} rows")
            table = opened.read()
        names = list(table.schema.names)
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:  # names of columns are text, too
        why = " ".join(str(error).split())
        raise ValueError(f"cannot read the table {str(file)!r} as Parquet: {why}") from None
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"the table {str(file)!r} has two columns {twice!r}; rename one")
    result = Table(file, [{} for _ in range(table.num_rows)], [f"row {row}" for row in range(1, table.num_rows + 1)])
    for name in names:
        _add(result, name, table[name])
    return result


def _add(table: Table, name: str, column: Any) -> None:
    """Add a column of Arrow values to a table, or the reason why it cannot be used."""
    from pyarrow import ArrowException, types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    has_images = types.is_struct(kind) and any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    try:
        if has_images:
            table.images[name] = functools.partial(_write_images, table, name, column, field="bytes")
        elif is_list and not types.is_nested(kind.value_type):
            table.lists[name] = [
                tuple(_text(item, line) for item in value or ())
                for value, line in zip(column.to_pylist(), table.lines, strict=True)
            ]
        elif types.is_nested(kind):
            raise ValueError(f"its values are of type {quoted(str(kind))}; expected text, numbers or lists of these")
        elif _is_binary(kind) and _is_image(next((value for value in column.to_pylist() if value is not None), b"")):
            table.images[name] = functools.partial(_write_images, table, name, column)
        else:
            values = column.to_pylist()
            texts = [
                "" if value is None else _text(value, line) for value, line in zip(values, table.lines, strict=True)
            ]
            for row, text in zip(table.rows, texts, strict=True):
                row[name] = text
    except (ValueError, OverflowError, TypeError, ArrowException) as error:
        table.unusable[name] = " ".join(str(error).split())


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _is_image(content: bytes) -> bool:
    """Return whether bytes begin as the file of an image does; text has no such bytes."""
    starts = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
    is_webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    is_bmp = content[:2] == b"BM" and content[6:10] == bytes(4)
    is_avif = content[4:8] == b"ftyp" and content[:2] == bytes(2)
    return content.startswith(starts) or is_webp or is_bmp or is_avif


def _text(value: Any, line: str) -> str:
    """Return a value as text. Raises ValueError for a missing value, and for bytes that are not text."""
    if value is None:
        raise ValueError(f"{line} has a list with a missing value; remove it")
    if not isinstance(value, bytes):
        return str(value).strip()
    try:
        return value.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"{line} has the bytes {quoted(value)}, which are not UTF-8 text") from None


def _write_images(table: Table, name: str, column: Any, *, field: str | None = None) -> list[Path]:
    """Write the images of a column, or of its field, into files of the cache, once; return the file of each row."""
    names = [f"row {row:07d}" for row in range(1, len(table.rows) + 1)]

    def make(folder: Path) -> None:
        for file, value, line in zip(names, column, table.lines, strict=True):
            content = (value[field] if field else value).as_py()
            if not content:
                raise ValueError(
                    f"column {name!r} of {table} cannot be used: {line} has no bytes of an image; remove the row, or "
                    "name the files of all images"
                )
            (folder / file).write_bytes(content)

    folder = cached_files("table", f"{stamps([table.file.resolve()])} {name}", make)
    return [folder / file for file in names]
