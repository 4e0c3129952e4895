"""Files that are odd, damaged or hostile: read rightly, or refused in one line that names the file."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

import jaxvision.image_decoding as decoding
from jaxvision.datasets.files import read_files
from jaxvision.image_decoding import ImageWarning, read_image
from jaxvision.image_files import read_images
from jaxvision.interfaces import Preprocessing

SMALL = Preprocessing((8, 8), 3, (0.0,) * 3, (1.0,) * 3)
RED = Image.new("RGB", (24, 16), (200, 30, 30))


def encoded(image=RED, kind="JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(*tags: tuple[int, int, bytes], orientation=6) -> bytes:
    """Return EXIF with an orientation and further tags (number, type, value of four bytes)."""
    entries = [struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0)]
    entries += [struct.pack("<HHI", tag, kind, 4 if kind == 2 else 1) + value for tag, kind, value in tags]
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + b"\0\0\0\0"


def png(depth: int, color: int, size: tuple[int, int], raw: bytes, transparent: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0))
    middle = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + header + middle + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def refusal(path, content: bytes, **options) -> str:
    """Return the one line by which a file is refused."""
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot read the image") as caught:
        read_image(path, SMALL, **options)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"
DDS = b"DDS " + struct.pack("<7I", 124, 0x1007, 16, 16, 0, 0, 0) + b"\0" * 44 + struct.pack("<8I", 32, *[0] * 7)
FOREIGN = {
    "eps": EPS,
    "eps in dos binary": struct.pack("<IIIIIII", 0xC6D3D0C5, 30, len(EPS), 0, 0, 0, 0) + b"\0\0" + EPS,
    "dds": DDS + b"\0" * 20,
    "psd": b"8BPS\0\1" + b"\0" * 6 + struct.pack(">HIIHH", 3, 16, 16, 8, 3) + b"\0" * 900,
    "xpm": b'/* XPM */\nstatic char *x[] = {\n"1 1 1 1",\n"a c #ffffff",\n"a"\n};\n',
    "wmf": struct.pack("<IHhhhhHIH", 0x9AC6CDD7, 0, 0, 0, 20, 20, 72, 0, 0) + b"\1\0\x09\0" + b"\0" * 60,
    "fits": b"SIMPLE  =                    T" + b" " * 2850,
    "avif without pixels": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B\0\0\0\x10meta" + b"\0" * 300,
    "tga without its ending": encoded(kind="TGA"),
    "text": b"hello",
    "empty": b"",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_formats_are_refused_and_call_no_program(name, tmp_path, monkeypatch):
    def forbidden(*arguments, **options):
        raise AssertionError("a program was started")

    for where in ("subprocess.Popen", "os.system", "subprocess.check_call"):
        monkeypatch.setattr(where, forbidden)
    assert "AssertionError" not in refusal(tmp_path / "x.jpg", FOREIGN[name])


@pytest.mark.parametrize(
    "name, kind, options",
    [
        ("a.jpg", "PNG", {}),
        ("b.png", "JPEG", {"quality": 95}),
        ("c.jfif", "JPEG", {"quality": 95}),
        ("d.gif", "WEBP", {"lossless": True}),
        ("e.tga", "TGA", {}),
        ("f.ico", "ICO", {"sizes": [(24, 16)]}),
        ("g.jp2", "JPEG2000", {}),
        ("h.avif", "AVIF", {"quality": 95}),
        ("i.pnm", "PPM", {}),
        ("j.dib", "BMP", {}),
        ("k.tif", "TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_the_content_decides_the_format(name, kind, options, tmp_path):
    if kind in decoding.FEATURES and kind not in decoding._plugins():
        pytest.skip(f"this Pillow does not decode {kind}")
    (tmp_path / name).write_bytes(encoded(kind=kind, **options))
    assert np.abs(read_image(tmp_path / name, SMALL).astype(int) - (200, 30, 30)).max() <= 4


ODD_EXIF = {
    "text for a fraction": exif((0x11A, 2, b"72\0\0")),
    "text for a short": exif((0x128, 2, b"2\0\0\0")),
    "a long for a short": exif((0x128, 4, struct.pack("<I", 70000))),
    "a negative for a positive": exif((0x100, 9, struct.pack("<i", -5))),
    "a folder of tags far behind the end": exif((0x8769, 4, struct.pack("<I", 2**31))),
    "an offset far behind the end": exif((0x10F, 5, struct.pack("<I", 2**31))),
    "an unknown type": exif((0x131, 99, b"abcd")),
}


@pytest.mark.filterwarnings("ignore::jaxvision.image_decoding.ImageWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", ODD_EXIF)
def test_odd_exif_turns_the_picture_all_the_same(name, kind, tmp_path):
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 20:] = 255  # white at the right, so below once it is upright
    content = encoded(Image.fromarray(pixels), kind, exif=ODD_EXIF[name], lossless=True)
    (tmp_path / "odd.jpg").write_bytes(content)
    read = read_image(tmp_path / "odd.jpg", Preprocessing((40, 20), 3, (0.0,) * 3, (1.0,) * 3))
    assert read[:16].max() < 40 and read[24:].min() > 215


@pytest.mark.parametrize(
    "content", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", exif(orientation=9)]
)
@pytest.mark.filterwarnings("ignore::jaxvision.image_decoding.ImageWarning")
def test_broken_exif_leaves_the_picture_as_it_is(content, tmp_path):
    (tmp_path / "x.jpg").write_bytes(encoded(exif=content))
    assert read_image(tmp_path / "x.jpg", SMALL).shape == (8, 8, 3)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_is_turned_whatever_else_its_tags_hold(compression, tmp_path):
    image = Image.fromarray(np.repeat(np.array([0, 255], np.uint8), 20)[None].repeat(20, 0))
    broken = {274: 6, 34665: 2**31 - 1}  # the offset of the EXIF tags leads nowhere
    content = encoded(image, "TIFF", tiffinfo=broken, compression=compression)
    (tmp_path / "x.tif").write_bytes(content)
    read = read_image(tmp_path / "x.tif", Preprocessing((40, 20), 1, (0.0,), (1.0,)))
    assert (read[:20] == 0).all() and (read[20:] == 255).all()


SIXTEEN = {
    "gray": (png(16, 0, (2, 1), b"\0" + struct.pack(">2H", 51400, 257)), [[200] * 3, [1] * 3]),
    "gray with a transparent value": (
        png(16, 0, (2, 1), b"\0" + struct.pack(">2H", 1000, 51400), struct.pack(">H", 1000)),
        [[255] * 3, [200] * 3],
    ),
    "gray with alpha": (
        png(16, 4, (2, 1), b"\0" + struct.pack(">4H", 51400, 65535, 51400, 0)),
        [[200] * 3, [255] * 3],
    ),
    "color with alpha": (
        png(16, 6, (2, 1), b"\0" + struct.pack(">8H", 51400, 0, 0, 65535, 51400, 0, 0, 0)),
        [[200, 0, 0], [255] * 3],
    ),
    "color with a transparent value": (
        png(16, 2, (2, 1), b"\0" + struct.pack(">6H", 0x1234, 0, 0, 51400, 0, 0), struct.pack(">3H", 0x1234, 0, 0)),
        [[255] * 3, [200, 0, 0]],
    ),
    "4 bits with a transparent value": (png(4, 0, (2, 1), b"\0\x0f", b"\0\x0f"), [[0] * 3, [255] * 3]),
    "4 bits, black transparent": (png(4, 0, (2, 1), b"\0\x08", b"\0\x00"), [[255] * 3, [136] * 3]),
    "2 bits with a transparent value": (png(2, 0, (2, 1), b"\0\x20", b"\0\2"), [[0] * 3, [255] * 3]),
}


@pytest.mark.parametrize("name", SIXTEEN)
def test_bits_and_transparency(name, tmp_path):
    content, expected = SIXTEEN[name]
    (tmp_path / "x.png").write_bytes(content)
    read = read_image(tmp_path / "x.png", Preprocessing((1, 2), 3, (0.0,) * 3, (1.0,) * 3))
    assert read[0].tolist() == expected


def test_sixteen_and_twelve_bits_of_tiff(tmp_path):
    values = np.array([[0, 257 * 100, 65535]], np.uint16)
    preprocessing = Preprocessing((1, 3), 1, (0.0,), (1.0,))
    for tags, expected in (({}, [0, 100, 255]), ({262: 0}, [255, 155, 0])):
        Image.fromarray(values).save(tmp_path / "x.tif", tiffinfo=tags)
        if tags:  # Pillow writes its own value of this tag
            content = (tmp_path / "x.tif").read_bytes()
            one = struct.pack("<HHI", 262, 3, 1)
            (tmp_path / "x.tif").write_bytes(content.replace(one + b"\1\0", one + b"\0\0"))
        assert read_image(tmp_path / "x.tif", preprocessing)[0, :, 0].tolist() == expected


def lying_jpeg(width: int, height: int, *, scans: int = 0, **options) -> bytes:
    """Return a small JPEG that declares another size, and repeats its first scan."""
    content = bytearray(encoded(Image.new("RGB", (48, 48), (10, 200, 30)), **options))
    frame = max(content.find(b"\xff\xc2"), content.find(b"\xff\xc0"))
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    start = content.find(b"\xff\xda")
    return bytes(content[:-2]) + bytes(content[start:-2]) * scans + b"\xff\xd9"


BOMBS = {
    "jpeg": lying_jpeg(20000, 6000),
    "png": png(8, 2, (20000, 6000), b""),
    "bilevel png": png(1, 0, (60000, 60000), b""),
    "webp": encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True),
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 20000, 6000, 1, 24, 0, 0, 0, 0, 0, 0),
    "ppm": b"P6 20000 6000 255\n",
    "gif": b"GIF89a"
    + struct.pack("<HHBBB", 20000, 6000, 0, 0, 0)
    + b","
    + struct.pack("<HHHHBB", 0, 0, 20000, 6000, 0, 8),
    "tga": struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 20000, 6000, 24, 0),
}


@pytest.mark.parametrize("name", BOMBS)
def test_declared_pixels_are_limited(name, tmp_path):
    content, size = BOMBS[name], (20000, 6000)
    if name == "webp":  # a lossless one has its size in 14 bits each
        size = (16383, 16383)
        content = content[:21] + struct.pack("<I", 16382 | 16382 << 14 | 1 << 28)[:4] + content[25:]
    if name == "bilevel png":
        size = (60000, 60000)
    message = refusal(tmp_path / ("x.tga" if name == "tga" else "x.jpg"), content)
    if name in ("webp", "bilevel png"):  # beyond Pillow's own limit, twice ours, which it checks first
        assert "declares more than 200,000,000 pixels; at most 100,000,000 are read" in message
    else:
        assert f"declares {size[0]} x {size[1]} pixels, 120,000,000; at most 100,000,000 are read" in message
        assert "--max_image_pixels" in message


def test_an_icon_cannot_hold_a_larger_image_and_a_tiff_no_larger_tiles(tmp_path):
    inner = png(8, 2, (20000, 6000), b"")
    icon = b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner
    assert "declares 20000 x 6000" in refusal(tmp_path / "x.ico", icon)
    tags = {256: 16, 257: 16, 258: 8, 259: 5, 262: 1, 277: 1, 322: 20000, 323: 6000, 324: 8, 325: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    tiled = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    assert "declares 20000 x 6000" in refusal(tmp_path / "x.tif", tiled)


def test_the_limit_can_be_raised_and_lowered(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    assert "at most 100 are read" in refusal(path, encoded(kind="PNG"), max_pixels=100)
    assert read_image(path, SMALL, max_pixels=24 * 16).shape == (8, 8, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's, which is raised along
    assert read_image(path, SMALL, max_pixels=24 * 16).shape == (8, 8, 3)
    split = read_files([path] * 2, np.arange(2), SMALL, kind="multiclass", name="train", on_bad_image="error")
    assert len(split) == 2
    with pytest.raises(ValueError, match="at most 100 are read"):
        read_files([path], np.zeros(1), SMALL, kind="multiclass", name="x", on_bad_image="error", max_pixels=100)


def test_the_scans_of_a_jpeg_are_limited(tmp_path):
    for content, most in (
        (lying_jpeg(9000, 9000, scans=300, progressive=True), 24),
        (lying_jpeg(48, 48, scans=300, progressive=True), 100),
        (lying_jpeg(10000, 10000, scans=3, progressive=True), 20),
    ):
        assert f"more than {most} scans" in refusal(tmp_path / "x.jpg", content)
    (tmp_path / "x.jpg").write_bytes(lying_jpeg(48, 48, scans=2, progressive=True))
    assert read_image(tmp_path / "x.jpg", SMALL).shape == (8, 8, 3)
    content = bytearray(lying_jpeg(48, 48))  # a first scan of one component: not progressive, and yet many scans
    start = content.find(b"\xff\xda")
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(content[start + 14 : -2])
    many = bytes(content[:start]) + scan * 300 + b"\xff\xd9"
    assert "more than 100 scans" in refusal(tmp_path / "y.jpg", many)


def test_a_block_boundary_does_not_hide_a_scan(tmp_path):
    content = lying_jpeg(48, 48, scans=100, progressive=True)
    start = content.find(b"\xff\xda")
    comment = b"\xff\xfe" + struct.pack(">H", 60002) + b"\0" * 60000
    padding = comment * 17
    for shift in range(3):
        tail = (2**20 - len(padding) - 5 - shift) % 60000
        last = b"\xff\xfe" + struct.pack(">H", tail + 2) + b"\0" * tail
        refusal(tmp_path / "x.jpg", content[:start] + padding + last + content[start:])


@pytest.mark.parametrize(
    "error", [RuntimeError, NotImplementedError, RecursionError, MemoryError, KeyError, OverflowError]
)
def test_any_exception_of_a_decoder_is_that_of_its_file(error, tmp_path, monkeypatch):
    from PIL import PngImagePlugin

    def fail(self):
        raise error("inside\nthe decoder")

    good = tmp_path / "good.jpg"
    good.write_bytes(encoded())
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_prepare", fail)
    assert f"{error.__name__}: " in refusal(tmp_path / "bad.png", encoded(kind="PNG"))
    with pytest.warns(UserWarning, match="skipped 1 unreadable image"):
        split = read_files(
            [tmp_path / "bad.png", good], np.arange(2), SMALL, kind="multiclass", name="train", on_bad_image="skip"
        )
    assert split.names == [str(good)]


def test_warnings_name_the_file_in_every_thread(tmp_path, capfd):
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(png(8, 3, (4, 4), b"\0\0\0\0\0" * 4))
        content = encoded()
        if number % 2:  # an MPO index that cannot be read
            content = (
                content[:2] + b"\xff\xe2" + struct.pack(">H", 14) + b"MPF\0II*\0\xff\xff\xff\xff"[:12] + content[2:]
            )
        (tmp_path / f"{number}.jpg").write_bytes(content)
    files = [str(tmp_path / f"{number}.jpg") for number in range(8)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = [result for _, chunk in read_images(files, SMALL) for result in chunk]
    assert all(isinstance(result, np.ndarray) for result in results)
    texts = [str(warning.message) for warning in caught if issubclass(warning.category, ImageWarning)]
    assert sorted(text.split("'")[1] for text in texts) == files[1::2] and len(caught) == 4
    damaged = bytearray(encoded(Image.effect_noise((64, 64), 90), "TIFF", compression="tiff_lzw"))
    damaged[500:560] = b"\xff" * 60
    assert (
        "libtiff" in refusal(tmp_path / "x.tif", bytes(damaged)) or not decoding.decoder_messages._listen_to_libtiff()
    )
    assert capfd.readouterr().err == ""


def test_at_most_one_image_a_core_is_decoded_at_once(tmp_path, monkeypatch):
    (tmp_path / "x.jpg").write_bytes(encoded())
    running, most, lock = [0], [0], threading.Lock()
    decode = decoding._decode

    def counted(*arguments, **options):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        try:
            return decode(*arguments, **options)
        finally:
            with lock:
                running[0] -= 1

    monkeypatch.setattr(decoding, "_SLOTS", threading.BoundedSemaphore(2))
    monkeypatch.setattr(decoding, "_decode", counted)
    threads = [threading.Thread(target=read_image, args=(tmp_path / "x.jpg", SMALL)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 2


def test_pipes_and_devices_are_not_read(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", "/dev/zero"):
        with pytest.raises(ValueError, match="pipe or a device"):
            read_image(path, SMALL)
    with pytest.raises(OSError, match="cannot open the image"):
        read_image(tmp_path, SMALL)
