"""Text in Markdown: names of any characters, inline code and tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$])")


def escaped(text: str) -> str:
    r"""Return a text that Markdown shows as it is, in one line: control characters become Python's escapes.

    >>> print(escaped("a*b|c\n"))
    a\*b\|c\\n
    """
    return SPECIAL.sub(r"\\\1", printable(text)) or "(empty)"


def printable(text: str) -> str:
    """Return a text with Python's escapes for the characters that cannot be printed, such as line feeds."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def code(text: str) -> str:
    """Return a text as inline code, within as many backticks as it needs.

    >>> code("a`b")
    '``a`b``'
    """
    text = printable(text)
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table of cells, which hold Markdown.

    >>> table(["a"], [["b|"]])
    ['| a |', '|---|', '| b\\\\| |']
    """
    lines = ["|".join(["", *(f" {_cell(each)} " for each in row), ""]) for row in (header, *rows)]
    return [lines[0], "|" + "---|" * len(header), *lines[1:]]


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text)
