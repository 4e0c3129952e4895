"""Convert decoded images to 8 bits in grayscale or RGB: bit depth, transparency, color spaces."""

from __future__ import annotations

import numpy as np

BAND = 2**20  # pixels that are blended at once, so that transparency takes no further copies of a large image
FEWER_BITS = {"L;2": 85, "L;4": 17}  # of a PNG: Pillow scales the pixels by this, but not the transparent value
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of TIFF


def transparent_value(image):
    """Return the transparent value of an opened PNG as Pillow's pixels have it; to be called before they are loaded.

    None if there is no such value, or if the pixels have an alpha channel.
    """
    value, mode = image.info.get("transparency"), str(image.tile[0].args) if image.tile else ""
    if isinstance(value, tuple) and mode.endswith(";16B"):  # Pillow keeps the high byte of each sample
        return tuple(each >> 8 for each in value)
    return value * FEWER_BITS[mode] if isinstance(value, int) and mode in FEWER_BITS else value


def with_eight_bits(image):
    """Return an image of 8 bits, with its transparency; 16-bit grayscale is scaled, not clipped.

    Raises ValueError for numbers that do not define black and white.
    """
    from PIL import Image

    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise ValueError(
            f"its pixels have mode {image.mode!r}, which does not define black and white; expected 8 or 16 bits"
        )
    if not image.mode.startswith("I"):
        return image
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    step = 16 if tags.get(BITS_PER_SAMPLE) == (12,) else 257  # 4095 and 65535 are white
    pixels = (values // step).clip(0, 255).astype(np.uint8)
    gray = Image.fromarray(255 - pixels if tags.get(PHOTOMETRIC) == 0 else pixels)
    value = image.info.get("transparency")
    if isinstance(value, int):
        gray.putalpha(Image.fromarray(np.where(values == value, 0, 255).astype(np.uint8)))
    return gray


def to_mode(image, mode: str):
    """Convert an image of 8 bits to "L" or "RGB", with transparency on white."""
    if image.has_transparency_data:
        image = _on_white(image)
    return image if image.mode == mode else image.convert(mode)


def _on_white(image):
    """Return an image on a white background, in RGB."""
    from PIL import Image

    opaque = Image.new("RGB", image.size)
    rows = max(BAND // image.width, 1)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        band = image.crop(box).convert("RGBA")
        opaque.paste(Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert("RGB"), box)
    return opaque
