"""Calibration: errors, proper scores and risk by coverage against other libraries, and temperatures that are stored."""

import csv
import json

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

import jaxvision as jv
from jaxvision import calibration as cal
from jaxvision import storage, temperature_file
from jaxvision.cli.main import run
from jaxvision.evaluation_data import open_run
from jaxvision.temperature_file import Fitted


def drawn(*, count=2000, classes=7, sharpness=2.5, seed=0):
    """Return overconfident logits and targets that were drawn from their softmax at temperature `sharpness`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)) * 2
    targets = np.array([rng.choice(classes, p=row) for row in softmax(logits, axis=1)])
    return logits * sharpness, targets


def test_proper_scores_equal_those_of_scikit_learn():
    logits, targets = drawn()
    probabilities = softmax(logits, axis=1)
    measured = cal.calibration(probabilities, targets)
    assert measured.nll == pytest.approx(log_loss(targets, probabilities), rel=1e-9)
    assert measured.brier == pytest.approx(brier_score_loss(targets, probabilities, scale_by_half=False), rel=1e-9)
    assert sum(each.count for each in measured.bins) == len(targets)


@pytest.mark.parametrize("ties", [False, True])
def test_bins_equal_those_of_scikit_learn(ties):
    logits, targets = drawn()
    probabilities = softmax(logits, axis=1)
    if ties:  # quarters
        probabilities = np.stack([1 - np.round(expit(logits[:, 0]) * 4) / 4, np.round(expit(logits[:, 0]) * 4) / 4], 1)
        targets = (targets > 3).astype(int)
    measured = cal.calibration(probabilities, targets)
    confidences, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    for strategy, ours in (("uniform", measured.ece), ("quantile", measured.ece_equal_mass)):
        accuracy, confidence = calibration_curve(correct, confidences, n_bins=15, strategy=strategy)
        edges = np.linspace(0, 1, 16) if strategy == "uniform" else np.quantile(confidences, np.linspace(0, 1, 16))
        counts = np.bincount(np.searchsorted(edges[1:-1], confidences), minlength=15)
        counts = counts[counts > 0]
        assert ours == pytest.approx((counts * np.abs(accuracy - confidence)).sum() / len(targets), abs=1e-9)
        if strategy == "uniform":
            assert np.allclose([each.accuracy for each in measured.bins], accuracy)
            assert np.allclose([each.confidence for each in measured.bins], confidence)
            assert [each.count for each in measured.bins] == counts.tolist()


def test_risk_coverage_is_that_of_sorted_examples_and_ties_count_by_their_mean():
    rng = np.random.default_rng(0)
    confidences, correct = rng.permutation(50) / 50, rng.random(50) < 0.7
    curve = cal.risk_coverage(confidences, correct)
    wrong = ~correct[np.argsort(-confidences)]
    assert np.allclose(curve.risk, [wrong[: k + 1].mean() for k in range(50)])
    assert np.allclose(curve.coverage, np.arange(1, 51) / 50) and curve.area == pytest.approx(curve.risk.mean())
    tied = cal.risk_coverage(np.array([0.5, 0.5, 0.9, 0.5, 0.5]), np.array([True, False, True, False, True]))
    assert np.allclose(tied.risk, [0, 0.5 / 2, 1 / 3, 1.5 / 4, 2 / 5])


def test_the_temperature_is_that_of_scikit_learn():
    scaling = pytest.importorskip("sklearn.calibration")
    if not hasattr(scaling, "_TemperatureScaling"):
        pytest.skip("this scikit-learn has no temperature scaling")
    for sharpness in (0.4, 1.0, 3.0):
        logits, targets = drawn(sharpness=sharpness)
        theirs = 1 / scaling._TemperatureScaling().fit(logits, targets).beta_
        assert cal.fit_temperature(logits, targets) == pytest.approx(theirs, rel=1e-4)
        assert cal.fit_temperature(logits, targets) == pytest.approx(sharpness, rel=0.1)
        probabilities = softmax(logits, axis=1).astype(np.float32)
        assert cal.fit_temperature(cal.logits_of(probabilities), targets) == pytest.approx(theirs, rel=1e-4)


def test_a_temperature_is_useful_only_if_it_helps_on_other_examples():
    logits, targets = drawn(count=500)
    assert cal.useful_temperature(logits, targets) == cal.fit_temperature(logits, targets)
    assert cal.useful_temperature(logits, logits.argmax(axis=1)) is None  # nothing bounds the confidence
    one_wrong = logits.argmax(axis=1)
    one_wrong[3] = (one_wrong[3] + 1) % 7
    assert cal.useful_temperature(logits, one_wrong) is None


def test_scaled_probabilities_are_those_of_scaled_logits():
    logits = drawn()[0]
    halved = cal.scaled(softmax(logits, axis=1), 2.0)
    assert np.allclose(halved, softmax(logits / 2, axis=1), atol=1e-12)
    assert np.allclose(cal.scaled(expit(logits), 0.5, per_label=True), expit(logits / 0.5), atol=1e-9)
    single = softmax(logits, axis=1).astype(np.float32)
    assert cal.scaled(single, None) is single and cal.scaled(single, 3.0).dtype == np.float32
    certain = cal.scaled(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), 2.0)
    assert np.isfinite(certain).all() and (certain.argmax(axis=1) == [0, 1]).all()
    assert np.isfinite(cal.scaled(np.array([0.0, 1.0], np.float32), 2.0, per_label=True)).all()


def test_numbers_that_are_no_probabilities_are_refused():
    right = np.full((3, 2), 0.5), np.array([0, 1, 1])
    for probabilities, targets, message in (
        (np.array([[2.0, -1.0]]), np.array([0]), "softmax"),
        (right[0], np.array([0, 1, 2]), "class indices from 0 to 1"),
        (right[0], np.array([0.0, 1, 1]), "class indices"),
        (right[0], np.array([0, 1]), "expected .N, C."),
        (np.zeros((0, 2)), np.zeros(0, int), "at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            cal.calibration(probabilities, targets)
    with pytest.raises(ValueError, match="N >= 1"):
        cal.risk_coverage(np.zeros(0), np.zeros(0, bool))


# ── in a workdir ──────────────────────────────────────────────────────────────────────────────────────────────────────

TINY = jv.Config(
    model="mlp(hidden=(16,))",
    dataset="synthetic(num_classes=4, num_examples=600, image_size=8, noise=1.5)",
    validation_fraction=0.4,
    steps=200,
    learning_rate=0.01,
    batch_size=32,
    checkpoint_rule="last",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("calibrated") / "run"
    report = jv.train(TINY, workdir=workdir).test
    assert report is not None and report["calibration"]["temperature"] is not None
    return workdir


def images(workdir):
    return open_run(workdir).data.test.read(np.arange(40))


def test_training_stores_a_temperature_and_predict_divides_the_logits_by_it(trained):
    loaded = jv.load(trained)
    opened = open_run(trained)
    temperature = json.loads((trained / "temperature.json").read_text())["fitted"][0]["temperature"]
    assert loaded.temperature == temperature
    raw, scaled = (jv.predict(loaded, images(trained), calibrate=each) for each in (False, True))
    step = loaded.predict_step(loaded.params, loaded.model_state, {"inputs": images(trained)})
    assert np.array_equal(raw.predictions, np.asarray(step))
    expected = softmax(log_softmax(np.log(raw.predictions.astype(np.float64)), axis=1) / temperature, axis=1)
    assert (
        np.abs(scaled.predictions - expected).max() < 1e-6 and np.abs(scaled.predictions - raw.predictions).max() > 0.01
    )
    assert scaled.labels == raw.labels
    validation = opened.data.validation
    predictions = jv.predict(loaded, validation.read(np.arange(len(validation))), calibrate=False).predictions
    best = min(
        np.linspace(0.5, 1.5, 401) * temperature,
        key=lambda t: log_loss(validation.targets, softmax(np.log(predictions.astype(np.float64)) / t, axis=1)),
    )
    assert temperature == pytest.approx(best, rel=5e-3)


def test_the_report_has_the_figures_before_and_after_and_predictions_are_those_of_predict(trained):
    report = json.loads((trained / "report" / "report.json").read_text())
    part, test = report["calibration"], open_run(trained).data.test
    pixels = test.read(np.arange(len(test)))
    for name, calibrate in (("before", False), ("after", True)):
        probabilities = jv.predict(trained, pixels, calibrate=calibrate).predictions
        expected = cal.calibration(probabilities, test.targets)
        assert part[name]["nll"] == pytest.approx(expected.nll, rel=1e-5)
        assert part[name]["ece"] == pytest.approx(expected.ece, abs=1e-4)
    assert part["after"]["nll"] < part["before"]["nll"] == pytest.approx(report["loss"], rel=1e-5)
    assert part["note"] == "fitted on 192 validation examples"
    with open(trained / "report" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    written = np.array([[float(value) for name, value in row.items() if "probability_" in name] for row in rows])
    assert np.allclose(written, probabilities, atol=1e-6)
    on_validation = jv.evaluate(trained, split="validation", out=trained.parent / "validation")
    assert "optimistic" in on_validation["calibration"]["note"]


def test_a_workdir_without_the_file_is_as_before_until_evaluate_is_asked_to_calibrate(trained, tmp_path):
    import shutil

    workdir = tmp_path / "older"
    shutil.copytree(trained, workdir)
    (workdir / "temperature.json").unlink()
    raw = jv.predict(trained, images(trained), calibrate=False)
    assert np.array_equal(jv.predict(workdir, images(trained)).predictions, raw.predictions)
    part = jv.evaluate(workdir)["calibration"]
    assert part["temperature"] is None and "--calibrate" in part["note"] and "after" not in part
    assert not (workdir / "temperature.json").exists()
    fitted = jv.evaluate(workdir, calibrate=True)["calibration"]["temperature"]
    assert fitted == jv.load(trained).temperature == jv.load(workdir).temperature
    assert jv.evaluate(workdir, calibrate=False)["calibration"]["note"].endswith("switched off")
    assert jv.evaluate(workdir, tta="flip")["calibration"]["temperature"] != fitted  # a run that has one gets others
    assert jv.load(workdir).temperature == fitted and jv.load(workdir, tta="flip").temperature != fitted


def test_a_damaged_file_is_a_warning_and_written_again(trained, tmp_path):
    import shutil

    workdir = tmp_path / "damaged"
    shutil.copytree(trained, workdir)
    file = workdir / "temperature.json"
    right = jv.load(trained).temperature
    file.write_text(file.read_text().replace('"temperature": ', '"temperature": 1'))
    with pytest.warns(UserWarning, match="damaged.*evaluate --calibrate. writes it again"):
        assert jv.load(workdir).temperature is None
    with pytest.warns(UserWarning, match="damaged"):
        jv.evaluate(workdir, calibrate=True)
    assert jv.load(workdir).temperature == right
    storage.write_json(file, {"fitted": [{"step": 1, "tta": "none", "temperature": 0.0, "num_examples": 5}]})
    with pytest.raises(ValueError, match=r"is not from 0\.05 to 20"):
        temperature_file.load(workdir, 1, "none")


def test_temperatures_of_several_checkpoints_stand_side_by_side(tmp_path):
    for each in (Fitted(7, "none", 1.5, 100), Fitted(7, "flip", 2.0, 100), Fitted(7, "none", 3.0, 100)):
        temperature_file.save(tmp_path, each)
    assert temperature_file.load(tmp_path, 7, "none") == Fitted(7, "none", 3.0, 100)
    assert temperature_file.load(tmp_path, 7, "flip") == Fitted(7, "flip", 2.0, 100)
    assert temperature_file.load(tmp_path, 8, "none") is None


def test_the_command_line_switches_it_off_and_names_a_checkpoint_without_one(trained, tmp_path, capsys):
    from PIL import Image

    file = tmp_path / "one.png"
    Image.fromarray(images(trained)[0]).save(file)

    def probability(*flags):
        assert run("predict", [str(file), f"--workdir={trained}", "--format=json", *flags]) in (0, None)
        told = capsys.readouterr()
        return json.loads(told.out)[0]["probability"], told.err

    raw = jv.predict(trained, [str(file)], calibrate=False).predictions.max()
    assert probability("--calibrate=False")[0] == pytest.approx(raw)
    assert probability()[0] == pytest.approx(jv.predict(trained, [str(file)]).predictions.max())
    assert abs(probability()[0] - raw) > 1e-3 and "not calibrated" not in probability()[1]
    assert "no temperature was fitted for step 200 with tta flip" in probability("--tta=flip")[1]
    for flags, calibrate in (((), True), (("--calibrate=False",), False)):
        out = tmp_path / f"{calibrate}.csv"
        assert run("predict", [str(file), f"--workdir={trained}", f"--out={out}", *flags]) in (0, None)
        with out.open(newline="") as table:
            cells = next(csv.DictReader(table))
        row = [float(value) for name, value in cells.items() if name.startswith("probability_")]
        assert np.allclose(row, jv.predict(trained, [str(file)], calibrate=calibrate).predictions[0], atol=1e-7)


def test_an_ensemble_averages_the_networks_own_probabilities(trained, tmp_path):
    other = tmp_path / "other"
    jv.train(TINY.replace(seed=1, steps=5), workdir=other)
    members = [jv.predict(each, images(trained), calibrate=False).predictions for each in (trained, other)]
    assert np.array_equal(jv.predict([trained, other], images(trained)).predictions, np.mean(members, axis=0))
    part = jv.ensemble([trained, other], out=tmp_path / "report")["calibration"]
    assert part["temperature"] is None and "several" in part["note"] and part["before"]["ece"] >= 0


def test_too_few_or_no_validation_examples_give_no_temperature(tmp_path):
    for fraction, why in ((0.1, "48 validation examples are few"), (0.0, "no validation split")):
        config = TINY.replace(validation_fraction=fraction, steps=3)
        report = jv.train(config, workdir=tmp_path / f"{fraction}").test
        assert report is not None and why in report["calibration"]["note"]
        assert not (tmp_path / f"{fraction}" / "temperature.json").exists()


@pytest.mark.parametrize(
    "task", [pytest.param("binary(threshold='f1')", marks=pytest.mark.slow), "binary(threshold=0.3)"]
)
def test_decisions_of_a_threshold_do_not_change(task, tmp_path):
    dataset = "synthetic(num_classes=2, num_examples=600, image_size=8, noise=1.5)"
    config = TINY.replace(dataset=dataset, task=task)
    report = jv.train(config, workdir=tmp_path).test
    assert report is not None and report["calibration"]["temperature"] is not None
    raw, scaled = (jv.predict(tmp_path, images(tmp_path), calibrate=each) for each in (False, True))
    assert np.array_equal(raw.predicted_labels, scaled.predicted_labels)
    (threshold,) = report["calibration"]["thresholds"].values()
    temperature = report["calibration"]["temperature"]
    own = report["threshold"]
    assert threshold == pytest.approx(expit(np.log(own / (1 - own)) / temperature))
    clear = np.abs(scaled.predictions[:, 1] - threshold) > 1e-6
    assert np.array_equal((scaled.predictions[:, 1] >= threshold)[clear], scaled.predicted_labels.astype(bool)[clear])
    from jaxvision import reports

    if own != threshold:
        assert f"{threshold:.4f} on, before calibration {own:.4f}" in reports.text(report)


def test_other_data_are_calibrated_by_the_stored_temperature_and_nothing_is_fitted(trained, tmp_path):
    other = TINY.dataset.replace("600", "500")
    part = jv.evaluate(trained, dataset=other, calibrate=True, out=tmp_path)["calibration"]
    assert part["temperature"] == jv.load(trained).temperature
    part = jv.evaluate(trained, dataset=other, tta="flip", calibrate=True, out=tmp_path)["calibration"]
    assert "nothing is fitted to other data" in part["note"]


def test_that_no_temperature_helps_is_stored_too(tmp_path):
    config = TINY.replace(dataset=TINY.dataset.replace("1.5", "0.1"))  # no mistake on validation
    report = jv.train(config, workdir=tmp_path).test
    assert report is not None and "no temperature helps" in report["calibration"]["note"]
    (entry,) = json.loads((tmp_path / "temperature.json").read_text())["fitted"]
    assert entry["temperature"] is None and jv.load(tmp_path).temperature is None
    assert jv.evaluate(tmp_path) == report
    assert not temperature_file.lacks(tmp_path, entry["step"], "none") and temperature_file.lacks(tmp_path, 1, "none")


def test_labels_of_a_multilabel_task_share_a_temperature_and_keep_their_decisions(tmp_path):
    rng = np.random.default_rng(0)
    targets = (rng.random((400, 3)) < (0.5, 0.3, 0.2)).astype(np.float32)
    patterns = rng.normal(size=(3, 6, 6))
    pixels = 0.5 + 0.05 * np.einsum("nt,thw->nhw", targets, patterns) + 0.15 * rng.normal(size=(400, 6, 6))
    arrays = np.clip(pixels, 0, 1).astype(np.float32)[..., None]
    parts = (slice(150), slice(150, 300), slice(300, None))
    splits = [jv.Split.of(arrays[part], targets[part], kind="multilabel") for part in parts]
    data = jv.Dataset(*splits, ("red", "green", "blue"), jv.Preprocessing((6, 6), 1, (0.5,), (0.2,)))
    config = TINY.replace(task="multilabel", steps=150)
    report = jv.train(config, dataset=data, workdir=tmp_path).test
    assert report is not None
    temperature = report["calibration"]["temperature"]
    raw, scaled = (jv.predict(tmp_path, arrays[300:], calibrate=each) for each in (False, True))
    assert np.array_equal(raw.predicted_labels, scaled.predicted_labels)
    odds = np.log(raw.predictions.astype(np.float64)) - np.log1p(-raw.predictions.astype(np.float64))
    assert temperature > 1 and np.abs(scaled.predictions - expit(odds / temperature)).max() < 1e-5
    thresholds = np.array(list(report["calibration"]["thresholds"].values()))
    clear = np.abs(scaled.predictions - thresholds) > 1e-5
    assert np.array_equal((scaled.predictions >= thresholds)[clear], scaled.predicted_labels[clear])
    for probabilities, name in ((raw.predictions, "before"), (scaled.predictions, "after")):
        expected = log_loss(targets[300:].reshape(-1), probabilities.reshape(-1).astype(np.float64))
        assert report["calibration"][name]["nll"] == pytest.approx(expected, rel=1e-4)
