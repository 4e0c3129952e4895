"""The messages that docs/troubleshooting.md quotes are those of the code."""

import ast
import re
from functools import cache

import pytest
from conftest import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
QUOTES = [line[2:] for line in PAGE.read_text().splitlines() if line.startswith("> ")]
VALUES = {"ConnectionError", "FileNotFoundError", "LocalEntryNotFoundError", "googleapis", "host", "missing", "runs"}
VALUES |= {"first", "jfif", "jpeg", "plug", "score", "storage", "syntax"}  # of the examples, or words of Python


@cache
def fragments() -> list[str]:
    """Return the constant parts of all strings in the code but docstrings."""
    parts = set()
    for file in (ROOT / "jaxvision").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.startswith("Return"):
                parts |= {part.strip() for part in node.value.split("\n")}
    return sorted(part for part in parts if len(part) >= 4)


def unknown_words(quote: str) -> list[str]:
    """Return the words of a quoted message that are in no string of the code, nor in three words in a row there."""
    text = re.sub(r"'[^']*'|=\S+", lambda value: " " * len(value[0]), quote)
    covered = set()
    code = "\n".join(fragments())
    tokens = [token.span() for token in re.finditer(r"\S+", quote)]
    windows = [quote[first[0] : last[1]] for first, last in zip(tokens, tokens[2:], strict=False)]
    for part in [part for part in fragments() if part in quote] + [window for window in windows if window in code]:
        for found in re.finditer(re.escape(part), quote):
            covered.update(range(*found.span()))
    words = re.finditer(r"[A-Za-z]{4,}", text)
    return [word[0] for word in words if not covered & set(range(*word.span())) and word[0] not in VALUES]


@pytest.mark.parametrize("quote", QUOTES)
def test_quoted_messages_are_those_of_the_code(quote):
    assert not unknown_words(quote)


def test_another_wording_is_noticed():
    assert unknown_words("init_from='missing': no such folder; wanted pretrained, a workdir") == ["wanted"]
