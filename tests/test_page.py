"""The HTML page of a report: what it names, what it never does, and its figures against other libraries."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import jaxvision as jv
from jaxvision import data as datas
from jaxvision.engine.inference import metrics_of
from jaxvision.interfaces import Outputs, Split
from jaxvision.near_duplicates import near_duplicates
from jaxvision.reports.page import bootstrap, confusion, document, embedding, rankings, significance, suspects, svg
from jaxvision.reports.page import html as markup
from jaxvision.reports.page import weak_slices as slicing
from jaxvision.reports.page.doubt import fit_doubt
from jaxvision.reports.page.page_data import Features, PageData
from jaxvision.reports.page.properties import image_properties
from jaxvision.tasks.classification import binary, multiclass
from jaxvision.tasks.multilabel import multilabel
from jaxvision.tasks.regression import regression

NAMES = ("airplane", "bird", "cat", "deer")


def posterior(x, centers, spread):
    logits = -((x[:, None] - centers) ** 2).sum(-1) / (2 * spread[:, None] ** 2)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def drawn(num_examples=1500, num_classes=4, *, seed=0, is_dark=None):
    """Targets and the exact probabilities of them: calibrated, and nobody is to blame for a mistake."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(num_classes, 8)) * 1.1
    targets = rng.integers(0, num_classes, num_examples)
    spread = np.ones(num_examples) if is_dark is None else np.where(is_dark, 4.0, 1.0)
    x = centers[targets] + rng.normal(size=(num_examples, 8)) * spread[:, None]
    return targets, posterior(x, centers, spread)


def images(num_examples, *, is_dark=None, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(60, 255, (num_examples, 12, 12, 3)).astype(np.uint8)
    return pixels if is_dark is None else np.where(is_dark[:, None, None, None], pixels // 4, pixels).astype(np.uint8)


def page_data(probabilities, targets, *, task=None, classes=NAMES, pixels=None, names=(), kind="multiclass", **more):
    pixels = images(len(targets)) if pixels is None else pixels
    split = Split.of(pixels, targets, kind=kind, names=names)
    task = task or multiclass(num_classes=len(classes))
    predictions = np.asarray(probabilities, np.float32)
    outputs = Outputs(predictions, np.zeros(len(targets), np.float32))
    report = {"split": "test", "headline": task.headline, "num_examples": len(targets), "num_parameters": 10, "step": 3}
    report |= {"tta": "none", "checkpoint": "last", **metrics_of(task, split, outputs, classes)}
    columns = image_properties(split, max_pixels=10**8)
    labels = np.asarray(task.predict_labels(predictions))
    return PageData(report, [], split, outputs, task, classes, labels, columns=columns, **more)


def findings(data) -> str:
    """The text of the box of findings."""
    page = document.page(data)
    box = re.search(r'<div class="findings[^"]*">(.*?)</div>', page, re.DOTALL)
    assert box is not None
    return re.sub("<[^>]+>", "", box[1]).replace("\u00a0", " ")


def test_nothing_stands_out_on_a_clean_run():
    for seed in range(5):
        targets, probabilities = drawn(seed=seed)
        assert findings(page_data(probabilities, targets)).startswith("Nothing stands out"), seed


def test_flipped_labels_are_named():
    targets, probabilities = drawn()
    rng = np.random.default_rng(1)
    flipped = np.flatnonzero((rng.random(len(targets)) < 0.08) & (probabilities.max(1) > 0.95))
    wrong = targets.copy()
    wrong[flipped] = (targets[flipped] + rng.integers(1, 4, len(flipped))) % 4
    data = page_data(probabilities, wrong)
    found = suspects.suspects(data)
    assert "suspected label error" in findings(data)
    assert f"test {found[0].index}" in findings(data) and found[0].index in flipped
    assert np.isin([each.index for each in found[:40]], flipped).mean() > 0.9


def test_a_mislabeled_pair_of_classes_is_named():
    targets, probabilities = drawn()
    wrong = np.where((targets == 2) & (np.random.default_rng(1).random(len(targets)) < 0.3), 3, targets)
    assert "Classes mixed up, deer → cat" in findings(page_data(probabilities, wrong))


def test_overconfidence_and_underconfidence_are_named():
    targets, probabilities = drawn()
    for power, word in ((3.0, "Overconfident"), (0.4, "Underconfident")):
        sharpened = probabilities**power / (probabilities**power).sum(1, keepdims=True)
        assert word in findings(page_data(sharpened, targets))


def test_a_weak_slice_is_named():
    is_dark = np.arange(1500) % 4 == 0
    targets, probabilities = drawn(is_dark=is_dark)
    text = findings(page_data(probabilities, targets, pixels=images(1500, is_dark=is_dark)))
    assert "Weak slice, brightness" in text
    by_column = page_data(probabilities, targets)
    cameras = np.where(is_dark, "phone", np.where(np.arange(1500) % 3 == 0, "scanner", "reflex"))
    by_column = by_column._replace(columns={**by_column.columns, "camera": cameras})
    assert "Weak slice, camera phone" in findings(by_column) and "scanner" not in findings(by_column)


def test_temperature_and_noise_are_told_apart():
    targets, probabilities = drawn(4000)
    sharp = probabilities**2 / (probabilities**2).sum(1, keepdims=True)
    wrong = np.where(np.random.default_rng(1).random(4000) < 0.1, (targets + 1 + np.arange(4000) % 3) % 4, targets)
    overconfident, noisy = fit_doubt(sharp, targets), fit_doubt(sharp, wrong)
    assert overconfident.temperature == pytest.approx(2, rel=0.1) and not overconfident.is_noisy
    assert noisy.temperature == pytest.approx(2, rel=0.15) and noisy.noise == pytest.approx(0.1, abs=0.025)
    assert noisy.is_noisy and noisy.clean.sum(1) == pytest.approx(1)


def test_a_leaked_duplicate_is_named():
    targets, probabilities = drawn(300)
    train, test = images(200, seed=1), images(300)
    splits = {
        "train": Split.of(train, targets[:200], kind="multiclass"),
        "test": Split.of(test, targets, kind="multiclass"),
    }
    clean = page_data(probabilities, targets, pairs=near_duplicates(splits), splits=splits)
    assert "leaked" not in findings(clean)
    test[7] = train[3]
    splits["test"] = Split.of(test, targets, kind="multiclass")
    leaking = page_data(probabilities, targets, pixels=test, pairs=near_duplicates(splits), splits=splits)
    assert "1 leaked pair: near-duplicate images in test and train" in findings(leaking)


class Checked(HTMLParser):
    """Collects elements and their attributes, and the text that a reader sees."""

    def __init__(self, page):
        super().__init__()
        self.attributes, self.names, self.texts = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        if self.names and self.names[-1] not in ("script", "style"):
            self.texts.append(data)


def hostile_page():
    targets, probabilities = drawn(60)
    names = [f"photos/<script>alert({i})\"'&.jpg" for i in range(60)]
    classes = ("<b>air</b>", "bird & 'cat'", "</script>", "a\x00\ud800")
    return document.page(page_data(probabilities, 3 - targets, names=names, classes=classes))


def test_every_string_is_escaped():
    parsed = Checked(hostile_page())
    assert parsed.names.count("script") == 1 and "b" in parsed.names  # ours alone
    text = "".join(parsed.texts)
    assert "<script>alert(7)\"'&.jpg" in text and "<b>air</b>" in text and "a\\x00\\ud800" in text


def test_the_page_requests_nothing():
    parsed = Checked(hostile_page())
    targets = [value for name, value in parsed.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert targets and all(value.startswith(("data:", "#")) for value in targets)
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp", document.page(page_data(*drawn(60)[::-1])))


def test_the_page_is_valid_html_and_the_same_again():
    page = hostile_page()
    assert page == hostile_page()
    html5lib = pytest.importorskip("html5lib", reason="html5lib is not installed")
    html5lib.HTMLParser(strict=True).parse(page)


def test_without_images_there_is_none():
    targets, probabilities = drawn(80)
    data = page_data(probabilities, 3 - targets)
    assert "<img" in document.page(data)
    assert "<img" not in document.page(data._replace(has_images=False))
    assert "data:image" not in document.page(data._replace(has_images=False))


@pytest.mark.parametrize("num_classes", [2, 10, 200])
def test_sections_of_few_and_many_classes(num_classes):
    targets, probabilities = drawn(1000, num_classes)
    names = tuple(f"class {i}" for i in range(num_classes))
    task = binary(num_classes=2) if num_classes == 2 else None
    page = document.page(page_data(probabilities, targets, task=task, classes=names))
    assert len(page) < 2_000_000
    for anchor in ("summary", "confusion", "classes", "mistakes", "slices", "rankings", "run"):
        assert f'id="{anchor}"' in page
    assert ("Thresholds for class 1" in page) == (num_classes == 2)
    assert ("Overview of all classes" in page) == (num_classes > 20)
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links <= set(re.findall(r'id="([^"]+)"', page))


def test_pages_of_labels_numbers_and_samples():
    rng = np.random.default_rng(0)
    probabilities = rng.random((200, 3)).astype(np.float32)
    targets = (rng.random((200, 3)) < probabilities).astype(np.float32)
    task = multilabel(num_classes=3, threshold=0.5)
    page = document.page(page_data(probabilities, targets, task=task, classes=("a", "b", "c"), kind="multilabel"))
    assert "Thresholds of labels" in page and "missed: " in page and 'id="calibration"' in page
    numbers = rng.normal(size=200).astype(np.float32)
    data = page_data(numbers + 0.1, numbers, task=regression(), classes=(), kind="continuous")
    page = document.page(data)
    assert "Truth and prediction" in page and 'id="confusion"' not in page and "mean absolute error by slice" in page
    made = data._replace(outputs=Outputs(rng.random((9, 8, 8, 3)).astype(np.float32), np.zeros(9)))
    assert document.page(made).count('alt="sample') == 9


def test_ranking_curves_are_those_of_scikit_learn():
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(0)
    scores = rng.integers(0, 20, 300) / 20  # with ties
    positive = rng.random(300) < scores
    found = rankings.ranking(positive, scores)
    assert found.auroc == pytest.approx(roc_auc_score(positive, scores))
    assert found.average_precision == pytest.approx(average_precision_score(positive, scores))


def test_significance_is_that_of_scipy():
    from scipy.stats import fisher_exact, poisson

    table = [[12, 28], [150, 90]]  # right and wrong, in the part and in the rest
    expected = fisher_exact(table, alternative="less")[1]  # pyright: ignore
    assert significance.fewer_successes(12, 40, 162, 280) == pytest.approx(expected)
    tail = 1 - sum(poisson.pmf(k, 2.5) for k in range(6))
    assert significance.more_events(np.array([6]), np.array([2.5]))[0] == pytest.approx(tail)


def test_slices_compare_each_part_with_the_rest():
    targets, probabilities = drawn(400)
    data = page_data(probabilities, targets)
    column = np.where(np.arange(400) < 100, "a", "b")
    found = {each.value: each for each in slicing.slices(data._replace(columns={"part": column}))}
    assert found["a"].count == 100 and found["a"].score == pytest.approx(data.correct[:100].mean())
    assert found["a"].rest == found["b"].score == pytest.approx(data.correct[100:].mean())


def test_image_properties_are_those_of_their_definition():
    pixels = images(3)
    found = image_properties(Split.of(pixels, np.arange(3), kind="multiclass"), max_pixels=10**6)
    gray = pixels[1].astype(float).mean(axis=-1) / 255
    edges = [
        gray[i - 1, j] + gray[i + 1, j] + gray[i, j - 1] + gray[i, j + 1] - 4 * gray[i, j]
        for i in range(1, 11) for j in range(1, 11)
    ]  # fmt: skip
    assert found["brightness"][1] == pytest.approx(gray.mean(), rel=1e-5)
    assert found["contrast"][1] == pytest.approx(gray.std(), rel=1e-5)
    assert found["sharpness"][1] == pytest.approx(np.std(edges), rel=1e-5)


def test_bootstrap_interval_is_that_of_the_binomial():
    from scipy.stats import binom

    correct = np.arange(500) < 400
    split = Split.of(np.zeros((500, 1)), correct, kind="multiclass")
    (low, high), count = bootstrap.percentile_interval(lambda chosen: correct[chosen].mean(), split)
    expected = np.array(binom.interval(0.95, 500, 0.8)) / 500
    assert count == 1000 and [low, high] == pytest.approx(expected, abs=0.01)
    grouped = Split(lambda i: np.zeros((len(i), 1)), correct, kind="multiclass", groups=np.arange(500) // 50)
    (low, high), _ = bootstrap.percentile_interval(lambda chosen: correct[chosen].mean(), grouped)
    assert high - low > 0.3  # 10 groups, each right or wrong as a whole


def test_the_interval_of_mean_average_precision_is_of_the_metric_of_the_report():
    from jaxvision.reports.page.summary import mean_average_precision
    from jaxvision.tasks import metrics

    rng = np.random.default_rng(0)
    scores = rng.integers(0, 30, (80, 5)) / 30
    targets = (rng.random((80, 5)) < scores).astype(np.float32) * [1, 1, 1, 1, 0]  # the last does not occur
    assert mean_average_precision(targets, scores) == pytest.approx(metrics.mean_average_precision(targets, scores))


def test_neighbors_are_those_of_scikit_learn_without_the_example_itself():
    from sklearn.neighbors import NearestNeighbors

    from jaxvision.reports.page import gather

    targets, probabilities = drawn(30)
    values = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    features = Features(np.arange(30), values, np.arange(30), values)
    data = page_data(probabilities, targets, features=features)
    _, expected = NearestNeighbors(n_neighbors=5, metric="cosine").fit(values).kneighbors(values)
    assert gather._neighbors(data, [4, 9])[9] == tuple(expected[9, :4])
    data = data._replace(report={**data.report, "split": "train"})
    assert gather._neighbors(data, [4, 9]) == {i: tuple(expected[i, 1:]) for i in (4, 9)}


def test_two_splits_are_read_as_one_in_any_order():
    from jaxvision.reports.page import gather

    one, other = images(5), images(4, seed=1)
    parts = [Split.of(pixels, np.arange(len(pixels)), kind="multiclass") for pixels in (one, other)]
    chosen = np.array([7, 0, 8, 4, 5])
    assert np.array_equal(gather._joined(*parts).read(chosen), np.concatenate([one, other])[chosen])


def test_principal_components_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    values = np.random.default_rng(0).normal(size=(60, 5)) * [5, 3, 1, 1, 1]
    places, explained = embedding.principal_components(values)
    model = PCA(2).fit(values)
    assert explained == pytest.approx(model.explained_variance_ratio_.sum())
    ours, theirs = places - places.mean(axis=0), model.transform(values)
    for i in range(2):
        assert abs(np.corrcoef(ours[1:-1, i], theirs[1:-1, i])[0, 1]) > 0.98  # the outermost are clipped


def test_confused_classes_become_neighbors():
    blocks = np.kron(np.eye(5, dtype=int), np.full((4, 4), 10)) + np.eye(20, dtype=int) * 100
    shuffled = np.random.default_rng(0).permutation(20)
    order = confusion.order_by_similarity(blocks[np.ix_(shuffled, shuffled)])
    groups = shuffled[order] // 4
    assert (np.diff(groups) != 0).sum() == 4
    mistakes = np.zeros((30, 30), int)
    mistakes[3, 8], mistakes[8, 11], mistakes[20, 21] = 9, 5, 2
    assert {3, 8, 11} <= confusion.most_confused_group(mistakes, size=4)


def test_charts_have_a_title_and_a_table():
    axes = svg.Axes((0.0, 10.0), (0.0, 1.0), "epoch", "loss")
    made = svg.line_chart("loss <1>", [svg.Line("train", [(0.0, 1.0), (10.0, 0.5)])], axes)
    assert 'aria-label="loss &lt;1&gt;"' in made and "<table" in made and 'role="img"' in made
    assert f"M{svg.LEFT} {svg.TOP}L{axes.width - svg.RIGHT} " in made  # the first point is the top left corner


def test_markup_escapes_text_but_not_markup():
    assert markup.tag("p", "<b>", markup.tag("b", "x"), class_='"') == '<p class="&quot;">&lt;b&gt;<b>x</b></p>'


@pytest.fixture
def run(photos, tmp_path):
    config = jv.Config(
        model="cnn(channels=(4,), dense=(8,))", dataset=f"folder(path='{photos}', image_size=16)", batch_size=16,
        epochs=2, validation_fraction=0.25,
    )  # fmt: skip
    return jv.train(config, workdir=tmp_path / "run")


def test_training_and_evaluation_write_the_same_page(run, photos):
    file = run.workdir / "report" / "report.html"
    page = file.read_bytes()
    jv.evaluate(run.workdir)
    assert file.read_bytes() == page
    text = page.decode()
    for anchor in ("summary", "curves", "duplicates", "embedding", "run"):
        assert f'id="{anchor}"' in text
    assert "nearest training images" in text and "heat map of" in text and str(photos.parent) not in text
    jv.evaluate(run.workdir, no_images=True)
    assert "data:image" not in file.read_text() and not (run.workdir / "report" / "mistakes.png").exists()


def test_columns_of_a_table_become_slices(tmp_path, photos):
    from jaxvision.reports.page.gather import typed

    rows = [f"{file.parent.name}/{file.name},{file.parent.name},{'night' if i % 2 else 'day'},{i}"
            for i, file in enumerate(sorted(photos.rglob("*.png")))]  # fmt: skip
    (photos / "table.csv").write_text("\n".join(["image,target,time,age", *rows]))
    config = jv.Config(dataset=f"table(path='{photos / 'table.csv'}', image_size=16)", validation_fraction=0.25)
    data = datas.open_dataset(config)
    assert list(data.train.columns) == ["time", "age"] and len(data.test.columns["time"]) == len(data.test)
    for split in (data.train, data.validation, data.test):
        numbers = [sorted(photos.rglob("*.png")).index(Path(name)) for name in split.names]
        assert typed(split.columns["age"]).tolist() == numbers
        assert split.columns["time"].tolist() == ["night" if i % 2 else "day" for i in numbers]


def test_a_dataset_report_has_a_page(photos, tmp_path):
    from jaxvision.dataset_report import dataset_report

    leaked = photos / "light" / "copy.png"
    leaked.write_bytes((photos / "dark" / "0.png").read_bytes())
    dataset_report(jv.Config(dataset=f"folder(path='{photos}', image_size=16)"), out=tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "of near-duplicates with different targets" in page and "copy.png" in page and "data:image" in page
    dataset_report(jv.Config(dataset=f"folder(path='{photos}', image_size=16)"), out=tmp_path / "out", no_images=True)
    assert "data:image" not in (tmp_path / "out" / "report.html").read_text()
    assert not (tmp_path / "out" / "samples.png").exists()


def test_a_page_that_fails_is_a_warning(run, monkeypatch):
    from jaxvision.reports.page import files

    monkeypatch.setattr(files, "page", lambda data: 1 / 0)
    with pytest.warns(UserWarning, match="cannot write .*report.html: ZeroDivisionError"):
        jv.evaluate(run.workdir)
    assert not (run.workdir / "report" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1400])
def test_a_browser_shows_the_page_without_errors(tmp_path, width):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    file = tmp_path / "report.html"
    file.write_bytes(hostile_page().encode(errors="backslashreplace"))
    messages, requests = [], []
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(args=["--no-sandbox"], channel=None, executable_path=_chromium())
        except Exception as error:
            pytest.skip(f"no Chromium: {error}")
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"file://{file}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator("#classes ~ .scroll thead button").first.click()
        assert page.locator("[aria-sort=ascending]").count() == 1
        browser.close()
    assert not messages and [url for url in requests if not url.startswith("data:")] == [f"file://{file}"]


def _chromium():
    import shutil

    return shutil.which("chromium") or shutil.which("google-chrome")
