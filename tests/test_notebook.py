"""What notebooks and the prompt show of results: tables whose names are escaped, and one short line."""

import base64
import io
import json
import pickle
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxvision as jv
from jaxvision.predict import Predictions
from jaxvision.ranking import Sweep
from jaxvision.reports import Report
from jaxvision.tasks.classification import _describe
from jaxvision.train import Result

BAD = "<script>alert('a & b')</script>"
REPORT = {
    "split": "test",
    "headline": "accuracy",
    "num_examples": 8,
    "num_parameters": 100,
    "step": 30,
    "accuracy": 0.75,
    "loss": 0.5,
    "macro": {"recall": 0.7},
    "per_class": {BAD: {"recall": 0.5, "num_examples": 4}, "light": {"recall": 1.0, "num_examples": 4}},
    "most_confused": [{"true": BAD, "predicted": "light", "count": 2}],
    "baseline": {"most frequent class": {"accuracy": 0.5}},
    "train": {"accuracy": 0.875},
}


class Page(HTMLParser):
    """The tags, the rows of cells and the pictures of HTML, whose tags must be closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.rows, self.pictures, self.text, self._open = set(), [], [], "", []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])
            return
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_a_report_is_a_dict_that_shows_its_headline_first():
    report = Report(REPORT)
    assert (
        report == REPORT and json.loads(json.dumps(report)) == REPORT and pickle.loads(pickle.dumps(report)) == REPORT
    )
    assert repr(report).startswith("Report(accuracy 0.7500 on test of 8; 12 entries: split, headline")
    page = Page(report._repr_html_())
    assert page.text.startswith("accuracy 0.7500 on test of 8") and "script" not in page.tags
    assert page.rows[:4] == [
        ["", "accuracy", "loss"],
        ["test", "0.7500", "0.5000"],
        ["train", "0.8750", ""],
        ["most frequent class", "0.5000", ""],
    ]
    assert [BAD, "0.5000", "4"] in page.rows and ["macro mean", "0.7000", ""] in page.rows
    assert [BAD, "light", "2"] in page.rows
    assert Page(Report()._repr_html_()).text == "empty" and repr(Report()).startswith("Report(empty")


def predictions(names, errors=None):
    probabilities = np.tile(np.array([0.25, 0.75], np.float32), (len(names), 1))
    return Predictions(names, probabilities, probabilities.argmax(1), ("dark", BAD), errors or {}, _describe)


def test_predictions_of_files_have_thumbnails_and_few_rows(tmp_path):
    names = [str(tmp_path / f"<b>{index}.png") for index in range(30)]
    for index, name in enumerate(names):
        if index != 1:
            Image.new("RGB", (300, 200), (255, 0, 0)).save(name)
    found = predictions(names, {f"{BAD}.png": f"cannot read {BAD}"})
    page = Page(found._repr_html_())
    assert page.tags == {"table", "thead", "tbody", "tr", "th", "td", "img", "p"}
    assert page.rows[0] == ["", "file", "class", "probability", "runners up"]
    assert page.rows[1] == ["", names[0], BAD, "0.7500", "dark 25.0%"]
    assert page.rows[20][1] == names[19] and page.rows[21:] == [
        ["unreadable file", "error"],
        [f"{BAD}.png", f"cannot read {BAD}"],
    ]
    assert len(page.pictures) == 19 and "and 10 more inputs" in page.text  # the second file is gone
    with Image.open(io.BytesIO(base64.b64decode(page.pictures[0].partition("base64,")[2]))) as image:
        assert image.size == (48, 48) and image.convert("RGB").getpixel((20, 20)) == (255, 0, 0)
    assert len(found._repr_html_()) < 50_000
    assert repr(found).startswith("Predictions(30 inputs, 1 unreadable: <b>0.png <script>")
    assert repr(found).endswith("and 27 more)") and "array" not in repr(found)


def test_predictions_of_arrays_have_no_pictures():
    page = Page(predictions(["0", "1"])._repr_html_())
    assert not page.pictures and page.rows[0] == ["file", "class", "probability", "runners up"] and len(page.rows) == 3
    assert repr(predictions([])) == "Predictions(0 inputs)" and Page(predictions([])._repr_html_()).rows == []


@pytest.mark.parametrize("test", [Report(REPORT), None])
def test_a_result_shows_its_test_and_the_last_of_its_history(test):
    history = [{"step": step, "epoch": 1.0, "split": "train", "loss": 1 / step} for step in range(1, 41)]
    found = Result(history, test, Path(f"runs/{BAD}"))
    page = Page(found._repr_html_())
    assert "script" not in page.tags and f"runs/{BAD}" in page.text
    assert page.rows[-1] == ["40", "1.0000", "train", "0.0250"] and ["20", "1.0000", "train", "0.0500"] not in page.rows
    assert page.text.startswith("accuracy 0.7500 on test") == (test is not None)
    assert ("test=accuracy 0.7500" if test else "test=none") in repr(found)
    other = Report({"headline": "rmse", "mae": 1.0, "rmse": 2.0, "split": "test", "num_examples": 2})
    assert "test=rmse 2.0000" in repr(found._replace(test=other))


def test_a_sweep_shows_the_table_of_its_settings():
    rows = [
        {"setting": {"dataset": name}, "name": "accuracy", "value": value, "deviation": None, "steps": 5,
         "seconds": 1.0, "error": None, "trials": []}
        for name, value in (("digits", 0.75), (BAD, 0.5))
    ]  # fmt: skip
    found = Sweep(rows, jv.Config(), Path(BAD))
    page = Page(found._repr_html_())
    assert "script" not in page.tags and page.text.startswith(
        "2 configurations, best accuracy 0.7500 by dataset='digits'"
    )
    assert page.rows == [
        ["accuracy", "dataset", "steps", "seconds"],
        ["0.7500", "'digits'", "5", "1.0"],
        ["0.5000", repr(BAD), "5", "1.0"],
    ]
    assert repr(found).endswith("2 configurations, best accuracy 0.7500 by dataset='digits')")
