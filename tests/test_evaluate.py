"""Reports, plots and predictions of a trained run."""

import json
import logging
import os
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

import jaxvision as jv
from jaxvision.interfaces import Outputs, Split
from jaxvision.reports import Report, save_predictions, text


@pytest.fixture
def run(photos, tmp_path):
    config = jv.Config(
        model="cnn(channels=(4,), dense=(8,))", dataset=f"folder(path='{photos}', image_size=16)", task="binary",
        batch_size=16, epochs=8, validation_fraction=0.25,
    )  # fmt: skip
    return jv.train(config, workdir=tmp_path / "run")


def test_the_report_holds_what_was_promised(run):
    report = json.loads((run.workdir / "report" / "report.json").read_text())
    assert report == json.loads(json.dumps(run.test))
    promised = "split num_examples num_parameters loss accuracy macro weighted per_class confusion_matrix most_confused"
    assert {*promised.split(), "train", "gap", "auroc", "average_precision"} <= report.keys()
    assert report["split"] == "test" and report["num_examples"] == 8
    assert report["num_parameters"] == 4 * 28 + 7 * 7 * 4 * 8 + 8 + 8 + 1
    assert report["gap"]["accuracy"] == pytest.approx(report["train"]["accuracy"] - report["accuracy"])
    table = text(report)
    assert "dark" in table and "macro mean" in table and f"accuracy {report['accuracy']:.4f}" in table.splitlines()[-1]


def test_pictures_are_drawn(run):
    sizes = {}
    for file in (run.workdir / "report").glob("*.png"):
        with Image.open(file) as image:
            sizes[file.name] = image.size
    assert sizes.keys() >= {"confusion_matrix.png", "curves.png"}
    assert all(min(size) > 200 for size in sizes.values())
    assert ("mistakes.png" in sizes) == (run.test["accuracy"] < 1)


def test_mistakes_are_drawn_worst_first(run, monkeypatch):
    from jaxvision.reports import files, plots

    drawn = {}
    monkeypatch.setattr(plots, "images", lambda inputs, captions, file: drawn.update(captions=captions, inputs=inputs))
    split = jv.Split.of(
        np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1),
        np.array([0, 1, 1, 0]),
        kind="multiclass",
        names=["a", "b", "c", "d"],
    )
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3]])
    files._draw_mistakes(run.workdir / "m.png", split, probabilities, probabilities.argmax(1), ("no", "yes"))
    assert drawn["captions"] == ["predicted no (80%)\ntrue yes\nc", "predicted no (60%)\ntrue yes\nb"]
    assert drawn["inputs"].ravel().tolist() == [2, 1]


def test_names_are_drawn_as_they_are(tmp_path):
    from jaxvision.reports import plots

    names = ["$a_{$", "50$ and 60$", "猫"]
    plots.confusion_matrix(np.eye(3, dtype=int), names, tmp_path / "matrix.png")
    plots.images(np.zeros((3, 4, 4, 1)), names, tmp_path / "images.png")
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_numbers_that_were_predicted_are_written_beside_their_files(tmp_path):
    scores = Split.of(
        np.zeros((2, 4, 4, 1)),
        np.array([0.5, 12345.5], np.float32),
        kind="continuous",
        names=["photos/a, b.jpg", "photos/猫.jpg"],
    )
    numbers = np.array([0.625, 1.1], np.float32)
    losses = np.array([0.25, 2.0], np.float32)
    save_predictions(tmp_path / "scores.csv", scores, Outputs(numbers, losses), numbers, ())
    written = (tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()
    head = "file,truth,prediction,loss"
    assert written == [head, '"photos/a, b.jpg",0.5,0.625,0.25', "photos/猫.jpg,12345.5,1.1,2.0"]


def test_labels_that_were_predicted_are_written_in_one_cell(tmp_path):
    targets = np.array([[1, 1], [0, 0]], np.float32)
    tags = Split.of(np.zeros((2, 4, 4, 1)), targets, kind="multilabel", names=["a.png", os.fsdecode(b"\xe9.png")])
    outputs = Outputs(np.array([[0.75, 0.5], [0.25, 0.125]], np.float32), np.zeros(2, np.float32))
    save_predictions(tmp_path / "tags.csv", tags, outputs, outputs.predictions >= 0.2, ("warm", "a|b"))
    head, *rows = (tmp_path / "tags.csv").read_bytes().splitlines()
    assert head == b"file,truth,prediction,loss,probability_warm,probability_a|b"
    assert rows == [b"a.png,warm|a\\|b,warm|a\\|b,0.0,0.75,0.5", b"\xe9.png,,warm,0.0,0.25,0.125"]
    images = Split.of(np.zeros((2, 4, 4, 1)), np.array([0, 1]), kind="multiclass")
    save_predictions(tmp_path / "images.csv", images, Outputs(np.zeros((2, 4, 4, 1)), np.zeros(2)), np.zeros(2), ("a",))
    assert not (tmp_path / "images.csv").exists()


def test_evaluating_again_gives_the_same(run):
    assert jv.evaluate(run.workdir) == run.test
    assert type(jv.evaluate(run.workdir)) is type(run.test) is Report
    validation = jv.evaluate(run.workdir, split="validation")
    assert validation["split"] == "validation" and (run.workdir / "report_validation" / "report.json").exists()
    best = next(r for r in run.history if r["split"] == "validation" and r["step"] == run.test["step"])
    assert validation["accuracy"] == pytest.approx(best["accuracy"], abs=1e-6)


def test_other_data_are_refused(run, photos):
    (photos / "dark" / "0.png").unlink()
    repair = r"evaluate on the data as they are now: jaxvision evaluate .*run --dataset=\"folder\(path='"
    with pytest.raises(ValueError, match=rf"24 training examples then, 23 now; dark 12 then, 11 now\): .*{repair}"):
        jv.evaluate(run.workdir)


def test_changed_data_are_evaluated_with_their_difference_and_without_a_choice(run, photos):
    before = json.loads((run.workdir / "report" / "report.json").read_text())
    image = Image.open(photos / "dark" / "0.png")
    image.save(photos / "dark" / "new.png")
    spec = jv.Config.load(run.workdir / "config.json").dataset
    report = jv.evaluate(run.workdir, dataset=spec)
    assert report["data_differences"] == ["24 training examples then, 25 now", "dark 12 then, 13 now"]
    assert not {"gap", "train"} & report.keys() and report["baseline"] == {} and report["num_examples"] == 8
    assert json.loads((run.workdir / "report" / "report.json").read_text()) == before
    assert json.loads((run.workdir / "report_other_data" / "report.json").read_text()) == report
    lines = text(report).splitlines()
    assert "not the data of training: 24 training examples then, 25 now; dark 12 then, 13 now" in lines
    assert any("if the run was trained on some of these images, the metrics are too good" in line for line in lines)
    assert jv.evaluate(run.workdir, dataset=spec, split="all")["num_examples"] == 41


def test_moved_data_are_the_same_and_keep_the_size_of_the_run(run, photos):
    photos.rename(photos.with_name("moved"))
    report = jv.evaluate(run.workdir, dataset=f"folder(path='{photos.with_name('moved')}')")
    assert report == run.test


@pytest.mark.parametrize("dataset", [None, "same"])
def test_all_examples_of_training_are_no_split(run, dataset):
    spec = None if dataset is None else jv.Config.load(run.workdir / "config.json").dataset
    with pytest.raises(
        ValueError, match=r"--dataset=\".*\"; of those of training use --split=train or --split=.* or --"
    ):
        jv.evaluate(run.workdir, split="all", dataset=spec)


def test_other_data_that_do_not_fit_are_refused(run, photos, tmp_path):
    with pytest.raises(ValueError, match="takes inputs of 16x16x3, and these are of 8x8x3: remove image_size"):
        jv.evaluate(run.workdir, dataset=f"folder(path='{photos}', image_size=8)")
    shutil.copytree(photos / "dark", photos / "third")
    with pytest.raises(ValueError, match="has the classes dark, light, and these data dark, light, third"):
        jv.evaluate(run.workdir, dataset=f"folder(path='{photos}')")
    with pytest.raises(ValueError, match="are for one run, not an ensemble"):
        jv.ensemble([run.workdir, tmp_path / "other"], dataset=f"folder(path='{photos}')")


def test_other_data_fit_no_thresholds(photos, tmp_path):
    spec = f"folder(path='{photos}', image_size=16)"
    config = jv.Config(model="mlp(hidden=())", dataset=spec, task="binary(threshold='f1')", batch_size=16, steps=2)
    jv.train(config.replace(validation_fraction=0.25), workdir=tmp_path / "run")
    stored = (tmp_path / "run" / "thresholds.json").read_text()
    threshold = json.loads(stored)["fitted"][0]["thresholds"][0]
    (photos / "dark" / "0.png").unlink()
    assert jv.evaluate(tmp_path / "run", dataset=spec)["threshold"] == threshold
    with pytest.raises(ValueError, match="has no thresholds for step 2 with tta='flip', and other data"):
        jv.evaluate(tmp_path / "run", dataset=spec, tta="flip")
    assert (tmp_path / "run" / "thresholds.json").read_text() == stored


def test_the_report_states_the_checkpoint_the_augmentation_and_the_examples_of_the_gap(run):
    assert run.test["tta"] == "none" and run.test["train"]["num_in_split"] == 24
    few = run.test["checkpoint"]
    assert few.startswith("last; ") and few.endswith(" validation examples would be few to choose by")
    lines = text(run.test).splitlines()
    assert f"checkpoint of step {run.test['step']} ({run.test['checkpoint']}), tta none" in lines
    gap = next(line for line in lines if "gap" in line)
    assert "on 8 of 24 training examples" in gap and gap.endswith("(train minus test)")
    last = jv.evaluate(run.workdir, checkpoint="last", tta="flip")
    assert (last["tta"], last["checkpoint"]) == ("flip", few)
    assert jv.evaluate(run.workdir, checkpoint=last["step"])["checkpoint"] == "requested step"


def test_predictions_of_files_are_those_of_the_evaluation(run, photos):
    found = jv.predict(run.workdir, photos)
    assert len(found.names) == 40 and found.classes == ("dark", "light")
    right = [label in name for label, name in zip(found.labels, found.names, strict=True)]
    assert np.mean(right) > 0.9
    first = found.rows(top=2)[0]
    assert first["file"].endswith("0.png") and first["probability"] >= 0.5
    assert first["runners_up"][0]["probability"] == pytest.approx(1 - first["probability"], abs=1e-6)
    assert jv.load(run.workdir).step == run.test["step"]


def test_predictions_do_not_depend_on_the_batch_or_the_way_in(run, photos):
    files = sorted(str(p) for p in photos.rglob("*.png"))[:7]
    all_at_once = jv.predict(run.workdir, files)
    by_three = jv.predict(jv.load(run.workdir), files, batch_size=3)
    np.testing.assert_allclose(all_at_once.probabilities, by_three.probabilities, atol=1e-6)
    pattern = jv.predict(run.workdir, str(photos / "*" / "1*.png"))
    assert len(pattern.names) == 22
    arrays = np.stack([np.asarray(Image.open(f)) for f in files])
    np.testing.assert_allclose(jv.predict(run.workdir, arrays).probabilities, all_at_once.probabilities, atol=1e-6)
    np.testing.assert_allclose(
        jv.predict(run.workdir, list(arrays)).probabilities, all_at_once.probabilities, atol=1e-6
    )
    one = jv.predict(run.workdir, arrays[0])
    np.testing.assert_allclose(one.probabilities, all_at_once.probabilities[:1], atol=1e-6)


def test_nothing_is_compiled_again_once_warm(run, caplog):
    trained = jv.load(run.workdir)
    images = np.random.default_rng(0).integers(0, 256, (21, 16, 16, 3), np.uint8)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jv.warm_up(trained, 21)
        compiled = [r.message for r in caplog.records if "Finished XLA compilation of jit(predict_step)" in r.message]
        assert len(compiled) == 4  # for 4, 8, 16 and 32, on four devices
        caplog.clear()
        found = [jv.predict(trained, images[:count]).probabilities for count in (1, 2, 3, 5, 16, 17, 21)]
    assert not [record.message for record in caplog.records if "XLA compilation" in record.message]
    np.testing.assert_allclose(found[2], found[-1][:3], atol=1e-6)
    jv.warm_up(trained, 4, dtype=np.float32)
    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        floats = jv.predict(trained, (images[:3] / 255).astype(np.float32)).probabilities
    assert not [record.message for record in caplog.records if "XLA compilation" in record.message]
    np.testing.assert_allclose(floats, found[2], atol=1e-6)
    with pytest.raises(ValueError, match="expected the largest number of inputs in a request"):
        jv.warm_up(trained, 0)


def test_what_is_no_image_is_named(run, photos, tmp_path):
    text = tmp_path / "notes.jpg"
    text.write_text("not an image")
    with pytest.raises(ValueError, match=r"notes\.jpg"):
        jv.predict(run.workdir, [photos / "dark" / "0.png", text])
    found = jv.predict(run.workdir, [photos / "dark" / "0.png", text], on_bad_image="skip")
    assert len(found.names) == 1 and list(found.errors) == [str(text)]
    with pytest.raises(FileNotFoundError, match="nothing_here"):
        jv.predict(run.workdir, tmp_path / "nothing_here.png")
    with pytest.raises(ValueError, match=r"shape \(4, 4, 4, 7\)"):
        jv.predict(run.workdir, np.zeros((4, 4, 4, 7), np.uint8))
    with pytest.raises(ValueError, match=r"range from 0.0 to 255.0"):
        jv.predict(run.workdir, np.full((4, 16, 16, 3), [0.0, 1.0, 255.0]))
    for nothing in ([], np.zeros((0,)), np.zeros((0, 16, 16), np.uint8)):
        with pytest.raises(ValueError, match="there are no images"):
            jv.predict(run.workdir, nothing)


def test_a_moved_workdir_still_works(run, tmp_path, photos):
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    run.workdir.rename(moved)
    assert len(jv.predict(moved, photos / "dark").names) == 20
    assert jv.evaluate(moved)["accuracy"] == run.test["accuracy"]


def test_what_is_no_workdir_is_said(tmp_path):
    for call in (jv.evaluate, jv.load):
        with pytest.raises(FileNotFoundError, match="expected the workdir of a training run"):
            call(tmp_path / "nowhere")


def test_tags_without_examples_are_told_and_have_no_figures(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["file,part,tags"]
    for index in range(24):
        part, tags = (("train", "red|small"), ("train", "red"), ("validation", "small"), ("test", "red"))[index % 4]
        tags += "|big" if index == 0 else ""
        Image.fromarray(rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)).save(tmp_path / f"{index}.png")
        lines.append(f"{index}.png,{part},{tags}")
    (tmp_path / "tags.csv").write_text("\n".join(lines))
    path = str(tmp_path / "tags.csv")
    dataset = f"table(path={path!r}, image='file', target='tags', delimiter='|', split='part', image_size=8)"
    task = "multilabel(threshold=('recall', 0.99))"
    config = jv.Config(model="mlp(hidden=(4,))", task=task, dataset=dataset, batch_size=4, steps=1)
    report = jv.train(config, workdir=tmp_path / "run").test
    assert report["absent_in_validation"] == ["big", "red"]
    shown = text(report).splitlines()
    assert "threshold 0.5, because validation has no examples; the target may not be met: big, red" in shown
    assert report["per_class"]["small"].keys() == {"num_examples", "threshold"}
    small = next(line for line in shown if line.startswith("small"))
    assert small.split() == ["small", f"{report['per_class']['small']['threshold']:.4f}", "0"]
    assert report["macro"]["recall"] == report["per_class"]["red"]["recall"]


def test_what_chooses_the_checkpoint_is_asked_for(tmp_path):
    dataset = "synthetic(num_examples=120, num_classes=3, image_size=8, noise=2.0)"
    config = jv.Config(model="mlp(hidden=(16,))", dataset=dataset, batch_size=20, steps=40, eval_every=4)
    for best, choose in (("loss", min), ("macro_recall", max)):
        config = config.replace(task=f"multiclass(best={best!r})")
        run = jv.train(config, execution=jv.Execution(max_to_keep=20), workdir=tmp_path / best)
        rows = {row["step"]: row[best] for row in run.history if row["split"] == "validation"}
        assert len(set(rows.values())) > 1 and rows[run.test["step"]] == choose(rows.values())


def test_the_threshold_and_shares_of_classes_are_shown():
    scores = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "num_examples": 2}
    report = {"split": "test", "num_examples": 4, "per_class": {"cat": scores, "dog": scores}, "accuracy": 1.0}
    shown = text({**report, "threshold": 0.438, "confusion_matrix": [[2, 0], [0, 2]]})
    assert "dog from a probability of 0.4380 on" in shown.splitlines()
    shares = text({"split": "test", "num_examples": 4, "class_fractions": {"0": 0.125, "1": 0.875}})
    assert "class fractions: 0 12.50%, 1 87.50%" in shares.splitlines()
