"""Pictures of reports: nothing is cut off or overlaps, and what matters is large and named."""

import itertools

import numpy as np
import pytest

from jaxvision import registry
from jaxvision.interfaces import Monitor, Outputs, Split
from jaxvision.reports import files, plots

OUTPUTS = Outputs(np.array([[1.0, 0.0]]), np.zeros(1))


def task_of(monitor):
    return registry.tasks.build("multiclass", num_classes=2)._replace(monitor=monitor)


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn from here on."""
    made, make = [], plots.new_figure
    monkeypatch.setattr(plots, "new_figure", lambda *size: made.append(make(*size)) or made[-1])
    return made


def rows(*, names=("loss", "accuracy"), steps=6):
    for step in range(1, 1 + steps):
        place = {"step": 10 * step, "epoch": float(step)}
        train = {"learning_rate": 0.1, **dict.fromkeys(names, 1 / step), "seconds": 1.0, "data_wait_fraction": 0.1}
        yield {**place, "split": "train", **train}
        yield {**place, "split": "validation", **dict.fromkeys(names, 2 / step), "macro_recall": -abs(step - 3.0)}


@pytest.mark.parametrize("name", ["c", "a name of several words " * 8])
@pytest.mark.parametrize("count", [1, 25])
def test_long_names_leave_room_for_the_plot(figures, tmp_path, name, count):
    names = [f"{name}{number}" for number in range(count)]  # Matplotlib warns where they leave none
    plots.counts({"train": [5] * count, "test": [2] * count}, names, tmp_path / "counts.png")
    plots.series({"train": np.arange(count), "test": np.arange(count)}, names * 2, tmp_path / "series.png")
    plots.forecast(np.arange(count), np.arange(count), {}, names, tmp_path / "forecast.png")
    plots.confusion_matrix(np.eye(count, dtype=int), names, tmp_path / "matrix.png")
    assert len(figures) == 4
    for figure in figures:
        (axes, *_) = figure.axes
        assert axes.get_position().width > 0.25 and axes.get_position().height > 0.25


def boxes(texts):
    return [text.get_window_extent() for text in texts if text.get_text()]


def overlapping(texts):
    return [pair for pair in itertools.combinations(boxes(texts), 2) if pair[0].overlaps(pair[1])]


def is_whole(figure):
    """Whether all that is drawn lies within the picture."""
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return box.x0 >= -0.02 and box.y0 >= -0.02 and box.x1 <= width + 0.02 and box.y1 <= height + 0.02


@pytest.mark.parametrize("size", [2, 10, 20, 43, 200])
@pytest.mark.parametrize("name", ["{}", "class {}", "No passing for vehicles over 3.5 metric tons {}"])
def test_a_confusion_matrix_is_readable_at_all_sizes(size, name, tmp_path, figures):
    classes = [name.format(index) for index in range(size)]
    plots.confusion_matrix(np.full((size, size), 12345), classes, tmp_path / "matrix.png")
    (figure,) = figures
    axes = figure.axes[0]
    assert is_whole(figure)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert labels and not overlapping(labels)
        assert all(len(label.get_text()) <= 22 and label.get_fontsize() >= 7 for label in labels)
    assert len(axes.get_yticklabels()) == size or size > 43
    has_counts = size <= plots.MOST_COUNTED
    assert len(axes.texts) == (size**2 if has_counts else 0) and len(figure.axes) == (1 if has_counts else 2)
    cell = axes.get_window_extent().width / size
    assert all(box.width < cell for box in boxes(axes.texts))
    if not has_counts:
        assert figure.axes[1].get_ylabel() == "fraction of the true class"


def test_curves_have_what_matters_first_and_name_the_checkpoint(tmp_path, figures):
    report = {"step": 30, "headline": "accuracy"}
    split = Split.of(np.zeros((1, 4, 4, 1), np.uint8), np.array([0]), kind="multiclass")
    found = list(rows(names=("gradient_norm", "accuracy", "loss")))
    files.save(tmp_path, report, found, split, OUTPUTS, task_of(Monitor("macro_recall", "max")), ("a", "b"))
    (figure,) = figures
    assert is_whole(figure)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["loss", "accuracy", "gradient norm", "macro recall", "learning rate"]
    sizes = [axes.get_window_extent().width * axes.get_window_extent().height for axes in figure.axes]
    assert min(sizes[:2]) > 2 * max(sizes[2:])
    for axes in figure.axes[:2]:
        assert [line.get_label() for line in axes.lines[:2]] == ["train", "validation"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "train",
        "validation",
        "best checkpoint, step 30, epoch 3",
    ]


@pytest.mark.parametrize(
    ("monitor", "is_best"),
    [
        (Monitor("macro_recall", "max"), True),
        (Monitor("loss", "min"), False),
        (Monitor("loss", "max"), False),
        (None, False),
    ],
)
def test_only_the_best_checkpoint_is_called_so(monitor, is_best, tmp_path, figures):
    report = {"step": 30, "headline": "accuracy"}
    split = Split.of(np.zeros((1, 4, 4, 1), np.uint8), np.array([0]), kind="multiclass")
    files.save(tmp_path, report, list(rows()), split, OUTPUTS, task_of(monitor), ("a", "b"))
    (legend,) = figures[0].legends
    assert legend.get_texts()[-1].get_text() == f"{'best ' * is_best}checkpoint, step 30, epoch 3"


def test_curves_of_other_tasks_have_their_headline(tmp_path, figures):
    for names, first in ((("loss", "rmse", "mae"), ["loss", "rmse"]), (("generator_loss",), ["generator_loss"])):
        plots.curves(list(rows(names=names)), tmp_path / "c.png", first=first, chosen_step=1, chosen_name="checkpoint")
        assert [axes.get_title() for axes in figures[-1].axes[: len(first)]] == [
            each.replace("_", " ") for each in first
        ]


def test_mistakes_have_the_prediction_and_the_truth(tmp_path, figures):
    names = [f"photos/{'a long name ' * 4}{index}.png" for index in range(6)]
    images = np.zeros((6, 8, 8, 3), np.uint8)
    classes = ["Right-of-way at the next intersection", "No passing for vehicles over 3.5 metric tons"]
    split = Split.of(images, np.zeros(6, int), kind="multiclass", names=names)
    probabilities = np.tile([0.0, 1.0], (6, 1))
    files._draw_mistakes(tmp_path / "m.png", split, probabilities, probabilities.argmax(1), classes)
    (figure,) = figures
    titles = [axes.title for axes in figure.axes if axes.get_title()]
    assert titles[0].get_text().split("\n")[:2] == ["predicted No passi…ric tons (100%)", "true Right-of…rsection"]
    assert len(titles) == 6 and not overlapping(titles) and is_whole(figure)
    numbers = Split.of(images, np.zeros(6), kind="continuous", names=names)
    files._draw_mistakes(tmp_path / "m.png", numbers, np.full(6, 2.5), np.full(6, 2.5), ())
    assert figures[1].axes[0].get_title().startswith("predicted 2.5\ntrue 0\n")


def test_numbers_and_steps_stay_apart(tmp_path, figures):
    targets = np.linspace(40_000, 165_000, 50)
    plots.scatter(targets, targets, tmp_path / "scatter.png")
    names = [f"2019-01-01 {hour:02}:00:00+00:00" for hour in range(24)]
    series = np.arange(24.0)
    plots.forecast(series, series, {"last value": series, "same season": series}, names, tmp_path / "forecast.png")
    for figure in figures:
        assert is_whole(figure) and not overlapping(figure.axes[0].get_xticklabels())
    assert {text.get_text() for text in figures[1].legends[0].get_texts()} == {
        "target",
        "prediction",
        "last value",
        "same season",
    }


def test_colors_are_told_apart_without_red_and_green(tmp_path, figures):
    series = np.arange(9.0)
    plots.series(dict.fromkeys(("train", "validation", "test"), series), [], tmp_path / "series.png")
    assert [line.get_color() for line in figures[0].axes[0].lines] == list(plots.PALETTE[:3])


@pytest.mark.parametrize("size", [2, 10, 43])
@pytest.mark.parametrize("shape", [(64, 64), (64, 40), (40, 64)])
@pytest.mark.parametrize("count", [1, 2, 7, 25])
def test_the_captions_of_mistakes_are_whole_and_apart(size, shape, count, tmp_path, figures):
    classes = [f"WWWW No passing for vehicles over 3.5 metric tons WWWW {index}" for index in range(size)]
    targets = np.arange(count) % size
    labels = (targets + 1) % size
    predictions = np.eye(size)[labels]
    names = [f"photos/WWW_IMG_20240101_{index}_WWW.jpg" for index in range(count)]
    split = Split.of(np.zeros((count, *shape, 3), np.uint8), targets, kind="multiclass", names=names)
    files._draw_mistakes(tmp_path / "mistakes.png", split, predictions, labels, classes)
    (figure,) = figures
    assert is_whole(figure) and not overlapping([axes.title for axes in figure.axes])
    images = [axes.get_window_extent() for axes in figure.axes]
    assert not [axes for axes in figure.axes for box in images if axes.title.get_window_extent().overlaps(box)]
