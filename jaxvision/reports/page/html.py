"""Elements of HTML whose text is escaped unless it is markup already: tags, tables, sections."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

# HTML allows no control characters but tab and line breaks, no lone surrogates and no noncharacters.
NOT_ALLOWED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
NO_BREAK = "\u00a0"  # a space at which no line ends
MOST_ROWS = 40  # of a table that does not scroll by itself
VOID = ("br", "img", "input", "link", "meta", "hr")


class Html(str):
    """Markup, which is not escaped again."""

    __slots__ = ()


class Cell(NamedTuple):
    """A cell of a table: what it shows, and the number by which the column is sorted."""

    shown: str
    value: float


def escaped(text: str) -> Html:
    """Return text as markup; what HTML does not allow is shown as backslash escapes.

    >>> escaped("<script>.jpg")
    '&lt;script&gt;.jpg'
    >>> escaped("a\\x00")
    'a\\\\x00'
    """
    if isinstance(text, Html):
        return text
    allowed = NOT_ALLOWED.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))
    return Html(html.escape(allowed))


def join(parts: Iterable[str | None]) -> Html:
    """Return parts one after another, without those that are None."""
    return Html("".join(escaped(part) for part in parts if part is not None))


def tag(name: str, /, *children: str | None, **attributes: Any) -> Html:
    """Return an element; `class_` names the attribute class, an underscore stands for a hyphen, and True for no value.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    shown = []
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            shown.append(f" {attribute}")
        elif value is not None and value is not False:
            shown.append(f' {attribute}="{escaped(str(value))}"')
    start = f"<{name}{''.join(shown)}>"
    return Html(start if name in VOID else f"{start}{join(children)}</{name}>")


def paragraph(*children: str | None, note: bool = False) -> Html:
    """Return a paragraph, smaller and paler for a note."""
    return tag("p", *children, class_="note" if note else None)


def bullets(items: Iterable[str]) -> Html:
    """Return a list."""
    return tag("ul", *(tag("li", item) for item in items))


def details(summary: str, *children: str | None) -> Html:
    """Return content that is folded until a reader opens it."""
    return tag("details", tag("summary", summary), *children)


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    sortable: bool = False,
    num_texts: int = 1,
    is_titled: bool = False,
) -> Html:
    """Return a table in a box that scrolls by itself.

    The first `num_texts` columns are text, the others numbers, aligned to the right. The first cell of a row is its
    head. Cells are text, markup, integers, or `Cell`. The caption of a table that `is_titled` by a heading is for
    screen readers only.
    """
    names = [tag("th", name, scope="col", class_=None if i < num_texts else "number") for i, name in enumerate(head)]
    body = []
    for row in rows:
        cells = [_cell(value, is_head=i == 0, is_number=i >= num_texts) for i, value in enumerate(row)]
        body.append(tag("tr", *cells))
    shown = tag("span", caption, class_="unseen") if is_titled else caption
    content = (tag("caption", shown), tag("thead", tag("tr", *names)), tag("tbody", *body))
    made = tag("table", *content, class_="sortable" if sortable else None)
    size = "scroll tall" if len(rows) > MOST_ROWS else "scroll"
    return tag("div", made, class_=size, tabindex="0", role="region", aria_label=caption)


def _cell(value: Any, *, is_head: bool, is_number: bool) -> Html:
    sort = None
    if isinstance(value, Cell):
        value, sort = value.shown, f"{value.value:.9g}"
    elif isinstance(value, int):
        value, sort = f"{value:,}", str(value)
    attributes = {"class_": "number" if is_number else None, "data_value": sort}
    return tag("th", value, scope="row", **attributes) if is_head else tag("td", value, **attributes)


def section(title: str, anchor: str, *children: str | None) -> Html:
    """Return a section with a heading, to which the table of contents leads."""
    return tag("section", tag("h2", title, id=anchor), *children)


def percent(value: float, digits: int = 1) -> str:
    """Return a fraction as text.

    >>> percent(0.1234).replace(NO_BREAK, " ")
    '12.3 %'
    """
    return f"{100 * value:.{digits}f}{NO_BREAK}%"


def counted(count: int, noun: str) -> str:
    """Return a number and its noun.

    >>> counted(1, "image"), counted(1200, "class")
    ('1 image', '1,200 classes')
    """
    return f"{count:,} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"


def names_only(text: str) -> str:
    """Return a text without the folders of absolute paths, so that a page tells nothing of the machine.

    >>> names_only("folder(path='/home/me/my photos/test') and a/b, by /runs/first, on validation")
    "folder(path='test') and a/b, by first, on validation"
    """
    return re.sub(r"(?<![\w/.:])/(?=\S)(?:[^/'\",;()\n]+/)+", "", text)
