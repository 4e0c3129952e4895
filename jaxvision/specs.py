"""Specs: strings that name a factory and its arguments, such as `cnn(channels=(64, 128))`. Parsing executes no code."""

from __future__ import annotations

import ast
import difflib
import typing
from typing import Any, NamedTuple

from jaxvision.spec_limits import LARGEST, SHORT, check_length, check_numbers, check_tree, quotient, unreadable


class Spec(NamedTuple):
    """A name and its keyword arguments."""

    name: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        inner = ", ".join(f"{k}={v!r}" for k, v in self.arguments.items())
        return f"{self.name}({inner})" if inner else self.name


def _value(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Name() | ast.Call():  # a spec inside a spec stays a string for its own registry to read
            _spec(node, text)
            return ast.unparse(node)
        case ast.Tuple() | ast.List():
            return tuple(_value(item, text) for item in node.elts)
        case ast.BinOp(left=numerator, op=ast.Div(), right=denominator):  # epsilon=8/255
            return quotient(_value(numerator, text), _value(denominator, text), text)
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):
        raise unreadable(text, f"{ast.unparse(node)!r} is not a literal, and specs execute no code") from None
    if not (value is None or isinstance(value, str) or (isinstance(value, int | float) and abs(value) <= LARGEST)):
        check_numbers(value, text)
    return value


def _spec(node: ast.expr, text: str) -> Spec:
    match node:
        case ast.Name(id=name):
            return Spec(name, {})
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords) if all(k.arg for k in keywords):
            arguments = {str(k.arg): _value(k.value, text) for k in keywords}
            if len(arguments) < len(keywords):
                raise unreadable(text, "duplicate argument")
            return Spec(name, arguments)
        case ast.Call(func=ast.Name(), args=[_, *_]):
            raise unreadable(text, "arguments must be keywords")
    raise unreadable(text, f"{ast.unparse(node)!r} is not a name, and specs execute no code")


def parse_list(text: str) -> list[Spec]:
    """Parse a comma-separated list of specs; the empty string is the empty list.

    >>> [str(spec) for spec in parse_list("horizontal_flip, random_crop(padding=4)")]
    ['horizontal_flip', 'random_crop(padding=4)']
    """
    if not text.strip():
        return []
    if len(text) > SHORT:
        check_length(text)
    try:
        tree = ast.parse(f"({text.strip().rstrip(',')},)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise unreadable(text, getattr(error, "msg", str(error) or "it is nested too deeply")) from None
    if len(text) > SHORT:
        check_tree(tree, text)
    if not isinstance(tree, ast.Tuple):
        raise unreadable(text, "brackets do not match")
    return [_spec(node, text) for node in tree.elts]


def parse(text: str) -> Spec:
    """Parse one spec. Values are literals or specs; nothing is evaluated.

    >>> parse("cnn(channels=(64, 128), dropout=0.2)")
    Spec(name='cnn', arguments={'channels': (64, 128), 'dropout': 0.2})
    >>> parse("pgd(epsilon=8/255)").arguments["epsilon"] == 8 / 255
    True
    """
    specs = parse_list(text)
    if len(specs) != 1:
        raise unreadable(text, "expected one name" if specs else "it is empty")
    return specs[0]


def nearest(word: str, words: typing.Iterable[str]) -> str:
    """Return "; did you mean …?" with the words that resemble the given one, or "" if none does."""
    lowered = {candidate.lower(): candidate for candidate in words}
    close = [lowered[candidate] for candidate in difflib.get_close_matches(word.lower(), lowered, n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
