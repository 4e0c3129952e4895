"""The order of class names, and names that cannot, or can hardly, be told apart."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation

MOST_SHOWN = 60  # characters of a value in a message
MOST_ALIKE = 3  # groups of names in a note
MISSING = (  # in lower case: what pandas and spreadsheets write for a missing value; "none" and "na" may be names
    *("nan", "<na>", "n/a", "#n/a", "null", "#null!", "#ref!", "#value!", "#name?", "#num!", "#div/0!"),
)


def in_natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return names sorted as a reader counts: numbers by value, and digits within text by value.

    >>> in_natural_order(["10", "9", "-1", "2.5"]), in_natural_order(["class 10", "class 9", "b"])
    (('-1', '2.5', '9', '10'), ('b', 'class 9', 'class 10'))
    """
    names = list(names)
    numbers = list(map(_number, names))
    if None not in numbers:
        return tuple(name for _, name in sorted(zip(numbers, names, strict=True)))  # pyright: ignore[reportArgumentType]
    return tuple(sorted(names, key=lambda name: (_parts(name), name)))


def in_order(names: Iterable[str], run_classes: Sequence[str]) -> tuple[str, ...]:
    """Return names in the order of a run's classes: natural, or by characters as until version 0.3.

    >>> in_order(["9", "10"], []), in_order(["9", "10"], ["1", "10", "2"])
    (('9', '10'), ('10', '9'))
    """
    is_by_characters = list(run_classes) == sorted(run_classes) and tuple(run_classes) != in_natural_order(run_classes)
    return tuple(sorted(names)) if is_by_characters else in_natural_order(names)


def _parts(name: str) -> list[tuple[int, str]]:
    """Return a key by which "9" precedes "10": digits are compared by length first, other text as it is."""
    pieces = re.split("([0-9]+)", name)
    digits = [piece.lstrip("0") if index % 2 else piece for index, piece in enumerate(pieces)]
    return [(len(piece) if index % 2 else 0, piece) for index, piece in enumerate(digits)]


def _number(name: str) -> Decimal | None:
    try:
        number = Decimal("nan" if "_" in name else name)  # Python reads 1_0 as 10, data mean a name
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def check(names: Sequence[str], source: str) -> None:
    """Raise ValueError if a class name is empty, or if two are the same, look the same or are the same number."""
    numbers = list(map(_number, names))
    are_numbers = None not in numbers
    seen: dict[object, str] = {}
    for name, number in zip(names, numbers, strict=True):
        if not name.strip():
            raise ValueError(f"{source}: a class has no name; name each class")
        key = number if are_numbers else unicodedata.normalize("NFC", name)
        if (other := seen.get(key)) is not None:
            how = "are one number" if are_numbers else "differ only by their Unicode normal form"
            what = f"there are two classes {quoted(name)}"
            if other != name:
                what = f"the classes {other!a} and {name!a} {how}"
            raise ValueError(f"{source}: {what}; write both alike, or rename one")
        seen[key] = name


def alike(names: Sequence[str]) -> list[str]:
    """Return a note about names that differ only in case or spaces, as "Dog" and "dog"; none if there are none.

    >>> alike(["Dog", "cat", "dog"])
    ["classes that differ only in case or spaces: 'Dog' and 'dog'; if these are one class, write both alike"]
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(" ".join(name.split()).casefold(), []).append(name)
    same = [" and ".join(map(quoted, group)) for group in groups.values() if len(group) > 1]
    if not same:
        return []
    more = f" (and {len(same) - MOST_ALIKE} more)" if len(same) > MOST_ALIKE else ""
    listed = f"{', '.join(same[:MOST_ALIKE])}{more}"
    return [f"classes that differ only in case or spaces: {listed}; if these are one class, write both alike"]


def quoted(value: object) -> str:
    """Return a value as a message shows it: its repr, shortened if it is long."""
    text = repr(value)
    if len(text) <= MOST_SHOWN:
        return text
    return f"{text[: MOST_SHOWN // 2]} … {text[-MOST_SHOWN // 2 :]} ({len(text):,} characters)"
