"""Folders as people have them: roles by name, links, hidden folders, other suffixes, classes that train lacks."""

import json
import os
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image, features

import jaxvision as jv
from jaxvision import data as datas
from jaxvision import image_files, registry, reports
from jaxvision.config import Config
from jaxvision.datasets import folder
from jaxvision.interfaces import Dataset, Preprocessing, Split
from jaxvision.split_roles import role_of
from jaxvision.upgrades import upgrade_saved
from jaxvision.walk import Tally


def save(file, *, kind=0, number=0, **options):
    rng = np.random.default_rng((kind, number))
    pixels = rng.integers(0, 90, (12, 12, 3)).astype(np.uint8)
    pixels[..., kind % 3] += 120
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


def photos(root, classes=("cat", "dog"), count=5):
    for kind, name in enumerate(classes):
        for number in range(count):
            save(root / name / f"{number}.png", kind=kind, number=number)
    return root


def opened(root, arguments="", **settings):
    spec = f"folder(path={str(root)!r}, image_size=8{arguments})"
    return registry.datasets.build(spec, **{"split_seed": 0, "on_bad_image": "error", **settings})


def counts(dataset: Dataset):
    """Return the number of examples of each class over all splits."""
    targets = np.concatenate([split.targets for split in datas.splits_of(dataset).values()])
    return dict(zip(dataset.classes, np.bincount(targets, minlength=len(dataset.classes)).tolist(), strict=True))


def said(dataset):
    return "\n".join(dataset.notes)


# Roles


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "Val", "validation_set", "dev-set"])
def test_validation_by_its_name_is_not_test(name, tmp_path):
    photos(tmp_path / "train")
    photos(tmp_path / name, count=3)
    dataset = opened(tmp_path)
    assert len(dataset.validation) == 6 and dataset.test is None and len(dataset.train) == 10
    assert f"train is 'train', validation (used for choosing) is {name!r}" in said(dataset)
    dataset = opened(tmp_path, f", test={name!r}")
    assert dataset.validation is None and len(dataset.test) == 6 and f"test is {name!r}" in said(dataset)
    dataset = opened(tmp_path, ", test_fraction=0.4")
    assert len(dataset.validation) == 6 and len(dataset.test) == 4 and len(dataset.train) == 6
    assert "test is 40% of train, held out" in said(dataset)


def test_roles_that_names_do_not_state(tmp_path):
    for name in ("train", "val", "test", "exam"):
        photos(tmp_path / name, count=2)
    with pytest.raises(ValueError, match=r"besides train there are exam; .* write test='exam' or validation='exam'"):
        opened(tmp_path)
    dataset = opened(tmp_path, ", test='exam'")
    assert "/exam/" in dataset.test.names[0] and "; not used: 'test'" in said(dataset)
    dataset = opened(tmp_path, ", validation=''")
    assert dataset.validation is None and "; not used: 'exam', 'val'" in said(dataset)
    with pytest.raises(
        ValueError, match=r"test='tset': folder .* has no such folder beside train; did you mean 'test'"
    ):
        opened(tmp_path, ", test='tset'")
    (tmp_path / "exam").rename(tmp_path / "dev")
    with pytest.raises(ValueError, match=r"'dev', 'val' are all validation by their names; choose with validation='de"):
        opened(tmp_path)
    with pytest.raises(ValueError, match=r"test='cat' needs a folder 'train' beside it"):
        opened(photos(tmp_path / "flat"), ", test='cat'")
    assert role_of("annotations") == role_of("dataset") == role_of("validate_me") == ""


def test_an_odd_folder_with_the_classes_of_train_is_said_to_be_test(tmp_path):
    photos(tmp_path / "train")
    photos(tmp_path / "exam")
    dataset = opened(tmp_path)
    assert len(dataset.test) == 10 and "test is 'exam' (the only other folder with classes of train" in said(dataset)


def test_a_class_in_another_width_is_another_class(tmp_path):
    dataset = opened(photos(tmp_path, ("\uff21", "A")))
    assert dataset.classes == ("A", "\uff21")


@pytest.mark.parametrize("name", ["val", "dev-set", "validation_data", "development"])
def test_a_run_of_an_older_version_keeps_a_single_folder_as_test(name, tmp_path):
    photos(tmp_path / "train")
    photos(tmp_path / name, count=3)
    spec = f"folder(path={str(tmp_path)!r}, image_size=8)"
    assert upgrade_saved({"dataset": spec}, 4)["dataset"] == spec
    dataset = registry.datasets.build(upgrade_saved({"dataset": spec}, 3)["dataset"], split_seed=0)
    assert dataset.validation is None and len(dataset.test) == 6


@pytest.mark.parametrize("beside", ["annotations", "labels", "masks"])
def test_a_folder_beside_train_that_is_no_split_is_not_used(beside, tmp_path):
    photos(tmp_path / "train")
    (tmp_path / beside).mkdir()
    (tmp_path / beside / "notes.txt").write_text("x")
    if beside == "masks":
        save(tmp_path / beside / "0.png")
    dataset = opened(tmp_path)
    assert counts(dataset) == {"cat": 5, "dog": 5} and len(dataset.test) == 2
    assert f"not used: {beside!r}; test is 20% of train, held out" in said(dataset)


@pytest.mark.parametrize("role", ["test", "val"])
def test_loose_images_are_no_split(role, tmp_path):
    photos(tmp_path / "train")
    for number in range(4):
        save(tmp_path / role / f"{number}.png")
    with pytest.raises(ValueError, match=rf"/{role}' has 4 images but no class folders, so they have no labels: make"):
        opened(tmp_path)
    name = "test" if role == "test" else "validation"
    assert len(opened(tmp_path, f", {name}=''").test) == 2


def test_a_train_folder_of_loose_images(tmp_path):
    for name in ("train", "test"):
        save(tmp_path / name / "cat.0.png")
    with pytest.raises(ValueError, match=r"/train' has 1 image but no class folders; expected .* table"):
        opened(tmp_path)


def test_a_class_that_only_test_has(tmp_path):
    photos(tmp_path / "train")
    photos(tmp_path / "test", ("cat", "dog", "dgo"), count=2)
    with pytest.raises(
        ValueError, match=r"has the class 'dgo', which train does not have: cat, dog; did you mean 'dog'"
    ) as info:
        opened(tmp_path)
    assert "on_unknown_class='skip'" in str(info.value) and "classes=('cat', 'dog'" in str(info.value)
    for argument in ("on_unknown_class='skip'", "on_unknown_class=skip", "classes=('dog', 'cat')"):
        dataset = opened(tmp_path, f", {argument}")
        assert len(dataset.test) == 4 and "classes of 'test' left out: 'dgo' (2 images)" in said(dataset)
    assert dataset.classes == ("dog", "cat") and "/dog/" in dataset.train.names[0]
    with pytest.raises(ValueError, match=r"has cat, dog, not 'dgo'; did you mean 'dog'"):
        opened(tmp_path, ", classes=('cat', 'dgo')")


def test_classes_that_differ_in_their_unicode_form(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    photos(tmp_path / "a" / "train", (composed, "dog"))
    photos(tmp_path / "a" / "test", (decomposed, "dog"))
    photos(tmp_path / "b", (composed, decomposed))
    what = r"\('caf\\xe9'\), which differs from .* \('cafe\\u0301'\) only in its Unicode normal form"
    with pytest.raises(ValueError, match=rf"/test': train has the class .* {what}"):
        opened(tmp_path / "a")
    with pytest.raises(ValueError, match=r"only in its Unicode normal form: rename one"):
        opened(tmp_path / "b")
    with pytest.raises(ValueError, match=r"only in its Unicode normal form"):
        opened(tmp_path / "a", f", classes=({decomposed!r}, 'dog')")


def test_training_without_a_test_split(tmp_path, capsys):
    photos(tmp_path / "train")
    photos(tmp_path / "val", count=2)
    config = Config(
        model="mlp(hidden=(4,))",
        dataset=f"folder(path={str(tmp_path)!r}, image_size=8)",
        batch_size=4,
        steps=2,
    )
    result = jv.train(config, workdir=tmp_path / "run")
    printed = capsys.readouterr().out
    assert "validation (used for choosing) is 'val'" in printed and "no test split: " in printed
    assert result.test is None and result.validation["split"] == "validation"
    text = reports.text(result.validation)
    assert "validation, used for choosing, of 4: " in text and "add a folder or rows for it" in text
    assert (tmp_path / "run" / "report_validation" / "report.json").exists()
    assert jv.evaluate(tmp_path / "run")["split"] == "validation"
    with pytest.raises(ValueError, match="no split 'test'; expected one of train, validation"):
        jv.evaluate(tmp_path / "run", split="test")


@pytest.mark.parametrize("version", [1, 3])
def test_a_run_of_an_older_version_keeps_its_roles(version, tmp_path):
    photos(tmp_path / "photos" / "train")
    photos(tmp_path / "photos" / "val", count=2)
    photos(tmp_path / "both" / "train")
    photos(tmp_path / "both" / "test", count=2)
    file = tmp_path / "config.json"
    for name, role in (("photos", ", test='val'"), ("both", ""), ("gone", "")):
        spec = f"folder(path={str(tmp_path / name)!r}, image_size=8"
        content = {"version": version, "dataset": f"{spec})", "batch_size": 4}
        file.write_text(json.dumps({key: value for key, value in content.items() if version > 1 or key != "version"}))
        config = Config.load(file)
        assert config.dataset == f"{spec}{role})"
        if name != "gone":
            data = datas.open_dataset(config)
            assert len(data.test) == 4 and len(data.validation) == 2  # a fraction of train
    config.save(file)
    assert Config.load(file).dataset == config.dataset


def test_a_run_of_an_older_version_resumes_with_its_roles_and_the_order_of_its_classes(tmp_path, capsys):
    numbers = tuple(str(number) for number in range(1, 12))
    photos(tmp_path / "data" / "train", classes=numbers)
    photos(tmp_path / "data" / "val", classes=numbers, count=1)
    today = Config(dataset=f"folder(path={str(tmp_path / 'data')!r}, image_size=8)", model="mlp(hidden=(4,))")
    today = today.replace(batch_size=4, steps=2, schedule="constant")
    of_then = today.replace(dataset=today.dataset[:-1] + f", classes={tuple(sorted(numbers))}, test='val')")
    first = jv.train(of_then, workdir=tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    content = json.loads(file.read_text()) | {"version": 3, "dataset": today.dataset}
    file.write_text(json.dumps({name: value for name, value in content.items() if name != "digest"}))
    capsys.readouterr()
    assert jv.evaluate(tmp_path / "run")["loss"] == pytest.approx(first.test["loss"], abs=1e-6)
    resumed = jv.train(today.replace(steps=4), workdir=tmp_path / "run")
    assert "resumes at step 2 of 4 steps" in capsys.readouterr().out
    assert resumed.test["split"] == "test"
    classes = json.loads((tmp_path / "run" / "signature.json").read_text())["classes"]
    assert classes == sorted(numbers) != list(numbers)
    assert jv.train(today, workdir=tmp_path / "new").validation["per_class"].keys() == set(numbers)
    assert json.loads((tmp_path / "new" / "signature.json").read_text())["classes"] == list(numbers)


# Files


@pytest.mark.parametrize(
    "hidden", [".ipynb_checkpoints", ".thumbnails", "__MACOSX", "@eaDir", "#recycle", "System Volume Information"]
)
def test_hidden_and_system_folders_are_skipped_and_counted(hidden, tmp_path):
    root = photos(tmp_path / "data")
    shutil.copytree(root / "cat", tmp_path / "copy")
    shutil.copytree(tmp_path / "copy", root / "cat" / hidden)
    shutil.copytree(tmp_path / "copy", root / hidden)
    for name in (".DS_Store", "cat/Thumbs.db", "cat/._0.png", "dog/desktop.ini"):
        (root / name).write_bytes(b"x")
    dataset = opened(root)
    assert counts(dataset) == {"cat": 5, "dog": 5} and "left out" not in said(dataset)
    assert f"2 {hidden}" in said(dataset) and "1 Thumbs.db" in said(dataset)
    assert len(image_files.find_images([str(root)])) == len(image_files.find_images([f"{root}/**/*.png"])) == 10


@pytest.mark.parametrize("name", ["__background__", "__label__cat", "_cat", "train"])
def test_a_class_may_have_such_a_name(name, tmp_path):
    dataset = opened(photos(tmp_path / "data", ("cat", name)))
    assert counts(dataset) == {"cat": 5, name: 5}


def test_linked_folders_are_followed_once(tmp_path):
    root = photos(tmp_path / "data")
    photos(tmp_path / "elsewhere", ("more", "bird"), count=6)
    (root / "cat" / "more").symlink_to("../../elsewhere/more")
    (root / "bird").symlink_to(tmp_path / "elsewhere" / "bird")
    (root / "cat" / "5.png").symlink_to(root / "cat" / "0.png")
    assert counts(opened(root)) == {"bird": 6, "cat": 12, "dog": 5}
    (root / "cat" / "up").symlink_to("..")  # a cycle
    (root / "dog" / "self").symlink_to(".")
    (tmp_path / "elsewhere" / "more" / "back").symlink_to(root / "cat")
    (root / "cat" / "twice").symlink_to("more")
    tally = Tally()
    assert len(list(image_files.images_in(root / "cat", tally))) == 6 + 6  # "up" leads to other classes
    assert len(tally.repeated) == 3
    assert len(image_files.find_images([f"{root}/dog/**/*.png"])) == 5
    tree = tmp_path / "tree"  # each level has two links to the next: 2 ** 30 paths
    for level in range(30):
        (tree / str(level)).mkdir(parents=True)
        for link in "ab":
            (tree / str(level) / link).symlink_to(tree / str(level + 1))
    save(tree / "30" / "0.png")
    assert len(list(image_files.images_in(tree / "0"))) == 1


@pytest.mark.parametrize(("link", "target"), [("cat/x.png", "gone.png"), ("cat/more", "gone"), ("bird", "bird")])
def test_a_link_that_leads_nowhere_is_refused_by_name(link, target, tmp_path):
    root = photos(tmp_path / "data")
    (root / link).symlink_to(target)
    for on_bad_image in ("error", "skip"):
        with pytest.raises(
            FileNotFoundError, match=rf"{link}' is a link to '{target}', which does not exist or cannot"
        ):
            opened(root, on_bad_image=on_bad_image)
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        image_files.find_images([str(root)])
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        image_files.find_images([str(root / link)])


def test_all_suffixes_of_readable_formats_are_read(tmp_path):
    root = photos(tmp_path / "data")
    kinds = {
        ".jfif": "JPEG",
        ".jpe": "JPEG",
        ".JPG": "JPEG",
        ".tga": "TGA",
        ".ico": "ICO",
        ".pnm": "PPM",
        ".apng": "PNG",
    }
    kinds |= {".jp2": "JPEG2000"} if features.check("jpg_2000") else {}
    kinds |= {".avif": "AVIF"} if features.check("avif") else {}
    for number, (suffix, kind) in enumerate(kinds.items()):
        save(root / "cat" / f"x{number}{suffix}", format=kind)
    dataset = opened(root)
    assert counts(dataset) == {"cat": 5 + len(kinds), "dog": 5} and "left out" not in said(dataset)
    assert "10 .png" in said(dataset) and set(kinds) <= {*image_files.suffixes(), ".JPG"}
    assert not {".eps", ".ps", ".pdf", ".wmf", ".fli", ".mpeg", ".psd"} & {*image_files.suffixes()}


def test_what_is_left_out_is_counted_and_named(tmp_path):
    root = photos(tmp_path / "data")
    for number in range(3):
        (root / "cat" / f"{number}.png").rename(root / "cat" / f"{number}.heic")
    (root / "cat" / "deep").mkdir()
    for name in ("cat/deep/notes.txt", "dog/README", "labels.csv"):
        (root / name).write_text("x")
    os.mkfifo(root / "dog" / "pipe.png")
    save(root / "loose.png")
    with pytest.warns(image_files.SkippedFiles, match=r"skipped 3 \.heic \(convert them to JPEG\)"):
        dataset = opened(root)
    assert counts(dataset) == {"cat": 2, "dog": 5}
    lines = said(dataset)
    assert "files: 7 .png" in lines and "left out: 3 .heic (convert them to JPEG), " in lines
    assert f"the first '{root}/cat/0.heic'" in lines
    for part in ("1 .csv outside the class folders", "1 .png outside the class folders", "more kinds"):
        assert part in lines
    for file in (root / "cat").glob("*.png"):
        file.unlink()
    with pytest.raises(ValueError, match=r"class folder 'cat' of train has no readable images; remove it, or name the"):
        opened(root)
    with pytest.warns(image_files.SkippedFiles, match=r"skipped 3 \.heic \(convert them to JPEG\)"):
        assert len(image_files.find_images([str(root)])) == 6
    with pytest.raises(FileNotFoundError, match=r"has no images; .* and it has 3 \.heic \(.*\), 1 \.txt"):
        image_files.find_images([str(root / "cat")])


def test_what_is_skipped_beside_the_splits_is_counted(tmp_path):
    root = photos(tmp_path / "train").parent
    for name in ("__MACOSX", ".git", "train/cat/.cache"):
        (root / name).mkdir()
    assert "skipped, hidden or of the system: 1 .git, 1 __MACOSX, 1 .cache" in said(opened(root))
    (root / "train" / "__MACOSX").mkdir()
    assert "skipped, hidden or of the system: 1 __MACOSX, 1 .cache" in said(opened(root / "train"))


def test_classes_that_differ_only_in_case_or_spaces_are_named(tmp_path):
    root = photos(tmp_path / "data", ("Dog", "dog", "cat", "red  fox", "Red fox "))
    dataset = opened(root)
    assert len(dataset.classes) == 5 and (
        "classes that differ only in case or spaces: 'Dog' and 'dog', 'Red fox ' and 'red  fox'; if these are one class"
    ) in said(dataset)
    assert "differ only" not in said(opened(root, ", classes=('dog', 'cat')"))
    images = np.zeros((8, 4, 4, 3), np.uint8)
    labels = (images, ["Dog", "dog", "cat", "cat"] * 2)
    with_labels = datas.open_dataset(Config(dataset="in_memory", validation_fraction=0.0), dataset=labels)
    assert "'Dog' and 'dog'" in said(with_labels)


def test_names_of_files_may_be_any_bytes(tmp_path):
    root = photos(tmp_path / "data")
    os.rename(root / "cat" / "0.png", os.fsencode(root / "cat") + b"/caf\xe9.png")
    files, targets = folder.list_files(root, ["cat", "dog"], Tally())
    assert targets.tolist() == [0] * 5 + [1] * 5
    split = Split.of(np.zeros((10, 4, 4, 3), np.uint8), targets, kind="multiclass", names=[str(file) for file in files])
    shape = Preprocessing((4, 4), 3, (0.5,) * 3, (1.0,) * 3)
    assert len(datas.fingerprint(Dataset(split, None, None, ("cat", "dog"), shape))) == 32


def test_the_report_on_a_dataset_has_roles_and_suffixes(tmp_path, capsys):
    from jaxvision.cli import run

    photos(tmp_path / "data" / "train")
    photos(tmp_path / "data" / "dev", count=2)
    (tmp_path / "data" / "train" / "cat" / "0.png").rename(tmp_path / "data" / "train" / "cat" / "0.heic")
    assert run("dataset_report", [f"--dataset=folder(path='{tmp_path}/data')", f"--out={tmp_path}/out"]) == 0
    printed = capsys.readouterr().out
    assert "validation (used for choosing) is 'dev'" in printed and "left out: 1 .heic" in printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["splits"]) == ["train", "validation"] and "files: 13 .png" in report["notes"]


def test_other_datasets_without_test_are_reported_on_validation():
    split = Split.of(np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1], np.int32), kind="multiclass")
    shape = Preprocessing((4, 4), 3, (0.5,) * 3, (1.0,) * 3)
    assert datas.reported(Dataset(split, split, None, ("a", "b"), shape)) == "validation"
    assert datas.reported(Dataset(split, split, split, ("a", "b"), shape)) == "test"


def test_a_link_to_a_folder_above_brings_no_images_of_other_classes(tmp_path):
    root = photos(tmp_path / "data" / "train", classes=("a", "b"), count=6)
    (root / "a" / "up").symlink_to("..")
    (root / "b" / "all").symlink_to(tmp_path)
    dataset = opened(tmp_path / "data")
    assert counts(dataset) == {"a": 6, "b": 6} and "read once" in said(dataset)


def test_two_classes_that_are_one_folder_are_refused(tmp_path):
    root = photos(tmp_path / "data")
    (root / "kitten").symlink_to("cat")
    with pytest.raises(ValueError, match=r"the classes 'cat' and 'kitten' of folder .* are one folder; remove a link"):
        opened(root)


def test_one_folder_is_not_validation_and_test(tmp_path):
    photos(tmp_path / "train")
    photos(tmp_path / "val")
    with pytest.raises(ValueError, match="validation='val' and test='val' are one folder"):
        opened(tmp_path, ", validation='val', test='val'")


def test_a_pattern_names_a_link_that_leads_nowhere(tmp_path):
    photos(tmp_path / "data")
    (tmp_path / "data" / "cat" / "lost.png").symlink_to("nowhere.png")
    with pytest.raises(FileNotFoundError, match=r"lost.png' is a link to 'nowhere.png'"):
        image_files.find_images([f"{tmp_path}/data/cat/*.png"])
