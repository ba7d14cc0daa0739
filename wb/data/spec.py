"""Specifications of data sets: `digits`, `imagefolder:PATH`, `imagefolder,background=black:PATH`, `idx:PATH`, `cifar10:PATH`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from PIL import ImageColor

from wb.core.errors import BadOption
from wb.core.files import absolute

FOLDERS = "imagefolder"  # the only form with a background, because its images may be transparent
WHITE = "white"
_NAMED = {"#ffffff": WHITE, "#000000": "black"}
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}|[a-zA-Z]+")


@dataclass(frozen=True)
class Spec:
    """A parsed specification: the form, the folder of the files (empty for digits), the background of transparent images."""

    form: str
    place: str = ""
    background: str = WHITE

    @staticmethod
    def parse(text: str) -> Spec:
        """Parses `text`, without checking that the form or the folder exists.

        Raises:
            BadOption: a background that is no colour, or of a form that has none.
        """
        head, _, place = text.partition(":")
        form, comma, option = head.partition(",")
        if not comma:
            return Spec(form, place)
        name, _, value = option.partition("=")
        if form != FOLDERS or name != "background":
            raise BadOption(f"data {text!r}: {head!r} is no form; only {FOLDERS},background=COLOUR:PATH has an option")
        return Spec(form, place, colour(value))

    def text(self) -> str:
        """The text that `parse` reads; a white background is left out."""
        option = "" if self.background == WHITE else f",background={self.background}"
        return f"{self.form}{option}" + (f":{self.place}" if self.place else "")


def colour(text: str) -> str:
    """`text` in its canonical form: white, black, or #rrggbb.

    Raises:
        BadOption: no colour.
    """
    try:
        if _COLOUR.fullmatch(text) is None:
            raise ValueError
        code = "#{:02x}{:02x}{:02x}".format(*ImageColor.getrgb(text))
    except ValueError:
        raise BadOption(f"background {text!r} is no colour; give white, black, or one like #c0ffee") from None
    return _NAMED.get(code, code)


def levels(text: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a colour. Raises as `colour` does."""
    red, green, blue, *_ = ImageColor.getrgb(colour(text))
    return red, green, blue


def with_background(data: str | None, background: str | None) -> str | None:
    """`data` with the background that `--background` asks for; unchanged without one.

    Raises:
        BadOption: no colour, or data that are no folder of images.
    """
    if background is None:
        return data
    chosen = colour(background)
    if data is None or Spec.parse(data).form != FOLDERS:
        raise BadOption(f"--background is for transparent images in a folder; give it with --data {FOLDERS}:PATH")
    return replace(Spec.parse(data), background=chosen).text()


def resolved(data: str) -> str:
    """`data` with an absolute path, so that it means the same from another folder.

    Raises:
        BadOption: a path that cannot be made absolute, or a background that is no colour.
    """
    spec = Spec.parse(data)
    return replace(spec, place=str(absolute(spec.place))).text() if spec.place else data
