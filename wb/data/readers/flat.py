"""Conversion of a decoded image to 8-bit grey or RGB: 16 bits are scaled, transparent parts are put on a background."""

from __future__ import annotations

import numpy as np
from PIL import Image

Colour = tuple[int, int, int]


def is_grey(image: Image.Image) -> bool:
    """Whether the image is grey according to its header; a palette counts as colour."""
    return image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")


def flattened(image: Image.Image, background: Colour) -> tuple[Image.Image, bool]:
    """`image` in mode L or RGB, and whether it had transparent parts, which are put on `background`.

    Raises:
        ValueError: the pixels are floating-point numbers or integers beyond 16 bits, whose range is unknown.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known; save 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    mode = "L" if is_grey(image) else "RGB"
    if not image.has_transparency_data:
        return image.convert(mode), False
    layers = image.convert("RGBA")
    if layers.getchannel("A").getextrema()[0] == 255:
        return layers.convert(mode), False
    ground = Image.new("RGBA", layers.size, (*background, 255))
    on_grey = mode == "L" and len(set(background)) == 1
    return Image.alpha_composite(ground, layers).convert("L" if on_grey else "RGB"), True


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scales a 16-bit grey image to 8 bits: dividing by 257 maps 0..65535 to 0..255. Pillow would clip or truncate instead."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("pixels beyond 16 bits, whose range is not known; save 8 or 16 bits")
    grey = Image.fromarray(np.rint(values / 257).astype(np.uint8))
    key = image.info.get("transparency")  # the single grey level that is transparent
    if not isinstance(key, int):
        return grey
    return Image.merge("LA", (grey, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))))
