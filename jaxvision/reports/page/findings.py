"""What a reader should look at first: only what chance does not explain, each with a link to its section."""

from __future__ import annotations

from collections.abc import Iterator

from jaxvision.reports.page.calibration import confidence
from jaxvision.reports.page.doubt import fit_doubt
from jaxvision.reports.page.duplicates import contradictions, leaks
from jaxvision.reports.page.html import Html, counted, join, percent, tag
from jaxvision.reports.page.page_data import PageData
from jaxvision.reports.page.suspects import mislabeled_pairs, suspects
from jaxvision.reports.page.svg import number
from jaxvision.reports.page.weak_slices import slices

MOST_NAMED = 3  # slices or pairs


def findings(data: PageData) -> Html:
    """Return the findings as a box, or that there are none."""
    found = [*_calibration(data), *_labels(data), *_duplicates(data), *_slices(data)]
    if not found:
        return tag("div", tag("b", "Nothing stands out"), _what_was_searched(data), class_="findings none")
    return tag(
        "div", tag("b", "Look at this first"), tag("ul", *(tag("li", each) for each in found)), class_="findings"
    )


def _what_was_searched(data: PageData) -> Html:
    names = ["wrong confidence"] * (confidence(data) is not None)
    names += ["contradicted labels, mislabeled pairs of classes"] * (data.form == "classes")
    names += ["leaks between splits"] * (data.pairs is not None) + ["weak slices"] * bool(slices(data))
    searched = f"No finding that chance would not explain, of {', '.join(names)}." if names else "Nothing was searched."
    return tag("p", searched, class_="note")


def _link(text: str, anchor: str) -> Html:
    return tag("a", text, href=f"#{anchor}")


def _calibration(data: PageData) -> Iterator[Html]:
    found = confidence(data)
    if found is not None and found.is_clear:
        word = "Overconfident" if found.deviations > 0 else "Underconfident"
        end = f": mean confidence {percent(found.confidence)}, {percent(found.accuracy)} right."
        yield join((_link(word, "calibration"), end))


def _labels(data: PageData) -> Iterator[Html]:
    found = suspects(data)
    if not found:
        return
    doubt = fit_doubt(data.probabilities, data.split.targets)
    if doubt.is_noisy:
        first = ", ".join(data.name(each.index) for each in found[:MOST_NAMED])
        end = f" among {len(data.split):,}, as if {percent(doubt.noise)} of the labels were wrong; the first: {first}."
        yield join((_link(counted(len(found), "suspected label error"), "labels"), end))
    for pair in mislabeled_pairs(data, doubt)[:MOST_NAMED]:
        names = f"{data.classes[pair.given]} → {data.classes[pair.other]}"
        end = (
            f": {pair.observed:,} examples with the first label are taken for the second, where about "
            f"{pair.expected:.0f} are expected. The two may be mislabeled."
        )
        yield join((_link(f"Classes mixed up, {names}", "labels"), end))


def _duplicates(data: PageData) -> Iterator[Html]:
    across = leaks(data)
    if across:
        *names, last = sorted({pair.one[0] for pair in across} | {pair.other[0] for pair in across})
        text = f": near-duplicate images in {', '.join(names)} and {last}, so that the figures are too good."
        yield join((_link(counted(len(across), "leaked pair"), "duplicates"), text))
    other = contradictions(data)
    if other:
        yield join((_link(counted(len(other), "pair"), "duplicates"), " of near-duplicates with different targets."))


def _slices(data: PageData) -> Iterator[Html]:
    for each in [each for each in slices(data) if each.is_weak][:MOST_NAMED]:
        show = number if data.form == "numbers" else percent
        text = f": {show(each.score)} on {counted(each.count, 'example')}, {show(each.rest)} on the rest."
        yield join((_link(f"Weak slice, {each.column} {each.value}", "slices"), text))
