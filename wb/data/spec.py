"""Specifications of data sets: `digits`, `imagefolder:PATH`, `imagefolder,background=black:PATH`,
`imagefolder,colours=grey:PATH`, `idx:PATH`, `cifar10:PATH`,
`npz:FILE`, `npz,values=features:FILE`, `hf:PLACE`, `hf,config=plain_text,label=fine_label:PLACE`, `csv:train.csv,test.csv`,
`csv,text=text,label=category,tokenizer=words:train.csv`, `csv,truncate=yes:FILES`, `jsonl:FILES`, `listops`, `lm`, `lm:FILE`,
`lm,tokenizer=bpe,length=256:train.txt,test.txt`, `lm,between=<|endoftext|>:FILE`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import ImageColor

from wb.core.errors import BadOption
from wb.core.system.files import absolute

FOLDERS = "imagefolder"
ARRAYS = "npz"
HUB = "hf"  # a data set of Hugging Face's library: a folder, or a name on its hub
COLOURS, GREY = "colours", "grey"  # the option, and what colours may be turned into
CSV, JSONL = "csv", "jsonl"  # tables of texts with labels
LISTOPS = "listops"  # texts that are generated
LM = "lm"  # plain text, whose tokens are to be foreseen; embedded where no file is named
EMBEDDED = ("digits", LISTOPS)  # data that need no files
TABLES = (CSV, JSONL)
TRUNCATE, YES = "truncate", "yes"  # the option of texts whose beginning alone is read, and its value
OPTIONS = {
    FOLDERS: ("background", COLOURS),
    "cifar10": (COLOURS,),
    ARRAYS: (COLOURS, "values"),
    HUB: ("background", COLOURS, "config", "image", "label"),
    **dict.fromkeys(TABLES, ("text", "label", "tokenizer", "length", TRUNCATE)),
    LISTOPS: (TRUNCATE,),
    LM: ("tokenizer", "length", "between", TRUNCATE),
}  # images of others are never transparent
WHITE = "white"
FEATURES = "features"  # what values of arrays may be said to be, if they are no images
TRAINED = ("bpe", "words", "characters", "bytes")  # tokenizers that are made of the texts
COLUMNS = {"text_column": "text", "label_column": "label", "tokenizer": "tokenizer"}  # fields of configurations
_NAMED = {"#ffffff": WHITE, "#000000": "black"}
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}|[a-zA-Z]+")


@dataclass(frozen=True)
class Spec:
    """A parsed specification: the form, the place of the files (empty for digits), and what some forms may be told.

    `background` is that of transparent images. `choices` are the configuration and the columns of a data set of the hub, by
    name, what the values of arrays are, or that colours become grey, as far as they are given.
    """

    form: str
    place: str = ""
    background: str = WHITE
    choices: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def parse(text: str) -> Spec:
        """Parses `text`, without checking that the form or the place exists.

        Raises:
            BadOption: a background that is no colour, or an option or value that the form does not have.
        """
        head, _, place = text.partition(":")
        form, *given = head.split(",")
        found: dict[str, str] = {}
        for option in given:
            name, _, value = option.partition("=")
            if name not in OPTIONS.get(form, ()) or not value or name in found:
                raise BadOption(
                    f"data {text!r}: {option!r} is no option of {form!r}; {FOLDERS},background=COLOUR:PATH, "
                    f"{FOLDERS},{COLOURS}={GREY}:PATH, {ARRAYS},values={FEATURES}:FILE, "
                    f"{HUB},config=…,image=COLUMN,label=COLUMN:PLACE, "
                    f"{CSV},text=COLUMN,label=COLUMN,tokenizer=…:FILES and "
                    f"{LM},tokenizer=…,length=…,between=…:FILES have some"
                )
            if name == COLOURS and (value != GREY or "values" in found):
                raise BadOption(
                    f"data {text!r}: {option} is not known; {form},{COLOURS}={GREY}:… turns images in colour into grey ones"
                )
            if name == "values" and value != FEATURES:
                raise BadOption(
                    f"data {text!r}: values={value} is not known; {ARRAYS},values={FEATURES}:FILE keeps numbers of any range, "
                    f"and {ARRAYS}:FILE reads images"
                )
            if name == TRUNCATE and value != YES:
                raise BadOption(
                    f"data {text!r}: {option} is not known; {form},{TRUNCATE}={YES} reads the beginning alone of texts that are "
                    "longer than a network reads"
                )
            found[name] = value
        background = colour(found.pop("background", WHITE))
        return Spec(form, place, background, tuple(sorted(found.items())))

    def text(self) -> str:
        """The text that `parse` reads; a white background is left out."""
        background = () if self.background == WHITE else (("background", self.background),)
        options = "".join(f",{name}={value}" for name, value in (*background, *self.choices))
        return f"{self.form}{options}" + (f":{self.place}" if self.place else "")

    @property
    def features(self) -> bool:
        """Whether values are numbers of any range, and no images."""
        return ("values", FEATURES) in self.choices

    @property
    def places(self) -> tuple[str, ...]:
        """The places of its files: of texts several, with commas between them."""
        return tuple(self.place.split(",")) if self.form in (*TABLES, LM) else (self.place,)

    @property
    def grey(self) -> bool:
        """Whether images in colour become grey."""
        return (COLOURS, GREY) in self.choices

    @property
    def in_grey(self) -> str:
        """The text of the same with images in grey."""
        return replace(self, choices=tuple(sorted({*self.choices, (COLOURS, GREY)}))).text()

    @property
    def truncates(self) -> bool:
        """Whether of texts that are longer than a network reads the beginning is read; else such texts are refused."""
        return (TRUNCATE, YES) in self.choices

    @property
    def on_the_hub(self) -> bool:
        """Whether the place is a name on the hub, as `ylecun/mnist`, and no folder of this machine."""
        return self.form == HUB and _NAME.fullmatch(self.place) is not None and not Path(self.place).exists()


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
    if data is None or "background" not in OPTIONS.get(Spec.parse(data).form, ()):
        raise BadOption(f"--background is for transparent images in a folder; give it with --data {FOLDERS}:PATH")
    return replace(Spec.parse(data), background=chosen).text()


def resolved(data: str) -> str:
    """`data` with an absolute path, so that it means the same from another folder.

    Raises:
        BadOption: a path that cannot be made absolute, or a background that is no colour.
    """
    spec = Spec.parse(data)
    if not (spec.place or spec.choices) or spec.on_the_hub:
        return data
    places = ",".join(str(absolute(place)) for place in spec.places if place)
    choices = tuple((n, str(absolute(v)) if n == "tokenizer" and v not in TRAINED else v) for n, v in spec.choices)
    return replace(spec, place=places, choices=choices).text()


def with_truncation(data: str) -> str:
    """`data` of which the beginnings alone of texts are read that are longer than a network reads.

    Raises:
        BadOption: data that are no texts, or passages of one text, of which none is too long.
    """
    spec = Spec.parse(data)
    if TRUNCATE not in OPTIONS.get(spec.form, ()):
        raise BadOption(
            f"--{TRUNCATE} is for texts, and {data} has none; leave it out, or name texts with --data {CSV}:train.csv,test.csv"
        )
    if spec.form == LM and "between" not in dict(spec.choices):
        raise BadOption(
            f"--{TRUNCATE} is for texts, and {data} is one text in passages, none of which is too long; leave it out, or say "
            f"what stands between several texts: {LM},between=MARK:FILES"
        )
    return replace(spec, choices=tuple(sorted({**dict(spec.choices), TRUNCATE: YES}.items()))).text()


def with_columns(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, options by field, with `text_column`, `label_column`, `tokenizer` and `truncate` as choices of its `data`.

    `truncate` stays as it is where there are no `data` yet.

    Raises:
        BadOption: data that are no tables, or no texts.
    """
    if given.get(TRUNCATE) and given.get("data") is not None:
        given = {**given, TRUNCATE: False, "data": with_truncation(str(given["data"]))}
    asked = {name: given[field] for field, name in COLUMNS.items() if given.get(field) is not None}
    rest = {name: value for name, value in given.items() if name not in COLUMNS}
    if not asked:
        return rest
    data = given.get("data")
    spec = None if data is None else Spec.parse(str(data))
    if spec is None or not asked.keys() <= set(OPTIONS.get(spec.form, ())) or spec.form not in (*TABLES, LM):
        option = next(f"--{field.replace('_', '-')}" for field in COLUMNS if given.get(field) is not None)
        raise BadOption(
            f"{option} is for tables of texts; give it with --data {CSV}:train.csv,test.csv, or --tokenizer with {LM}:FILE"
        )
    for name, value in asked.items():
        if any(sign in str(value) for sign in ",:="):
            raise BadOption(
                f"{value!r} has a comma, a colon or an equals sign, which no {name} may have here; rename it"
            )
    choices = {**dict(spec.choices), **{name: str(value) for name, value in asked.items()}}
    return {**rest, "data": resolved(replace(spec, choices=tuple(sorted(choices.items()))).text())}
