"""Tables as other programs write them: each is read as its author meant it, or refused with the line and the repair."""

import datetime
import gzip
import io
import os
import subprocess

import numpy as np
import pytest
from PIL import Image

from jaxvision import array_cache as cache
from jaxvision import registry
from jaxvision.datasets.rows import read_table
from jaxvision.upgrades import upgrade_saved


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
        (9, '"dog', "line 11: a quoted value does not end"),
        (9, '"dog,', "line 11: a quoted value does not end"),
        (23, '"', "line 25: a quoted value does not end"),
        (5, '"do"g', "line 7: a quoted value does not end"),
        (5, "d\0g", "line 7: byte 0x0 is not UTF-8 text"),
        (5, "x" * 140_000, "line 7: a value has more than 131,072 characters"),
        (5, '"two\nlines"', "line 7: column 'target' has a value of several lines"),
        (5, "<NA>", "line 7: column 'target' has '<NA>', which stands for a missing value"),
        (5, "nan", "line 7: column 'target' has 'nan', which stands for a missing value"),
        (5, "N/A", "line 7: column 'target' has 'N/A', which stands for a missing value"),
        (5, "#REF!", "line 7: column 'target' has '#REF!', which stands for a missing value"),
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
    with pytest.raises(ValueError, match="line 11: a quoted value does not end"):
        build()


def test_a_long_table_with_an_open_quote_is_named(place):
    (place / "t.csv").write_text(
        "image,target\n" + "".join(f"0.png,{'' if n != 9 else chr(34)}cat\n" for n in range(16_000))
    )
    with pytest.raises(ValueError, match="line 11: a value has more than 131,072 characters; close its quote"):
        build()


@pytest.mark.parametrize(
    "rows",
    [
        {10: '10.png,cat,"hello', 15: '15.png,dog,"'},
        {10: '10.png,cat,"hello', 11: '11.png,dog,"'},
        {10: '10.png,cat,"hello', 11: '11.png,dog,5"'},
        {10: '10.png,"cat,', 11: '11.png,",x'},
        {10: '10.png,cat,"', 11: '11.png,dog,"'},
    ],
)
def test_an_open_quote_that_takes_rows_is_named_in_any_column(place, rows):
    lines = [rows.get(n, f"{n}.png,{value},") for n, value in enumerate(CATS)]
    (place / "t.csv").write_text("\n".join(["image,target,note", *lines]) + "\n")
    with pytest.raises(ValueError, match=r"line 12: column '(note|target)' has a value of several lines with rows"):
        build()


def test_values_of_several_lines_in_other_columns_are_read(place):
    lines = [f'{n}.png,{value},"A note, long\nand, not, a row, {n}"' for n, value in enumerate(CATS)]
    (place / "t.csv").write_text("\n".join(["image,target,note", *lines]) + "\n")
    assert counts() == {"cat": 12, "dog": 12}


@pytest.mark.parametrize(
    ("content", "repair"),
    [
        (b"PK\3\4\x14\0", r"spreadsheet or a ZIP archive; save the sheet as CSV \(UTF-8\)"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", r"spreadsheet; save the sheet as CSV \(UTF-8\)"),
        (gzip.compress(b"image,target", mtime=0), "compressed by gzip; extract it with gunzip"),
        (b"PAR1\0\0", r"Parquet file; rename it to end in \.parquet"),
    ],
)
def test_files_of_other_formats_are_named(place, content, repair):
    (place / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"the table 't.csv' is .*{repair}"):
        build()


@pytest.mark.skipif(os.sep == "\\", reason="Windows reads paths with backslashes")
def test_backslashes_in_paths_are_named(place):
    (place / "red").mkdir()
    for number in range(24):
        (place / f"{number}.png").rename(place / "red" / f"{number}.png")
    rows = [f"{{}}\\{number}.png,{value}\n" for number, value in enumerate(CATS)]
    for folder, repair in (("red", "as 'red/0.png'"), (r"C:\Users\me", "with / and from the table's folder, as 'im")):
        (place / "t.csv").write_text("image,target\n" + "".join(rows).replace("{}", folder))
        with pytest.raises(
            ValueError, match=f"24 images .* missing, .* on Windows only: write them {repair}"
        ) as caught:
            build()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_the_header_decides_the_separator(place, separator):
    rows = [f"{number}.png{separator}{value}{separator}1,5" for number, value in enumerate(CATS)]
    (place / "t.csv").write_text("\n".join([f"image{separator}target{separator}size, in m", *rows]))
    assert counts() == {"cat": 12, "dog": 12}
    (place / "t.csv").write_text("image|target\n0.png|cat\n")
    with pytest.raises(ValueError, match=r"no column 'image'.*; it has image\|target; separate its values by commas"):
        build()


def test_the_roles_of_a_table_are_stated(place):
    parts = ["train"] * 16 + ["val"] * 2 + ["dev"] * 2 + ["Test"] * 4
    write(place, [f"{value},{part}" for value, part in zip(CATS, parts, strict=True)], head="image,target,part")
    assert build(split="part").notes == (
        "roles: train is 'train', validation (used for choosing) is 'val' or 'dev', test is 'Test' of column 'part'",
    )
    write(place, CATS, name="other.csv")
    assert build(test="other.csv").notes[0] == "roles: train is 't.csv', test is 'other.csv'"


def test_classes_that_differ_only_in_case_or_spaces_are_named(place):
    write(place, ["Red  dog", "cat", "red dog", "CAT"] * 6)
    expected = "differ only in case or spaces: 'CAT' and 'cat', 'Red  dog' and 'red dog'; if these are one class, write"
    assert expected in "\n".join(build().notes)
    write(place, CATS)
    assert "differ only" not in "\n".join(build().notes)


def test_a_file_with_several_classes_is_named(place):
    write(place, CATS)
    with (place / "t.csv").open("a") as file:
        file.write("1.png,dog\n3.png,cat\n./3.png,dog\n5.png,cat\n3.png,cat\n")
    (note,) = build().notes[1:]
    assert note.startswith("2 images have several classes in the table 't.csv', the first '3.png': 'dog' (line 5) and ")
    assert "and 'cat' (line 27); keep one row of each image" in note
    assert len(build(kind="multilabel", delimiter="|").notes) == 1  # labels may be several


def test_blank_rows_are_counted(place):
    write(place, CATS)
    with (place / "t.csv").open("a") as file:
        file.write(" ,\n,\n\n")
    assert counts() == {"cat": 12, "dog": 12}
    roles, note = build().notes
    assert roles == "roles: train is 't.csv'; test is 20% of train, held out"
    assert note == "2 blank rows of the table 't.csv' left out, the first on line 26"
    (place / "t.csv").write_text("step,sales\n" + "".join(f"{n},{n % 5}.5\n" for n in range(40)) + ",\n")
    with pytest.warns(UserWarning, match="1 blank row of the table"):
        registry.datasets.build("time_series(path='t.csv', column='sales', window=3)")


def test_a_header_may_be_quoted_and_follow_blank_lines(tmp_path):
    (tmp_path / "t.csv").write_text('\n\n"a, b, c, d";id\n1;"b" ')
    table = read_table(tmp_path / "t.csv")
    assert table.column("a, b, c, d") == ["1"] and table.column("id") == ["b"] and table.lines == ["line 4"]


def test_a_number_with_an_underscore_is_text(place):
    write(place, [("1_0.5", "2_0.5")[n % 2] for n in range(24)])
    assert counts() == {"1_0.5": 12, "2_0.5": 12}
    write(place, [("1_0", "10")[n % 2] for n in range(24)])
    assert counts() == {"10": 12, "1_0": 12}
    write(place, [n + 0.5 if n else "1_0.5" for n in range(24)])
    with pytest.raises(ValueError, match=r"line 2: column 'target' has '1_0\.5', which is not a finite number"):
        build(kind="continuous")


@pytest.mark.parametrize("word", ["val", "dev", "Validation"])
def test_with_train_and_validation_rows_no_test_split_is_made(place, word):
    write(place, [f"{value},{'train' if n < 16 else word}" for n, value in enumerate(CATS)], "image,target,part")
    data = build(split="part")
    assert (len(data.train), len(data.validation), data.test) == (16, 8, None)
    data = build(split="part", test_fraction=0.25)
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 8, 4)
    old = upgrade_saved({"dataset": "table(path='t.csv', image_size=8, split='part')"}, 3)["dataset"]
    data = registry.datasets.build(old, split_seed=0, on_bad_image="error")
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 8, 4)  # 20 % of 8 is 2 in each class


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
        "sky": 12,
    }
    assert list(counts(target=("sky", "legs"), flags="all", test_fraction=0.4))[-2:] == ["sky=0", "sky=1"]


def test_flags_that_are_mostly_blank_are_named(place):
    values = ["1.0", "", "", "0.0", "", "", "-1.0", "", "", "1.0", "", ""] * 2
    write(place, [f"{n % 2},{value}" for n, value in enumerate(values)], "image,sky,edema")
    with pytest.raises(ValueError, match=r"line 3: column 'edema' is empty, and 6 of its 8 values are 0 or 1"):
        build(target=("sky", "edema"))


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


def test_names_in_parquet_that_are_no_text_are_refused(parquet, place):
    writer, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    writer.write_table(arrow.table({"abcd": ["x"] * 4}), place / "t.parquet", store_schema=False)
    content = (place / "t.parquet").read_bytes()
    assert b"abcd" in content
    (place / "t.parquet").write_bytes(content.replace(b"abcd", b"ab\xffd"))
    with pytest.raises(ValueError, match=r"cannot read the table 't\.parquet' as Parquet: .*utf-8"):
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


def encoded(number, form="png"):
    Image.fromarray(picture(number)).save(buffer := io.BytesIO(), form)
    return buffer.getvalue()


def reds(data):
    """Return the first red value of each image, in the order of the classes that name them."""
    levels = {}
    for split in (data.train, data.test):
        values = split.read(np.arange(len(split)))[:, 0, 0, 1]
        levels |= {data.classes[target]: int(value) for target, value in zip(split.targets, values, strict=True)}
    return levels


def embedded(parquet, place, levels, form="bmp"):
    """Write a table whose classes a and b are images of one level each, with a fixed time."""
    parquet(image=[encoded(levels[n % 2], form) for n in range(24)], target=["ab"[n % 2] for n in range(24)])
    os.utime(place / "t.parquet", ns=(10**18, 10**18))
    return (place / "t.parquet").stat().st_size


def test_a_replaced_parquet_of_the_same_size_and_time_has_its_own_images(parquet, place):
    size = embedded(parquet, place, (3, 5))
    assert reds(build(path="t.parquet")) == {"a": 30, "b": 50}
    assert embedded(parquet, place, (7, 9)) == size
    assert reds(build(path="t.parquet")) == {"a": 70, "b": 90}


def test_a_damaged_image_of_the_cache_is_written_again(parquet, place):
    embedded(parquet, place, (3, 5))
    build(path="t.parquet")
    (folder,) = (cache.cache_folder() / "images").iterdir()
    (folder / "row 0000001").write_bytes(encoded(9, "bmp"))
    with pytest.warns(UserWarning, match=r"the cached images in .* are damaged \(row 0000001 is changed\)"):
        assert reds(build(path="t.parquet")) == {"a": 30, "b": 50}


def test_images_in_parquet_on_a_full_disk_are_read(parquet, place, monkeypatch):
    (place / "disk").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", "disk"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    monkeypatch.setenv("JAXVISION_CACHE", str(place / "disk"))
    embedded(parquet, place, (3, 5))
    try:
        with pytest.warns(UserWarning, match="cannot cache decoded images: .*No space left"):
            assert reds(build(path="t.parquet")) == {"a": 30, "b": 50}
    finally:
        subprocess.run(["umount", "-l", "disk"], capture_output=True, check=False)


@pytest.mark.parametrize("form", ["bmp", "avif", "jpeg2000", "webp", "tiff"])
def test_bytes_of_any_format_are_images(parquet, place, form):
    embedded(parquet, place, (3, 22), form)
    levels = reds(build(path="t.parquet"))
    assert abs(levels["a"] - 30) < 9 and abs(levels["b"] - 220) < 9  # some formats lose a little


def test_columns_that_nobody_asked_for_do_not_end_the_read(parquet, place):
    arrow = pytest.importorskip("pyarrow")
    sound = [{"bytes": b"RIFF....WAVE", "path": "x"}] * 24
    late = {
        "stamp": arrow.array([2**62] * 24, arrow.timestamp("us")),
        "took": arrow.array([2**62] * 24, arrow.duration("s")),
        "day": arrow.array([2**31 - 1] * 24, arrow.int32()).cast(arrow.date32()),
        "sizes": [{"bytes": 3}] * 24,
        "born": [datetime.date(2020, 1, 2)] * 24,
    }
    parquet(target=CATS, sound=sound, **late)
    assert counts(path="t.parquet") == {"cat": 12, "dog": 12}
    assert not list((cache.cache_folder() / "images").glob("*"))
    for name in ("stamp", "took", "day", "sizes"):
        with pytest.raises(ValueError, match=f"column '{name}' of .* cannot be used"):
            build(path="t.parquet", target=name)


def test_a_parquet_file_that_cannot_be_read_is_named(parquet, place):
    arrow = pytest.importorskip("pyarrow")
    writer = pytest.importorskip("pyarrow.parquet")
    writer.write_table(arrow.table([["0.png"], ["a"], ["b"]], names=["image", "target", "target"]), place / "t.parquet")
    with pytest.raises(ValueError, match="two columns 'target'"):
        build(path="t.parquet")
    (place / "t.parquet").write_bytes((place / "t.parquet").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"cannot read the table .* as Parquet"):
        build(path="t.parquet")
