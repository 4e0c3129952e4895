"""Tables: the meaning of columns, groups of rows, and messages for invalid ones."""

import csv

import numpy as np
import pytest
from PIL import Image

from jaxvision import registry
from jaxvision.config import Config
from jaxvision.data import open_dataset
from jaxvision.interfaces import Dataset, Preprocessing, Split
from jaxvision.splits import holdout
from jaxvision.testing import check_dataset

HEAD = ["id", "kind", "season", "price", "shop", "part"]


@pytest.fixture
def shop(tmp_path):
    """A table of 40 products with pictures: two kinds, two seasons, a price, ten shops, and a split."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    rows = []
    for index in range(40):
        kind = ("shoe", "hat")[index % 2]
        pixels = rng.normal(60 + 120 * (index % 2), 20, (12, 12, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
        season = ("Fall", "Summer")[index // 20]
        rows.append([index, kind, season, 1.5 * index, f"shop{index % 10}", ("train", "val", "test")[index % 5 // 2]])
    write(tmp_path / "shop.csv", rows)
    return tmp_path


def write(file, rows, head=HEAD):
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([head, *rows])


def change(shop, row, name, value):
    """Writes another value into a row."""
    with (shop / "shop.csv").open() as file:
        head, *rows = list(csv.reader(file))
    rows[row][head.index(name)] = value
    write(shop / "shop.csv", rows)


def spec(shop, **arguments):
    given = {"path": str(shop / "shop.csv"), "image": "images/{id}.png", "target": "kind", "image_size": 8, **arguments}
    return f"table({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def build(shop, **arguments):
    return check_dataset(spec(shop, **arguments), split_seed=0, on_bad_image="error")


def test_a_column_of_classes(shop):
    data = build(shop)
    assert data.classes == ("hat", "shoe") and data.train.kind == "multiclass"
    assert len(data.train) == 32 and len(data.test) == 8
    for split in (data.train, data.test):
        for name, target, image in zip(split.names, split.targets, split.read(np.arange(len(split))), strict=True):
            number = int(name.rpartition("/")[2].partition(".")[0])
            assert data.classes[target] == ("shoe", "hat")[number % 2] and (image.mean() > 120) == (number % 2 == 1)


def test_several_columns_are_tags(shop):
    data = build(shop, target=("kind", "season"))
    assert data.classes == ("kind=hat", "kind=shoe", "season=Fall", "season=Summer") and data.train.kind == "multilabel"
    assert (data.train.targets.sum(axis=1) == 2).all()
    change(shop, 0, "season", "")
    assert build(shop, target=("kind", "season"), test_fraction=0.01).train.targets.sum() >= 2 * 39 - 3


def test_a_delimited_list_and_columns_of_0_and_1_are_tags(shop, tmp_path):
    write(tmp_path / "list.csv", [[i, ("red|big", "red", "")[i % 3]] for i in range(40)], ["id", "tags"])
    data = build(shop, path=str(tmp_path / "list.csv"), target="tags", delimiter="|", test_fraction=0.3)
    assert data.classes == ("big", "red")
    both = np.concatenate([data.train.targets, data.test.targets])
    assert both.sum(axis=0).tolist() == [14, 27]
    write(tmp_path / "binary.csv", [[i, i % 2, int(i < 30)] for i in range(40)], ["id", "wool", "warm"])
    data = build(shop, path=str(tmp_path / "binary.csv"), target=("wool", "warm"), test_fraction=0.3)
    assert data.classes == ("warm", "wool")


def test_a_column_with_a_fraction_is_of_numbers(shop):
    data = build(shop, target="price")
    assert data.train.kind == "continuous" and data.classes == () and data.train.targets.dtype == np.float32
    assert sorted(np.concatenate([data.train.targets, data.test.targets])) == [1.5 * i for i in range(40)]
    assert build(shop, target="id", kind="continuous").train.kind == "continuous"
    assert build(shop, target="shop").train.kind == "multiclass"


def test_a_column_says_the_split(shop):
    data = build(shop, split="part")
    assert [len(data.train), len(data.validation), len(data.test)] == [16, 16, 8]
    assert {int(n.rpartition("/")[2][:-4]) % 5 for n in data.test.names} == {4}


def test_groups_are_never_parted(shop):
    data = build(shop, group="shop", test_fraction=0.3)

    def shops(split):
        return {int(name.rpartition("/")[2][:-4]) % 10 for name in split.names}

    train, validation = holdout(data.train, 0.3, seed=1)
    parts = [shops(train), shops(validation), shops(data.test)]
    assert sum(map(len, parts)) == 10 == len(set.union(*parts))
    with pytest.raises(ValueError, match="rows of one group are in train and "):
        build(shop, group="kind", split="part")


def test_rare_tags_and_classes_are_left_out(shop):
    change(shop, 3, "kind", "glove")
    data = build(shop, min_count=2)
    assert data.classes == ("hat", "shoe") and len(data.train) + len(data.test) == 39
    tags = build(shop, target=("kind", "season"), min_count=2)
    assert "kind=glove" not in tags.classes and len(tags.train) + len(tags.test) == 40


def test_another_table_is_test(shop):
    with (shop / "shop.csv").open() as file:
        head, *rows = list(csv.reader(file))
    write(shop / "shop.csv", rows[:30], head)
    write(shop / "other.csv", rows[30:], head)
    data = build(shop, test=str(shop / "other.csv"))
    assert len(data.train) == 30 and len(data.test) == 10


def test_parquet_is_read_alike(shop):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow.csv

    parquet.write_table(pyarrow.csv.read_csv(shop / "shop.csv"), shop / "shop.parquet")
    one, other = build(shop), build(shop, path=str(shop / "shop.parquet"))
    np.testing.assert_array_equal(one.train.targets, other.train.targets)


@pytest.mark.parametrize(
    ("changes", "arguments", "told"),
    [
        ((), {"target": "kinds"}, "has no column 'kinds'; did you mean 'kind'"),
        ((), {"image": "images/{ids}.png"}, "has no column 'ids'; did you mean 'id'"),
        ((), {"image": "images/{id}.jpg"}, "40 of the 40 images of .* are missing, the first"),
        ((), {"path": "nothing.csv"}, "no table 'nothing.csv'"),
        (
            (0, "price", "cheap"),
            {"target": "price", "kind": "continuous"},
            "line 2: column 'price' has 'cheap', which is not a finite number",
        ),
        ((2, "price", "nan"), {"target": "price"}, "line 4: column 'price' has 'nan', which is not a finite number"),
        ((1, "price", ""), {"target": "price", "kind": "continuous"}, "line 3: column 'price' is empty"),
        ((1, "kind", ""), {}, "line 3: column 'kind' is empty"),
        ((), {"min_count": 30}, "has no class with 30 or more rows"),
        (
            (4, "season", "Spring"),
            {"target": ("kind", "season"), "split": "part"},
            "test .* has 'season=Spring', which",
        ),
        (
            (4, "kind", "glove"),
            {"split": "part"},
            "test of the table .* has 'glove', which train does not have; add examples of it, or drop",
        ),
        ((4, "part", "holdup"), {"split": "part"}, "has 'holdup'; did you mean 'holdout'"),
    ],
)
def test_bad_tables_are_told(shop, changes, arguments, told):
    if changes:
        change(shop, *changes)
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        registry.datasets.build(spec(shop, **arguments), split_seed=0, on_bad_image="error")


def test_one_class_and_one_number_are_refused(shop, tmp_path):
    write(tmp_path / "one.csv", [[i, "hat", 0.5] for i in range(20)], ["id", "kind", "price"])
    for target, told in (("kind", "has 1 class with 1 or more rows"), ("price", "has only the number 0.5")):
        with pytest.raises(ValueError, match=told):
            build(shop, path=str(tmp_path / "one.csv"), target=target)


def test_lines_that_are_too_long_are_told(shop):
    with (shop / "shop.csv").open("a") as file:
        file.write("40,hat,Fall,1,shop1,train,and,more\n")
    with pytest.raises(ValueError, match="line 42: 8 values, but the header has 6 columns; quote values that contain"):
        build(shop)


def test_lines_that_are_too_short_are_told(shop):
    with (shop / "shop.csv").open("a") as file:
        file.write("40\n")
    with pytest.raises(ValueError, match="line 42: 1 value, but the header has 6 columns; fill in what is missing"):
        build(shop)


def test_true_and_false_are_flags(shop, tmp_path):
    write(tmp_path / "flags.csv", [[i, i % 2 == 0, i < 30] for i in range(40)], ["id", "wool", "warm"])
    data = build(shop, path=str(tmp_path / "flags.csv"), target=("wool", "warm"), test_fraction=0.3)
    assert data.classes == ("warm", "wool")


def test_what_is_rare_is_so_in_train(shop):
    for row in range(40):
        change(shop, row, "part", "train" if row < 24 else "test")
        change(shop, row, "kind", "rare" if row in (0, 1, *range(24, 34)) else "common" if row % 2 else "usual")
    assert build(shop, split="part", min_count=3).classes == ("common", "usual")
    assert build(shop, split="part").classes == ("common", "rare", "usual")


@pytest.mark.parametrize(
    ("row", "name", "value", "arguments", "told"),
    [
        (3, "price", "cheap", {"target": "price"}, "line 5: column 'price' has 'cheap', which is not a finite number"),
        (3, "price", "1e39", {"target": "price"}, "line 5: column 'price' has '1e39', which is not a finite number"),
        (2, "shop", "", {"group": "shop"}, "line 4: column 'shop' is empty"),
        (0, "id", "0", {"target": "id"}, "a different class in each row.*kind='continuous'"),
    ],
)
def test_a_bad_cell_is_told_with_its_row(shop, row, name, value, arguments, told):
    change(shop, row, name, value)
    with pytest.raises(ValueError, match=told):
        build(shop, **arguments)


def test_a_row_of_the_other_table_is_told_as_its_own(shop):
    write(shop / "other.csv", [[0, 1.5], [1, 2.5], [2, "dear"]], ["id", "price"])
    with pytest.raises(ValueError, match=r"other.csv', line 4: column 'price' has 'dear'"):
        build(shop, target="price", test=str(shop / "other.csv"))


def test_lines_are_counted_as_an_editor_does_and_rows_of_parquet_from_1(shop):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    (shop / "over.csv").write_text('id,note,price\n0,"one\n\ntwo",1.5\n\n1,"three\nfour",dear\n')
    with pytest.raises(ValueError, match=r"over.csv', line 6: column 'price' has 'dear'"):
        build(shop, path=str(shop / "over.csv"), target="price", kind="continuous")
    parquet.write_table(pyarrow.table({"id": [0, 1], "price": ["1.5", "dear"]}), shop / "two.parquet")
    with pytest.raises(ValueError, match=r"two.parquet', row 2: column 'price' has 'dear'"):
        build(shop, path=str(shop / "two.parquet"), target="price", kind="continuous")


def test_what_another_table_lacks_is_told_as_its_own(shop):
    other = str(shop / "other.csv")
    write(shop / "other.csv", [[0, "hat"]], ["id", "sort"])
    with pytest.raises(ValueError, match=r"other.csv' has no column 'kind'.*it has id, sort"):
        build(shop, test=other)
    kinds = ["hat", "glove", "belt", "scarf", "sock"]
    for told, rows in (
        (r"other.csv' has 'glove', which train does not have; add examples of it, or drop", kinds[:2]),
        (r"other.csv' has 'belt', 'glove', 'scarf' and 1 more, which train does not have; .* of them, or drop", kinds),
    ):
        write(shop / "other.csv", list(enumerate(rows)), ["id", "kind"])
        with pytest.raises(ValueError, match=told):
            build(shop, test=other)


def test_another_seed_is_offered_where_it_cuts(shop):
    change(shop, 4, "kind", "glove")
    change(shop, 4, "shop", "alone")
    told = []
    for seed in range(10):
        try:
            registry.datasets.build(spec(shop, group="shop"), split_seed=seed, on_bad_image="error")
        except ValueError as error:
            told.append(str(error))
    assert told and all("add examples of it, use another split_seed, or drop" in each for each in told)


def test_missing_images_are_told_with_their_line(shop):
    (shop / "images" / "7.png").unlink()
    with pytest.raises(ValueError, match=r"1 of the 40 images of .* is missing, the first .*7\.png' of line 9; add it"):
        build(shop)
    change(shop, 3, "id", "absent")
    with pytest.raises(ValueError, match=r"2 of the 40 .* are missing, the first .*absent\.png' of line 5; add them"):
        build(shop)


def test_another_delimiter_than_that_of_the_list_is_told(shop):
    tags = [("red|big", "red|small", "red")[i % 3] for i in range(40)]
    write(shop / "list.csv", list(enumerate(tags)), ["id", "tags"])
    list_of = {"path": str(shop / "list.csv"), "target": "tags", "test_fraction": 0.3}
    with pytest.raises(
        ValueError, match=r"';' is in no row of column 'tags', but '\|' is in 27 of 40: use delimiter='\|'"
    ):
        build(shop, delimiter=";", **list_of)
    assert build(shop, delimiter="|", **list_of).classes == ("big", "red", "small")
    assert len(build(shop, kind="multilabel", **list_of).classes) == 3  # as "tags=red|big"
    write(shop / "list.csv", [[i, ("red, dark;big", "red, light")[i % 2]] for i in range(40)], ["id", "tags"])
    assert build(shop, delimiter=";", **list_of).classes == ("big", "red, dark", "red, light")


def test_what_other_programs_write_is_told(shop):
    (shop / "latin.csv").write_bytes("id,kind\n0,hat\n1,béret\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.csv', line 3: byte 0xe9 is not UTF-8 text; save it as UTF-8"):
        build(shop, path=str(shop / "latin.csv"))
    (shop / "comma.csv").write_text("id;price\n" + "".join(f"{i};{i},5\n" for i in range(40)))
    with pytest.raises(
        ValueError, match=r"line 2: column 'price' has '0,5', which is not a finite number; write decimals with a point"
    ):
        build(shop, path=str(shop / "comma.csv"), target="price")


def test_a_tag_without_a_row_and_a_column_twice_are_told(shop, tmp_path):
    write(tmp_path / "flags.csv", [[i, i % 2, 0] for i in range(40)], ["id", "wool", "never"])
    with pytest.raises(ValueError, match=r"'never' of the table .* has no label in any row"):
        build(shop, path=str(tmp_path / "flags.csv"), target=("wool", "never"))
    write(tmp_path / "twice.csv", [[i, 1, 2] for i in range(4)], ["id", "kind", "kind"])
    with pytest.raises(ValueError, match="two columns 'kind'"):
        build(shop, path=str(tmp_path / "twice.csv"))


def test_a_class_that_validation_takes_whole_is_told():
    targets = np.repeat(np.arange(2, dtype=np.int32), 5)
    train = Split(lambda chosen: np.zeros((len(chosen), 4, 4, 1), np.uint8), targets, kind="multiclass", groups=targets)
    data = Dataset(train, None, None, ("hat", "shoe"), Preprocessing((4, 4), 1, (0.0,), (1.0,)))
    with pytest.raises(ValueError, match="are held out for validation"):  # as each class is one group
        open_dataset(Config(), dataset=data)
