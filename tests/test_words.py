"""Plain English in docstrings, messages, help texts and documents: banned words and openers, with counts going down."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OPENERS = ("Gives", "Says", "Tells", "Makes", "Takes", "Puts", "Is told", "Has it", "Keeps", "Looks up", "Answers")
PHRASES = (
    "is told",
    "are told",
    "judged",
    "made anew",
    "such as are",
    "of which",
    "asks nobody",
    "past mending",
    "at an end",
    "has not",
    "have not",
    "leave it be",
)
MESSAGE_PHRASES = ("wanted", "leave out", "mend ")  # banned in messages, where the expected value is stated
MESSAGE_CALLS = ("warn", "print", "require", "say")
HELP_CALLS = ("DEFINE_", "add_argument", "_setting", "_field")
ALLOWED = {  # today's number of each folder and document; it may only go down
    "CHANGELOG.md": 1,
    "tests": 9,
}
DOCUMENTS = ("README.md", "BUILD.md", "CHANGELOG.md")


def docstrings(tree: ast.AST) -> list[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return [text for text in texts if text]


def _strings(node: ast.AST) -> str:
    """Return the string constants below a node, with a gap for each value of an f-string."""
    parts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return " … ".join(parts)


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def messages(tree: ast.AST) -> list[str]:
    """Return the texts of raised errors, warnings, printed lines and helps of flags."""
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc]
    calls = [node for node in ast.walk(tree) if _called(node) in MESSAGE_CALLS or _called(node).startswith(HELP_CALLS)]
    helps = [
        value
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "help"
    ]
    return [text for text in map(_strings, [*raised, *calls, *helps]) if text]


def _found(text: str, phrases: tuple[str, ...]) -> list[str]:
    flat = " ".join(text.split())
    return [phrase for phrase in phrases for _ in re.findall(rf"(?<!\w){re.escape(phrase)}(?!\w)", flat)]


def violations(source: str) -> list[str]:
    """Return the banned openers and phrases in the docstrings and messages of Python source."""
    tree = ast.parse(source)
    found = []
    for text in docstrings(tree):
        found += [opener for opener in OPENERS if re.match(rf"{opener}\b", text)]
        found += _found(text, PHRASES)
    for text in messages(tree):
        found += _found(text, (*PHRASES, *MESSAGE_PHRASES))
    return found


def document_violations(text: str) -> list[str]:
    """Return the banned phrases in a document, without its code blocks and tables of measurements."""
    return _found(re.sub(r"```.*?```|<!-- measured -->.*?<!-- end -->|`[^`]*`", "", text, flags=re.DOTALL), PHRASES)


def _folder(path: Path) -> str:
    parts = path.relative_to(ROOT).parts[:-1]
    return "/".join(parts[:2]) if parts[:1] == ("jaxvision",) else parts[0]


@functools.cache
def counts() -> dict[str, int]:
    """Count the violations of each folder, and of each document."""
    found: dict[str, int] = {}
    for top in ("jaxvision", "scripts", "experiments", "tests"):
        for path in sorted((ROOT / top).rglob("*.py")):
            if path != Path(__file__):
                folder = _folder(path)
                found[folder] = found.get(folder, 0) + len(violations(path.read_text()))
    for path in [*(ROOT / name for name in DOCUMENTS), *sorted((ROOT / "docs").glob("*.md"))]:
        found[str(path.relative_to(ROOT))] = len(document_violations(path.read_text()))
    return found


@pytest.mark.parametrize("place", sorted({*counts(), *ALLOWED}))
def test_no_banned_words(place):
    number, allowed = counts().get(place, 0), ALLOWED.get(place, 0)
    assert number <= allowed, (
        f"{place} has {number} banned words or openers, {allowed} are allowed: rewrite the new ones"
    )
    assert number >= allowed, f"{place} has only {number} banned words or openers: lower its number in ALLOWED"


def test_banned_words_are_found():
    source = '''
"""Gives the split, of which some are judged."""
def f(x):
    """Return x, as is told."""
    if x:
        raise ValueError(f"x={x}; wanted 1")
    print("is told here")
    warnings.warn("plain")
    field(metadata={"help": "what is judged"})
'''
    assert sorted(violations(source)) == sorted(
        ["Gives", "of which", "judged", "is told", "wanted", "is told", "judged"]
    )
    assert violations('"""Return the split."""\ndef f():\n    raise ValueError("expected one")\n') == []
    assert document_violations("Is it\njudged?\n```\njudged\n```\n`judged`") == ["judged"]
    assert violations('x = "is told"  # only docstrings and messages count\n') == []
