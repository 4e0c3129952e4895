"""Decode one image file: formats chosen by content, limits on its size, orientation by its pixels."""

from __future__ import annotations

import errno
import functools
import importlib
import os
import stat
import struct
import threading
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxvision import decoder_messages
from jaxvision.config import Config
from jaxvision.interfaces import Preprocessing
from jaxvision.machine import num_cores
from jaxvision.resizing import Box, fit, kept_box

FORMATS = {  # what is decoded: Pillow's plugin and the endings of file names. No other decoder is ever called
    "JPEG": ("JpegImagePlugin", ".jpg .jpeg .jpe .jfif .mpo"),
    "PNG": ("PngImagePlugin", ".png .apng"),
    "WEBP": ("WebPImagePlugin", ".webp"),
    "BMP": ("BmpImagePlugin", ".bmp .dib"),
    "GIF": ("GifImagePlugin", ".gif"),  # the first frame
    "TIFF": ("TiffImagePlugin", ".tif .tiff"),
    "PPM": ("PpmImagePlugin", ".ppm .pgm .pbm .pnm"),
    "ICO": ("IcoImagePlugin", ".ico"),
    "JPEG2000": ("Jpeg2KImagePlugin", ".jp2 .j2k .jpc .jpf .jpx .j2c"),
    "AVIF": ("AvifImagePlugin", ".avif"),
    "TGA": ("TgaImagePlugin", ".tga .icb .vda .vst"),
}
OTHERS = {  # suffixes of pictures that are not read, and how to make images of them
    **dict.fromkeys((".heic", ".heif", ".hif"), "convert them to JPEG"),
    **dict.fromkeys((".avif", ".jxl", ".jp2", ".psd", ".ai", ".eps", ".svg"), "convert them to JPEG or PNG"),
    **dict.fromkeys((".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"), "develop them to JPEG"),
    **dict.fromkeys((".pdf", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"), "extract images from them"),
}
FEATURES = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}  # that Pillow may have been built without
BY_NAME = ("TGA",)  # formats without a signature, tried only for files with one of their endings
ENDINGS_BY_NAME = {ending for each in BY_NAME for ending in FORMATS[each][1].split()}  # all of four characters

MAX_PIXELS = Config.max_image_pixels  # 300 MB in RGB, at most one such image a core; nearly all cameras have fewer
MAX_AT_ONCE = 2**25  # bytes; larger files are read piece by piece
MAX_SCANS = 100  # of a JPEG, Skia's limit; encoders write about 10
MAX_SCANNED = 20  # scans of an image of the largest size; fewer pixels may have more scans: about 4 s of one core
TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
TURNS |= {6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}  # by the value of the orientation tag
JPEGS = ("JPEG", "MPO")  # Pillow's names of what its JPEG decoder reads
ORIENTATION = 0x112  # tag of EXIF and TIFF
TILE_SIZE = (322, 323)  # tags of TIFF: width and height
SYSTEM_ERRORS = (errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT)  # not the file's

_SLOTS = threading.BoundedSemaphore(num_cores())  # so that memory is bounded by the cores times the largest image


class ImageWarning(UserWarning):
    """Warning of a decoder about a file that it could read; the message names the file."""


def read_image(
    file: str | Path,
    preprocessing: Preprocessing,
    *,
    part: Callable[[int, int], Box] | None = None,
    is_scaled: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Decode one file to uint8 [H, W, C]: upright, transparency on white, resized and cropped.

    Args:
        file: an image file in one of `FORMATS`, whatever its name.
        preprocessing: size, channels, crop and interpolation.
        part: `part(width, height)` returns the box of the upright image to keep, instead of the preprocessing's crop.
        is_scaled: let a JPEG decoder scale down, at least to twice the size: several times faster for large images,
            and slightly different pixels; for training.
        max_pixels: the largest number of pixels that a file may declare.

    Raises:
        ValueError: the file is not an image, is damaged, or exceeds a limit. Any failure of a decoder is such an error.
        FileNotFoundError: it does not exist.
        OSError: it cannot be opened.
    """
    name = os.fspath(file)
    try:
        stream = _opened(name)
    except FileNotFoundError:
        raise FileNotFoundError(f"no image file {name!r}") from None
    except OSError as error:
        raise OSError(f"cannot open the image {name!r}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"cannot read the image {name!r}: {error}") from None
    with stream, _SLOTS:
        plugins = _plugins()
        with decoder_messages.collected() as messages:
            try:
                image = open_image(stream, name, plugins, max_pixels=max_pixels)
                pixels = _decode(image, preprocessing, part=part, is_scaled=is_scaled)
            except Exception as error:
                if isinstance(error, OSError) and error.errno in SYSTEM_ERRORS:
                    raise OSError(f"cannot read the image {name!r}: {error.strerror}") from None
                raise ValueError(f"cannot read the image {name!r}: {_reason(error, messages, name)}") from None
    if messages:
        warnings.warn(ImageWarning(f"the image {name!r} was read, with a warning: {messages[0]}"), stacklevel=2)
    return pixels


def _opened(name: str) -> BinaryIO:
    """Open a file to be decoded; read it at once unless it is large, as each system call makes other threads wait.

    Raises ValueError if it is not a file, OSError if it cannot be opened or read.
    """
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer must not block
    try:
        status = os.fstat(descriptor)
        if stat.S_IFMT(status.st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
            raise ValueError("it is a pipe or a device")  # which may never end
        if status.st_size > MAX_AT_ONCE:
            return open(os.dup(descriptor), "rb")
        content = os.read(descriptor, MAX_AT_ONCE)
        while len(content) < status.st_size and (more := os.read(descriptor, MAX_AT_ONCE)):
            content += more  # a network's file system may return less
        return BytesIO(content)
    finally:
        os.close(descriptor)


def _reason(error: Exception, messages: list[str], name: str) -> str:
    """Return one line that states why a file cannot be decoded, with the first message of its decoder."""
    from PIL import Image

    if isinstance(error, Image.UnidentifiedImageError):
        suffix = os.path.splitext(name)[1]
        repair = OTHERS.get(suffix.lower(), "").replace("them", "it")
        names = ", ".join(FORMATS)
        reason = f"a {suffix} file is not read; {repair}" if repair else f"not an image that Pillow can read as {names}"
    else:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if not isinstance(error, ValueError | OSError | SyntaxError):
            reason = f"{type(error).__name__}: {reason}"
    return f"{reason} ({messages[0]})" if messages else reason


def decodable() -> tuple[str, ...]:
    """Return the names of the formats that the installed Pillow decodes."""
    return (*_plugins(), *BY_NAME)


@functools.cache
def _plugins() -> tuple[str, ...]:
    """Import the plugins of `FORMATS` and return the names of those that the installed Pillow can decode."""
    from PIL import Image, features

    for name, (plugin, _) in FORMATS.items():
        if name not in FEATURES or features.check(FEATURES[name]):
            importlib.import_module(f"PIL.{plugin}")
    return tuple(name for name in FORMATS if name in Image.OPEN and name not in BY_NAME)


def open_image(stream: BinaryIO, name: str, plugins: tuple[str, ...] | None = None, *, max_pixels: int = MAX_PIXELS):
    """Return a Pillow image that is not decoded yet. Raises an exception if it is none or exceeds a limit."""
    from PIL import Image

    formats = plugins or _plugins()
    if name[-4:].lower() in ENDINGS_BY_NAME:
        formats += BY_NAME
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow's own limit must not be the lower one
    _check_icon(stream, max_pixels)
    try:
        image: Any = Image.open(stream, formats=formats)
    except Image.DecompressionBombError:  # Pillow's limit is twice ours
        raise ValueError(_too_large(f"more than {2 * max_pixels:,} pixels", max_pixels)) from None
    for width, height in _declared_sizes(image):
        if width * height > max_pixels:
            raise ValueError(_too_large(f"{width} x {height} pixels, {width * height:,}", max_pixels))
    if image.format in JPEGS:
        _check_scans(image, stream, max_pixels)
    return image


def _too_large(size: str, max_pixels: int) -> str:
    return (
        f"it declares {size}; at most {max_pixels:,} are read: scale it down, or raise the limit with "
        "--max_image_pixels"
    )


def _check_icon(stream: BinaryIO, max_pixels: int) -> None:
    """Raise ValueError if an icon holds a larger image than it states; Pillow decodes icons as it opens them."""
    if stream.read(4) == b"\0\0\1\0":
        from PIL.IcoImagePlugin import IcoFile

        stream.seek(0)
        width, height = IcoFile(stream).frame(0).size
        if width * height > max_pixels:
            raise ValueError(_too_large(f"{width} x {height} pixels, {width * height:,}", max_pixels))
    stream.seek(0)


def _declared_sizes(image: Any) -> list[tuple[int, int]]:
    """Return the (width, height) of an image, and of what its decoder would hold besides."""
    sizes = [image.size]
    if image.format == "TIFF" and TILE_SIZE[0] in image.tag_v2 and TILE_SIZE[1] in image.tag_v2:
        sizes.append(tuple(image.tag_v2[tag] for tag in TILE_SIZE))
    return sizes


def _check_scans(image: Any, stream: BinaryIO, max_pixels: int) -> None:
    """Raise ValueError if a JPEG has so many scans that decoding it takes many times what its size would.

    Only a file that is progressive, or whose first scan lacks a component, can have more than one.
    """
    start = stream.tell()  # behind the header of the first scan
    header = b"\xff\xda" + struct.pack(">HB", 6 + 2 * image.layers, image.layers)  # of a scan of all components
    stream.seek(max(start - 8 - 2 * image.layers, 0))
    is_one_scan = stream.read(len(header)) == header
    stream.seek(start)
    if image.info.get("progressive") or not is_one_scan:
        most = min(MAX_SCANS, MAX_SCANNED * max_pixels // max(image.width * image.height, 1))
        count, previous = 1, b""
        while count <= most and (block := stream.read(2**20)):
            values = np.frombuffer(previous + block, np.uint8)  # in compressed data, 0xff never precedes 0xda
            count += np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == 0xDA))
            previous = block[-1:]
        if count > most:
            raise ValueError(f"it has more than {most} scans, each of {image.width} x {image.height} pixels")
        stream.seek(start)


def _orientation(image: Any) -> int:
    """Return the orientation of an image in 1..8, 1 where its metadata are damaged or state none."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # metadata of cameras and editors are damaged in many ways, which is no fault of the pixels
        return 1
    return value if isinstance(value, int) and value in TURNS else 1


def upright_size(image: Any) -> tuple[int, int]:
    """Return the (width, height) of an opened image as it is seen.

    Only a JPEG has its orientation before it is decoded, a TIFF applies its own, and others hardly ever have one.
    """
    return image.size[::-1] if image.format in JPEGS and _orientation(image) > 4 else image.size


def _load(image: Any) -> None:
    """Decode an image. A TIFF is turned here by its tag, as Pillow does, but without reading the rest of its EXIF."""
    from PIL import Image

    def turn() -> None:
        method = TURNS.get(image.tag_v2.get(ORIENTATION, 1))
        if method:
            image.im = image.im.transpose(Image.Transpose[method])
        image._size = image.im.size

    if image.format != "TIFF":
        image.load()
        return
    image.load_end = turn
    try:
        image.load()
    finally:
        del image.load_end  # a cycle of references, which would keep the pixels


def _decode(
    image: Any, preprocessing: Preprocessing, *, part: Callable[[int, int], Box] | None, is_scaled: bool
) -> np.ndarray:
    """Decode an opened image to the preprocessing's format."""
    from jaxvision import pixel_modes

    is_jpeg, is_old = image.format in JPEGS, preprocessing.resize == "crop_first"
    if not is_jpeg:
        image.info["transparency"] = pixel_modes.transparent_value(image)
        if image.info["transparency"] is None:
            del image.info["transparency"]
        _load(image)
    orientation = 1 if image.format == "TIFF" else _orientation(image)
    size = image.size[::-1] if orientation > 4 else image.size
    box = part(*size) if part else None
    if is_jpeg and (is_scaled or is_old) and preprocessing.interpolation != "nearest":
        if box is None and not is_old and preprocessing.crop != "pad":
            box = kept_box(size, preprocessing)
        width, mode = image.width, "RGB" if preprocessing.channels == 3 else "L"
        drafted = image.draft(mode, _draft_size(image.size, preprocessing, box))
        if drafted and box:  # the decoder scales by 1, 1/2, 1/4 or 1/8
            left, top, right, bottom = (side * drafted[1][2] / width for side in box)
            box = left, top, right, bottom
    return fit(_turned(pixel_modes.with_eight_bits(image), orientation), preprocessing, box=box)


def from_pillow(image: Any, preprocessing: Preprocessing) -> np.ndarray:
    """Convert a PIL image to uint8 [H, W, C] as the file that holds it: upright by its EXIF, resized and cropped.

    Raises ValueError for pixels that do not define black and white.
    """
    from jaxvision import pixel_modes

    image.load()  # which turns a TIFF
    orientation = 1 if image.format == "TIFF" else _orientation(image)
    return fit(_turned(pixel_modes.with_eight_bits(image), orientation), preprocessing)


def _turned(image: Any, orientation: int) -> Any:
    from PIL import Image

    return image if orientation == 1 else image.transpose(Image.Transpose[TURNS[orientation]])


def _draft_size(size: tuple[int, int], preprocessing: Preprocessing, box: Box | None) -> tuple[int, int]:
    """Return the smallest (width, height) to which a JPEG decoder may scale down before resampling."""
    fraction = preprocessing.crop if isinstance(preprocessing.crop, float | int) else 1.0
    kept = min(size) * fraction if box is None else min(box[2] - box[0], box[3] - box[1])
    scale = 2 * max(preprocessing.size) / kept  # twice the output size, so that the final resampling still averages
    return (round(size[0] * scale) + 1, round(size[1] * scale) + 1)
