"""The page as one document: its sections in order, with a table of contents."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from jaxvision import specs
from jaxvision.reports.page.html import Html, join, tag
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.style import CSS, SCRIPT

Section = Callable[[PageData], Html | None]
HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)</h2>', re.DOTALL)


def sections() -> tuple[Section, ...]:
    """Return the functions that make the sections, in order. Each returns None where it has nothing to show."""
    from jaxvision.reports.page.calibration import calibration_section
    from jaxvision.reports.page.class_table import class_table
    from jaxvision.reports.page.confusion import confusion
    from jaxvision.reports.page.curves import curves
    from jaxvision.reports.page.duplicates import duplicates
    from jaxvision.reports.page.embedding import embedding
    from jaxvision.reports.page.mistakes import mistakes
    from jaxvision.reports.page.numbers import numbers
    from jaxvision.reports.page.rankings import rankings
    from jaxvision.reports.page.run_details import run_details
    from jaxvision.reports.page.samples import samples
    from jaxvision.reports.page.summary import summary
    from jaxvision.reports.page.suspects import label_suspects
    from jaxvision.reports.page.weak_slices import weak_slices

    what_it_gets_wrong = (confusion, class_table, numbers, samples, mistakes)
    whether_to_trust_it = (calibration_section, label_suspects, duplicates, weak_slices)
    return (summary, *what_it_gets_wrong, *whether_to_trust_it, rankings, curves, embedding, run_details)


def page(data: PageData) -> str:
    """Return the page of a report."""
    made = [section(data) for section in sections()]
    return document(title_of(data), join(made))


def title_of(data: PageData) -> str:
    """Return the title: the model and the data."""
    what = "Ensemble" if data.run is None else data.run.config.model.partition("(")[0]
    where = "" if data.run is None else f" on {named(data.run.config.dataset)}"
    return f"{what}{where}: report on {data.report['split']}"


def named(dataset: str) -> str:
    """Return what a dataset is called: its file or folder, or its name.

    >>> named("folder(path='/home/me/photos')"), named("cifar10(per_class=10)")
    ('photos', 'cifar10')
    """
    spec = specs.parse(dataset)
    path = spec.arguments.get("path")
    return Path(path).name if isinstance(path, str) and Path(path).name else spec.name


def document(title: str, body: Html) -> str:
    """Return a document of sections, with a table of contents that links to their headings."""
    links = [tag("li", tag("a", Html(heading), href=f"#{anchor}")) for anchor, heading in HEADING.findall(body)]
    head = join(
        (
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("title", title),
            tag("link", rel="icon", href="data:,"),
            tag("style", Html(CSS)),
        )
    )
    skip = tag("a", "Skip to the report", class_="skip", href="#report")
    contents = tag("nav", tag("ul", *links), aria_label="Sections")
    main = tag("main", tag("h1", title), body, id="report")
    frame = tag("div", contents, main, class_="frame")
    content = tag("body", skip, frame, tag("script", Html(SCRIPT)))
    return f"<!DOCTYPE html>\n{tag('html', tag('head', head), content, lang='en')}\n"
