"""Tables as other programs write them: each is read as its author meant it, or refused with the line and the repair."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxvision import registry
from jaxvision.datasets.rows import read_table


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with 24 images, red for even numbers, as the current folder."""
    monkeypatch.chdir(tmp_path)
    for number in range(24):
        Image.fromarray(picture(number)).save(f"{number}.png")
    return tmp_path


def picture(number):
    pixels = np.full((8, 8, 3), 10 * number, np.uint8)
    pixels[..., 0] = 255 * (number % 2 == 0)
    return pixels


def build(**arguments):
    given = {"path": "t.csv", "image_size": 8, **arguments}
    spec = f"table({', '.join(f'{name}={value!r}' for name, value in given.items())})"
    return registry.datasets.build(spec, split_seed=0, on_bad_image="error")


def counts(**arguments):
    """Return the number of examples of each class or label over all splits."""
    data = build(**arguments)
    targets = np.concatenate([split.targets for split in (data.train, data.validation, data.test) if split])
    if data.train.kind == "multilabel":
        return dict(zip(data.classes, targets.sum(axis=0).tolist(), strict=True))
    return dict(zip(data.classes, np.bincount(targets, minlength=len(data.classes)).tolist(), strict=True))


def write(place, values, head="image,target", name="t.csv"):
    rows = [f"{number}.png,{value}" for number, value in enumerate(values)]
    (place / name).write_text("\n".join([head, *rows]) + "\n")


CATS = [("cat", "dog")[number % 2] for number in range(24)]


@pytest.mark.parametrize(
    ("row", "text", "message"),
    [
        (9, '"dog', "line 11: a quote opens a value and is not closed"),
        (9, '"dog,', "line 11: a quote opens a value and is not closed"),
        (23, '"', "line 25: a quote opens a value and is not closed"),
        (5, '"do"g', "line 7: a quote opens a value and is not closed"),
        (5, "d\0g", "line 7: byte 0x0 is not UTF-8 text"),
        (5, "x" * 140_000, "line 7: a value has more than 131,072 characters"),
        (5, '"two\nlines"', "line 7: column 'target' has a value of several lines"),
        (5, "nan", "line 7: column 'target' has 'nan', which stands for a missing value"),
        (5, "b'cat'", "line 7: column 'target' has .*Python's text for bytes"),
    ],
)
def test_a_damaged_line_is_named(place, row, text, message):
    write(place, [text if number == row else value for number, value in enumerate(CATS)])
    with pytest.raises(ValueError, match=message) as error:
        build()
    assert len(str(error.value)) < 500


def test_a_quote_closed_by_the_next_one_is_named(place):
    write(place, ['"dog' if number == 9 else f'"{value}"' for number, value in enumerate(CATS)])
    with pytest.raises(ValueError, match="line 11: a quote opens a value and is not closed"):
        build()


def test_a_long_table_with_an_open_quote_is_named(place):
    (place / "t.csv").write_text(
        "image,target\n" + "".join(f"0.png,{'' if n != 9 else chr(34)}cat\n" for n in range(16_000))
    )
    with pytest.raises(ValueError, match="line 11: a value has more than 131,072 characters; close its quote"):
        build()


PLAIN = "image,target\n" + "".join(f" {number}.png ,  {value}\u00a0\n" for number, value in enumerate(CATS))
QUOTED = "image;target\n" + "".join(f'"{number}.png" ; "{value}" \n' for number, value in enumerate(CATS))


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "\t").encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        QUOTED.encode(),
    ],
    ids=["plain", "mark", "semicolons", "tabs", "windows", "mac", "spaces around quotes"],
)
def test_other_forms_are_read_alike(place, content):
    (place / "t.csv").write_bytes(content)
    assert counts() == {"cat": 12, "dog": 12}


def test_quotes_within_values_are_kept(tmp_path):
    (tmp_path / "t.csv").write_text('id,size\n1,5" disk\n2,"5"" ,disk"\n')
    assert read_table(tmp_path / "t.csv").column("size") == ['5" disk', '5" ,disk']


def test_a_missing_image_with_a_long_name_is_named(place):
    write(place, CATS)
    with (place / "t.csv").open("a") as file:
        file.write("x" * 5000 + ",cat\n")
    with pytest.raises(ValueError, match=r"1 of the 25 images .* is missing"):
        build()


@pytest.mark.parametrize("odd", ["", "-1", "nan", "0.5", "?", "2"])
def test_a_stray_value_among_flags_is_named(place, odd):
    write(place, [f"{n % 2},{odd if n == 7 else n // 2 % 2}" for n in range(24)], "image,sky,sea")
    what = r"line 9: column 'sea' is empty" if not odd else f"line 9: column 'sea' has '{odd}'".replace("?", r"\?")
    with pytest.raises(ValueError, match=what):
        build(target=("sky", "sea"))


def test_flags_and_categories_are_read(place):
    write(place, [f"{n % 2},{n // 2 % 2}" for n in range(24)], "image,sky,sea")
    assert counts(target=("sky", "sea"), test_fraction=0.4) == {"sea": 12, "sky": 12}
    write(place, [f"{n % 2},{n % 3}" for n in range(24)], "image,sky,legs")  # three categories
    assert counts(target=("sky", "legs"), test_fraction=0.4) == {
        "legs=0": 8,
        "legs=1": 8,
        "legs=2": 8,
        "sky=0": 12,
        "sky=1": 12,
    }


@pytest.mark.parametrize("text", ["\"['x', 'y']\"", "\"['x' 'y']\"", "\"{'x'}\""])
@pytest.mark.parametrize("arguments", [{}, {"delimiter": ","}, {"kind": "multilabel"}])
def test_a_list_as_text_is_named(place, text, arguments):
    write(place, [text] * 24)
    with pytest.raises(ValueError, match=r"line 2: column 'target' has .*Python's text for a list"):
        build(**arguments)


def test_numbered_classes_are_in_natural_order(place):
    write(place, [number % 12 for number in range(24)])
    assert list(counts(test_fraction=0.1)) == [str(number) for number in range(12)]
    write(place, [f"kind {number % 12}" for number in range(24)])
    assert list(counts())[:3] == ["kind 0", "kind 1", "kind 2"]
    write(place, [f"{9 + number % 2},a" for number in range(24)], "image,number,letter")
    labels = list(counts(target=("number", "letter"), test_fraction=0.4))
    assert labels == ["letter=a", "number=9", "number=10"]


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ("1", "1.0", "'1' and '1.0' are one number"),
        ("caf\u00e9", "cafe\u0301", "differ only by their Unicode normal form"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_named(place, one, other, message):
    write(place, [(one, other, "2")[number % 3] for number in range(24)])
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    "pattern",
    ["{id:01000000000}.png", "{id!r}.png", "{id.__class__}.png", "{id[0]}.png", "{}.png", "{0}.png", "{id.png"],
)
def test_a_pattern_takes_names_of_columns_alone(place, pattern):
    write(place, CATS, "id,target")
    with pytest.raises(ValueError, match=r"is not a pattern like|has no column"):
        build(image=pattern)


def test_a_pattern_is_filled_with_columns(place):
    (place / "t.csv").write_text("my.id,kind,target\n" + "".join(f"{n},png,{value}\n" for n, value in enumerate(CATS)))
    assert counts(image="{my.id}.{kind}") == {"cat": 12, "dog": 12}


@pytest.fixture
def parquet(place):
    arrow = pytest.importorskip("pyarrow")
    writer = pytest.importorskip("pyarrow.parquet")
    names = [f"{number}.png" for number in range(24)]
    return lambda **columns: writer.write_table(arrow.table({"image": names} | columns), place / "t.parquet")


def test_lists_in_parquet_are_labels(parquet):
    parquet(tags=[[], ["x"], ["x", "y"]] * 8, numbers=[[1, 10], [9], None] * 8, both=[b"x", b"y"] * 12)
    named = {"path": "t.parquet", "test_fraction": 0.4}
    assert counts(target="tags", **named) == counts(target="tags", kind="multilabel", **named) == {"x": 16, "y": 8}
    assert counts(target="numbers", **named) == {"1": 8, "9": 8, "10": 8}
    assert counts(target=("tags", "both"), **named) == {"both=x": 12, "both=y": 12, "x": 16, "y": 8}
    for arguments, message in (({"delimiter": ","}, "remove delimiter"), ({"kind": "multiclass"}, "it holds lists")):
        with pytest.raises(ValueError, match=message):
            build(target="tags", **arguments, **named)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([["x", None]] * 24, "row 1 has a list with a missing value"),
        ([[["x"]]] * 24, "its values are of type"),
        ([{"a": 1}] * 24, "its values are of type"),
        ([b"cat", b"\xff\xfe\xfd"] * 12, r"row 2 has the bytes .*, which are not UTF-8 text"),
        ([None, "cat"] * 12, "row 1: column 'target' is empty"),
        ([1.0, float("nan")] * 12, "row 2: column 'target' has 'nan'"),
        ([["x", ""]] * 24, "row 1: column 'target' has the label ''"),
    ],
)
def test_values_of_parquet_that_are_no_classes_are_named(parquet, column, message):
    parquet(target=column)
    with pytest.raises(ValueError, match=message):
        build(path="t.parquet")


def test_bytes_in_parquet_are_text(parquet):
    parquet(target=[b"cat", b"dog"] * 12)
    assert counts(path="t.parquet") == {"cat": 12, "dog": 12}


@pytest.mark.parametrize("form", ["struct", "binary"])
def test_images_in_parquet_are_read(parquet, form):
    contents = []
    for number in range(24):
        Image.fromarray(picture(number)).save(buffer := io.BytesIO(), "png")
        contents.append(buffer.getvalue())
    column = contents if form == "binary" else [{"bytes": content, "path": "x"} for content in contents]
    parquet(image=column, target=[number % 2 for number in range(24)])
    for _ in range(2):  # written, and found
        data = build(path="t.parquet")
        for split in (data.train, data.test):
            reds = split.read(np.arange(len(split)))[:, 0, 0, 0]
            assert np.array_equal(reds, 255 * (split.targets == 0)) and len(reds)
    with pytest.raises(ValueError, match="it holds images"):
        build(path="t.parquet", target="image")
    parquet(image=[None, *column[1:]], target=[number % 2 for number in range(24)])
    with pytest.raises(ValueError, match="row 1 has no bytes of an image"):
        build(path="t.parquet")


def test_a_parquet_file_that_cannot_be_read_is_named(parquet, place):
    arrow = pytest.importorskip("pyarrow")
    writer = pytest.importorskip("pyarrow.parquet")
    writer.write_table(arrow.table([["0.png"], ["a"], ["b"]], names=["image", "target", "target"]), place / "t.parquet")
    with pytest.raises(ValueError, match="two columns 'target'"):
        build(path="t.parquet")
    (place / "t.parquet").write_bytes((place / "t.parquet").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"cannot read the table .* as Parquet"):
        build(path="t.parquet")
