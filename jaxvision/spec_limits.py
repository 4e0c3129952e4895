"""The limits of specs: how long and deep they are, and how large their numbers; and the messages beyond them."""

from __future__ import annotations

import ast
import cmath
import math
from typing import Any

LARGEST = 2**31 - 1  # what JAX counts with
SHORT = 200  # characters of a spec that cannot be too deep
MOST_CHARACTERS = 1_000_000
MOST_LISTED = 100  # specs in a list, such as augmentations
MOST_DEPTH = 50
MOST_SHOWN = 120  # characters of a spec in a message


def unreadable(text: str, why: str) -> ValueError:
    """Return the error that a spec cannot be parsed, with the beginning of a long one."""
    shown = repr(text) if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]!r} … ({len(text):,} characters)"
    return ValueError(
        f"cannot parse {shown}: {why}; expected name or name(argument=value, …) with numbers, quotients as 8/255, "
        "'strings', True, False, None, tuples or another name(…) as values"
    )


def too_large(text: str, number: int) -> ValueError:
    """Return the error that an integer is beyond the limit."""
    shown = f"an integer of {number.bit_length():,} bits" if number.bit_length() > 100 else f"{number:,}"
    return unreadable(text, f"{shown} is beyond the largest integer of a spec, ±{LARGEST:,}")


def check_numbers(value: Any, text: str) -> None:
    """Raise ValueError if a literal is, or holds, a number that is not finite, or an integer beyond the limit."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple | set):
        for item in value:
            check_numbers(item, text)
    elif isinstance(value, float | complex) and not cmath.isfinite(value):
        raise unreadable(text, "a number is not finite")
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise too_large(text, value)


def check_length(text: str) -> None:
    """Raise ValueError if a spec is too long to be parsed in a moment."""
    if len(text) > MOST_CHARACTERS:
        raise unreadable(text, f"it has more than {MOST_CHARACTERS:,} characters")


def check_tree(tree: ast.expr, text: str) -> None:
    """Raise ValueError if a list of specs is too long, or nested too deeply for what reads it recursively."""
    if isinstance(tree, ast.Tuple) and len(tree.elts) > MOST_LISTED:
        raise unreadable(text, f"it lists {len(tree.elts):,} names, and at most {MOST_LISTED} are possible")
    level: list[ast.AST] = [tree]
    for _ in range(3 * MOST_DEPTH):  # a call, its argument and its value are three nodes
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise unreadable(text, f"it is nested more than {MOST_DEPTH} deep")


def quotient(numerator: Any, denominator: Any, text: str) -> float:
    """Return a quotient as 8/255. Raises ValueError if a part is no number, or the quotient is not finite."""
    for number in (numerator, denominator):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise unreadable(text, f"{number!r} in a quotient is not a number")
    value = numerator / denominator if denominator else math.inf
    if not math.isfinite(value):
        raise unreadable(text, f"the quotient of {numerator} by {denominator} is not finite")
    return value
