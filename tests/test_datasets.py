"""Datasets: accepted and rejected data, and disjoint splits."""

import numpy as np
import pytest
from PIL import Image

from jaxvision import array_cache as cache
from jaxvision import registry
from jaxvision.datasets import files, folder
from jaxvision.datasets.arrays import from_arrays
from jaxvision.datasets.subsets import few, long_tailed
from jaxvision.interfaces import Split
from jaxvision.splits import holdout
from jaxvision.testing import check_dataset


def build(spec, **context):
    return registry.datasets.build(spec, **{"split_seed": 0, "on_bad_image": "error", **context})


def everything(split):
    return split.read(np.arange(len(split)))


@pytest.mark.parametrize("fraction", [0.1, 0.33, 0.9])
def test_a_cut_is_disjoint_complete_stratified_and_seeded(fraction):
    targets = np.repeat(np.arange(4, dtype=np.int32), [1, 2, 20, 50])
    split = Split.of(np.arange(73), targets, kind="multiclass", names=[str(i) for i in range(73)])
    rest, share = holdout(split, fraction, seed=1)
    assert sorted([*everything(rest), *everything(share)]) == list(range(73))
    assert list(rest.names) == [str(i) for i in everything(rest)]
    counts = np.bincount(share.targets, minlength=4)
    assert counts[0] == 0 and counts[1] == 1 and counts[2] == round(20 * fraction) and counts[3] == round(50 * fraction)
    again, other = holdout(split, fraction, seed=1)[1], holdout(split, fraction, seed=2)[1]
    assert np.array_equal(everything(again), everything(share))
    assert not np.array_equal(everything(other), everything(share))


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    dataset = build("digits(image_size=8)")
    pixels = {np.round(image * 255 / 16).astype(np.uint8).tobytes() for image in load_digits().images}
    assert {image.tobytes() for image in everything(dataset.test)} <= pixels
    assert len(dataset.train) + len(dataset.test) == 1797
    assert np.ptp(np.bincount(dataset.test.targets)) <= 3
    assert dataset.preprocessing.mean[0] == pytest.approx(everything(dataset.train).mean() / 255, abs=1e-3)
    assert not np.array_equal(build("digits", split_seed=1).test.targets, build("digits").test.targets)


def test_class_folders_without_splits(photos):
    dataset = check_dataset(f"folder(path='{photos}', image_size=(10, 12))", split_seed=0, on_bad_image="error")
    assert dataset.classes == ("dark", "light") and len(dataset.train) == 32 and len(dataset.test) == 8
    for split in (dataset.train, dataset.test):
        for name, target in zip(split.names, split.targets, strict=True):
            assert dataset.classes[target] in name
    assert not {*dataset.train.names} & {*dataset.test.names}
    grey = build(f"folder(path='{photos}', image_size=8, channels=1)")
    assert everything(grey.test).shape == (8, 8, 8, 1)
    assert everything(grey.test)[grey.test.targets == 1].mean() > everything(grey.test)[grey.test.targets == 0].mean()


def test_few_examples_of_each_class(photos):
    whole, spec = build(f"folder(path='{photos}', image_size=8)"), f"folder(path='{photos}', image_size=8, per_class=3)"
    dataset = build(spec)
    assert np.bincount(dataset.train.targets).tolist() == [3, 3]
    assert {*dataset.train.names} < {*whole.train.names} and [*dataset.test.names] == [*whole.test.names]
    assert [*build(spec).train.names] == [*dataset.train.names]
    by_name = dict(zip(whole.train.names, everything(whole.train), strict=True))
    for name, image in zip(dataset.train.names, everything(dataset.train), strict=True):
        np.testing.assert_array_equal(image, by_name[name])
    drawn = {tuple(few(whole.train, 3, seed=seed).names) for seed in range(4)}
    assert len(drawn) == 4
    with pytest.raises(ValueError, match="per_class=17, but class 0 has 16 training examples"):
        build(f"folder(path='{photos}', image_size=8, per_class=17)")
    with pytest.raises(ValueError, match="per_class=0; expected a number of training examples"):
        build(f"folder(path='{photos}', image_size=8, per_class=0)")


def test_a_long_tail_has_ever_fewer_examples():
    split = Split.of(
        np.arange(1000).reshape(-1, 1, 1, 1), np.repeat(np.arange(10), 100).astype(np.int32), kind="multiclass"
    )
    tail = long_tailed(split, 10.0, seed=0)
    assert np.bincount(tail.targets).tolist() == [100, 77, 59, 46, 35, 27, 21, 16, 12, 10]  # 100 * 10^(-c / 9)
    assert len({*tail.read(np.arange(len(tail))).ravel().tolist()}) == len(tail)
    with pytest.raises(ValueError, match=r"imbalance_ratio=0.5; expected the first class's size"):
        long_tailed(split, 0.5, seed=0)


def moved(photos, tmp_path, *names):
    """Lays the photos out below train and the folders named, five of each class in each of these."""
    root = tmp_path / "laid_out"
    for kind in ("dark", "light"):
        files = sorted((photos / kind).iterdir())
        for index, name in enumerate(names):
            folder = root / name / kind
            folder.mkdir(parents=True)
            for file in files[5 * index : 5 * index + 5]:
                file.rename(folder / file.name)
    return root


def test_other_names_of_splits_are_known_or_asked_for(photos, tmp_path):
    dataset = build(f"folder(path='{moved(photos, tmp_path, 'training_set', 'test_set')}', image_size=8)")
    assert dataset.classes == ("dark", "light") and all("/test_set/" in name for name in dataset.test.names)
    (tmp_path / "laid_out" / "training_set").rename(tmp_path / "laid_out" / "study")
    with pytest.raises(ValueError, match=r"has 'test_set' but no training split; name the training folder 'train'"):
        build(f"folder(path='{tmp_path / 'laid_out'}', image_size=8)")


def test_a_class_may_be_called_train(tmp_path):
    for name in ("bus", "train"):
        (tmp_path / name).mkdir()
        for index in range(4):
            Image.new("RGB", (9, 9)).save(tmp_path / name / f"{index}.png")
    assert build(f"folder(path='{tmp_path}', image_size=8)").classes == ("bus", "train")


@pytest.mark.parametrize("held_out", ["test", "validation", "val", "holdout"])
def test_the_one_held_out_folder_is_test_if_it_has_that_role(photos, tmp_path, held_out):
    role = f", test='{held_out}'" if held_out.startswith("val") else ""
    dataset = build(f"folder(path='{moved(photos, tmp_path, 'train', held_out)}', image_size=8{role})")
    assert dataset.validation is None and len(dataset.train) == len(dataset.test) == 10
    assert all(f"/{held_out}/" in name for name in dataset.test.names)


def test_train_validation_and_test_folders(photos, tmp_path):
    dataset = build(f"folder(path='{moved(photos, tmp_path, 'Train', 'val', 'exam')}', image_size=8)")
    assert all("/val/" in name for name in dataset.validation.names)
    assert all("/exam/" in name for name in dataset.test.names)


def test_folders_that_are_not_what_they_should_be(photos, tmp_path):
    root = moved(photos, tmp_path, "train", "a", "b", "c")
    with pytest.raises(ValueError, match="besides train there are a, b, c; expected validation and test"):
        build(f"folder(path='{root}')")
    for name in "ab":
        (root / name).rename(tmp_path / name)
    (root / "c" / "dark").rename(root / "c" / "grey")
    with pytest.raises(ValueError, match=r"has the class 'grey', which train does not have: dark, light"):
        build(f"folder(path='{root}')")
    Image.new("L", (9, 9)).save(photos / "light" / "only.png")
    with pytest.raises(ValueError, match="class folder 'dark' of train has no readable images"):
        build(f"folder(path='{photos}')")
    for file in (photos / "light").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="has no images; expected files ending in"):
        build(f"folder(path='{photos}')")
    for argument in ("channels=2", "crop=0.0", "image_size=0"):
        with pytest.raises(ValueError, match=f"{argument}; (wanted|expected) "):
            build(f"folder(path='{photos}', {argument})")


def test_unreadable_images_are_named_or_skipped(photos):
    (photos / "dark" / "7.png").write_bytes((photos / "dark" / "7.png").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"cannot read the image '.*dark/7\.png'.*; repair or remove it"):
        build(f"folder(path='{photos}', image_size=8)")
    with pytest.warns(UserWarning, match=r"train: skipped 1 unreadable image: .*dark/7\.png"):
        dataset = build(f"folder(path='{photos}', image_size=8)", on_bad_image="skip")
    names = [*dataset.train.names, *dataset.test.names]
    assert len(names) == 39 and not any(name.endswith("dark/7.png") for name in names)
    for split in (dataset.train, dataset.test):  # what is read belongs to the name
        first = np.asarray(Image.open(split.names[0]).convert("RGB")).mean()
        assert everything(split)[0].mean() == pytest.approx(first, abs=25)


def test_a_streamed_folder_is_the_cached_one(photos):
    spec = f"folder(path='{photos}', image_size=(8, 10), per_class=9"
    cached, streamed = build(f"{spec})"), build(f"{spec}, stream=True)")
    cropped = build(f"{spec}, random_crop=(0.1, 0.5))")
    check_dataset(f"{spec}, random_crop=(0.1, 0.5))", split_seed=0, on_bad_image="error")
    assert cached.train.decode is None and everything(streamed.train).shape == (18, 8, 10, 3)
    for name in ("train", "test"):
        for other in (streamed, cropped):
            split, ours = getattr(cached, name), getattr(other, name)
            assert [*split.names] == [*ours.names]
            np.testing.assert_array_equal(everything(split), everything(ours))
            np.testing.assert_array_equal(everything(split)[5], ours.decode(5, None))
    np.testing.assert_array_equal(everything(cached.train)[3], streamed.train.decode(3, np.random.default_rng(0)))
    parts = [cropped.train.decode(3, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(parts[0], parts[1])
    assert parts[0].shape == (8, 10, 3) and not np.array_equal(parts[0], parts[2])


def test_what_is_streamed_where_nothing_is_said(photos, tmp_path, monkeypatch):
    root = moved(photos, tmp_path, "train", "val", "test")

    def streamed(arguments):
        dataset = build(f"folder(path='{root}', image_size=8{arguments})")
        return [split.decode is not None for split in (dataset.train, dataset.validation, dataset.test)]

    assert streamed("") == [False, False, False]
    assert streamed(", random_crop=(0.5, 1.0)") == [True, True, False]  # a fold may train on validation
    monkeypatch.setattr(folder, "MAX_CACHED", 30 * 8 * 8 * 3 - 1)
    assert streamed("") == [True, True, True]
    assert streamed(", stream=False") == [False, False, False]


def test_streaming_and_cutting_what_cannot_be(photos):
    for crop in ("(0.5, 0.1)", "(0.0, 1.0)", "(0.5, 1.5)"):
        with pytest.raises(ValueError, match=r"random_crop=.*; expected the smallest and largest fraction of .* area"):
            build(f"folder(path='{photos}', random_crop={crop})")
    with pytest.raises(ValueError, match=r"random_crop=.* but stream=False decodes them once; remove one of the two"):
        build(f"folder(path='{photos}', random_crop=(0.1, 1.0), stream=False)")


@pytest.mark.parametrize("arguments", ["stream=True", "random_crop=(0.1, 1.0)"])
def test_bad_images_of_a_streamed_folder_are_told_at_the_start(photos, arguments, monkeypatch):
    (photos / "dark" / "7.png").write_bytes((photos / "dark" / "7.png").read_bytes()[:200])
    spec = f"folder(path='{photos}', image_size=8, {arguments})"
    with pytest.raises(ValueError, match=r"cannot read the image '.*dark/7\.png'.*; repair or remove it"):
        build(spec)
    monkeypatch.setattr(files, "_read_all", None)  # what was found is remembered
    with pytest.warns(UserWarning, match=r"train: skipped 1 unreadable image: .*dark/7\.png"):
        dataset = build(spec, on_bad_image="skip")
    names = [*dataset.train.names, *dataset.test.names]
    assert len(names) == 39 and not any(name.endswith("dark/7.png") for name in names)
    for place, name in enumerate(dataset.train.names):
        first = np.asarray(Image.open(name).convert("RGB")).mean()
        assert dataset.train.decode(place, None).mean() == pytest.approx(first, abs=25)


def test_a_second_start_reads_the_cache_until_a_file_changes(photos, monkeypatch):
    spec = f"folder(path='{photos}', image_size=8)"
    first = everything(build(spec).train)

    def refuse(*arguments, **options):
        raise AssertionError("an image is decoded again")

    monkeypatch.setattr(files, "read_images", refuse)
    np.testing.assert_array_equal(everything(build(spec).train), first)
    Image.new("RGB", (30, 24), "red").save(photos / "dark" / "0.png")
    with pytest.raises(AssertionError, match="decoded again"):
        build(spec)


def test_a_cache_that_cannot_be_written_warns(photos, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="set JAXVISION_CACHE to another folder"):
        dataset = build(f"folder(path='{photos}', image_size=8)")
    assert len(everything(dataset.train)) == 32


def test_a_cache_that_fails_half_way_leaves_nothing():
    def fail(folder):
        np.save(folder / "half.npy", np.zeros(3))
        raise ValueError("the disk is full")

    with pytest.raises(ValueError, match="the disk is full"):
        cache.cached("thing", "key", fail)
    assert not list((cache.cache_folder() / "arrays").iterdir())


IMAGES = np.random.default_rng(0).integers(0, 256, (30, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(30) % 3


@pytest.mark.parametrize(
    "content",
    [
        {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:6], "y_test": LABELS[:6]},
        {"train": None, "images_train": IMAGES, "labels_train": LABELS, "images_val": IMAGES, "labels_val": LABELS},
        {"x": IMAGES, "y": LABELS, "classes": np.array(["ant", "bee", "cat"])},
        {"x": IMAGES[..., 0] / 255.0, "y": np.array(["ant", "bee", "cat"])[LABELS]},
    ],
)
def test_npz_files(content, tmp_path):
    content = {k: v for k, v in content.items() if v is not None}
    np.savez(tmp_path / "data.npz", **content)
    dataset = check_dataset(f"arrays(path='{tmp_path / 'data.npz'}')")
    assert dataset.classes in (("0", "1", "2"), ("ant", "bee", "cat"))
    assert (dataset.validation is not None) == ("images_val" in content)
    assert (dataset.test is None) == ("images_val" in content)
    assert dataset.test is None or len(dataset.test) == 6
    assert dataset.preprocessing.size == (6, 5)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"x": IMAGES}, "only x for train; expected x_train and y_train"),
        ({"x": IMAGES, "y": LABELS, "other": LABELS}, "has 'other'; expected"),
        ({"x_test": IMAGES, "y_test": LABELS}, "no train split"),
        ({"x": IMAGES, "y": LABELS[:7]}, "30 images and 7 labels"),
        ({"x": IMAGES, "y": np.eye(3)[LABELS]}, r"labels have shape \(30, 3\); expected \[N\]"),
        ({"x": IMAGES, "y": LABELS * 0}, "only the class 0"),
        ({"x": IMAGES, "y": LABELS - 1}, "label -1 is negative"),
        ({"x": IMAGES, "y": LABELS / 2}, "expected integers or strings"),
        ({"x": IMAGES, "y": LABELS, "classes": np.array(["a", "b"])}, "label 2 has no name among 2 classes"),
        ({"x": IMAGES.astype(np.int64), "y": LABELS}, "type int64; expected uint8"),
        ({"x": IMAGES.astype(np.float32), "y": LABELS}, "range from 0.0 to 255.0; expected 0 to 1"),
        ({"x": IMAGES[0], "y": LABELS[:6]}, None),
        ({"x": np.zeros((30, 4, 4, 2), np.uint8), "y": LABELS}, r"shape \(30, 4, 4, 2\)"),
        (
            {"x": IMAGES, "y": LABELS, "x_test": IMAGES[:, :4], "y_test": LABELS},
            r"images of test have shape \(4, 5, 3\)",
        ),
        ({"x": IMAGES, "y": LABELS.astype(str), "x_test": IMAGES, "y_test": (LABELS + 1).astype(str)}, "class '3'"),
    ],
)
def test_npz_files_that_do_not_fit(content, expected, tmp_path):
    np.savez(tmp_path / "data.npz", **content)
    if expected is None:  # [N, H, W] with few columns is a set of grey images
        assert len(build(f"arrays(path='{tmp_path / 'data.npz'}')").train) > 0
        return
    with pytest.raises(ValueError, match=expected):
        build(f"arrays(path='{tmp_path / 'data.npz'}')")


def test_splits_of_arrays_go_by_their_names():
    both = (IMAGES, LABELS)
    dataset = from_arrays({"train": both, "val": both, "test": both})
    assert dataset.validation is not None and len(dataset.validation) == 30
    with pytest.raises(ValueError, match="no split 'tset'; did you mean 'test'"):
        from_arrays({"train": both, "tset": both})
    with pytest.raises(ValueError, match="label -1 is negative"):
        from_arrays({"train": both, "test": (IMAGES, LABELS - 1)}, classes=("a", "b", "c"))


def test_whole_numbers_with_gaps_are_names():
    dataset = from_arrays({"train": (IMAGES, 10 * LABELS), "test": (IMAGES, 10 * LABELS)})
    assert dataset.classes == ("0", "10", "20") and np.array_equal(dataset.test.targets, LABELS)


def test_files_that_are_no_npz(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "objects.npz", x=np.array([object()]))
    for name in ("text.npz", "objects.npz"):
        with pytest.raises(ValueError, match=rf"cannot read '.*{name}' as \.npz"):
            build(f"arrays(path='{tmp_path / name}')")


def test_pixels_stay_as_they_are():
    dataset = from_arrays({"train": (IMAGES, LABELS), "test": (IMAGES, LABELS)})
    np.testing.assert_array_equal(everything(dataset.test), IMAGES)
    assert dataset.preprocessing.mean == pytest.approx((IMAGES / 255).mean(axis=(0, 1, 2)), abs=1e-4)
    assert dataset.preprocessing.std == pytest.approx((IMAGES / 255).std(axis=(0, 1, 2)), abs=1e-4)


def test_synthetic_needs_examples():
    with pytest.raises(ValueError, match="expected 2 or more classes and 2 or more examples per class"):
        build("synthetic(num_classes=10, num_examples=12)")
