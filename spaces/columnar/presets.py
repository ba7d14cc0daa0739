"""Presets: ready-made options of space `vit`.

The largest network of a `deit-*` preset is the published network of that name. A `revit-*` preset has a seed architecture,
ReViT of its width, from which a search can start (`--seed-architecture revit`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from wb.core.errors import BadOption
from wb.core.nearest import meant
from wb.core.records import ImageInput, TextInput
from wb.core.specs import Spec
from wb.spaces.columnar.decoder import Decoder
from wb.spaces.columnar.options import VitOptions, options_with
from wb.spaces.columnar.space import Vit
from wb.spaces.columnar.text import Text
from wb.spaces.operators import is_width

AUTO = "auto"  # the preset that suits the images


class Texts(Protocol):
    """The properties of a data set of texts that determine a space: vocabulary and lengths, and classes."""

    @property
    def text(self) -> TextInput: ...
    @property
    def classes(self) -> tuple[str, ...]: ...


class Images(Protocol):
    """The properties of a data set that determine a space: image size, normalisation and classes."""

    def specs(self) -> tuple[Spec, ...]: ...
    @property
    def mean(self) -> Sequence[float]: ...
    @property
    def std(self) -> Sequence[float]: ...
    @property
    def classes(self) -> tuple[str, ...]: ...


# From a single tiny block, which is too small even for digits, to a network that classifies small images well.
TINY = VitOptions(
    embed=(8, 16, 32, 64),
    depth=(1, 2, 3, 4),
    stem=("conv",),
    stem_width=(4, 8),  # a wider stem solves digits by itself
    pool="mean",
    grid=8,
    mixer=("none", "pool", "lmu", "cosformer", "sla", "softmax"),
    heads=(1, 2, 4, 8),
    qk=(8, 16),
    v=(8, 16),
    memory=(8, 16),
    mlp=(0, 1, 2),
)

# An ordinary vision transformer and smaller versions of it. The largest is the stock model (`wb.spaces.stock`).
PLAIN = VitOptions(
    embed=(16, 32, 48, 64),
    depth=(2, 3, 4, 5, 6),
    stem=("patch",),
    stem_width=(16,),
    pool="cls",
    grid=8,
    mixer=("none", "softmax"),
    heads=(1, 2, 3, 4),
    qk=(4, 8, 12, 16),
    v=(4, 8, 12, 16),
    mlp=(0, 0.5, 1, 2, 3, 4),
)

SMALL = VitOptions(
    embed=(32, 64, 96, 128),
    depth=(2, 3, 4, 5, 6),
    stem=("conv",),
    stem_width=(16, 32, 64),
    pool="mean",
    grid=14,
    mixer=("none", "pool", "lmu", "cosformer", "sla", "softmax"),
    heads=(1, 2, 4, 8),
    qk=(8, 16, 32),
    v=(8, 16, 32),
    memory=(16, 32),
    mlp=(0, 1, 2, 4),
)


def _deit(embed: tuple[int, ...], heads: tuple[int, ...]) -> VitOptions:
    """DeiT-like options: linear patches of 16, a class token, heads of at most 64 channels, at most twelve blocks."""
    return VitOptions(
        embed=embed,
        depth=(6, 8, 10, 12),
        stem=("patch",),
        stem_width=(16,),
        pool="cls",
        patch=16,
        mixer=("none", "lmu", "cosformer", "softmax"),
        heads=heads,
        qk=(16, 32, 64),
        v=(32, 64),
        memory=(32, 64),
        mlp=(0, 1, 2, 3, 4),
    )


def _revit(
    embed: tuple[int, ...], heads: tuple[int, ...], qk: tuple[int, ...], mlp: tuple[float, ...] = (0, 1, 2, 3, 4, 6)
) -> VitOptions:
    """Options around ReViT: for the widest embedding they contain ReViT's narrow and wide blocks, and slightly smaller ones.

    At 224x224 patches are 16 wide, as in the `deit-*` presets; smaller images get smaller patches.
    """
    return _deit(embed, heads).model_copy(update={"patch": 0, "grid": 14, "qk": qk, "mlp": mlp})


# Encoders of short texts. The usual network is the one that reached most of banking77 in a minute (docs/results.md); twice its
# width, or four blocks, were no better there, and a mean of 32 channels is 7 points worse than one of 128 for 0.7 of its latency.
ENCODER = VitOptions(
    embed=(64, 96, 128, 160),
    depth=(0, 1, 2),
    stem=("lookup",),
    stem_width=(16,),
    pool="mean",
    mixer=("none", "linear", "cosformer", "softmax"),
    heads=(1, 2, 4),
    qk=(8, 16, 32),
    v=(8, 16, 32),
    ffn=("mlp", "glu"),
    mlp=(0, 0.5, 1, 2),
)
# Decoders of short passages. The usual network is the one that recipe `prose` was tried on.
DECODER = VitOptions(  # type: ignore[call-arg]  # any width of a mixer may be given
    embed=(32, 64, 96, 128, 192),
    depth=(1, 2, 3, 4, 6),
    stem=("lookup",),
    stem_width=(16,),
    pool="mean",
    norm="rms",
    position="nowhere",
    mixer=("none", "linear", "rotary"),
    heads=(1, 2, 4),
    queries=(1, 2),
    qk=(8, 16),
    v=(16, 32),
    ffn=("glu",),
    mlp=(0, 1, 2, 2.75, 4),
)
DECODER_PRESETS: Mapping[str, VitOptions] = {"decoder": DECODER}
# For many or long texts: wider and deeper ones.
LARGE = ENCODER.model_copy(
    update={
        "embed": (64, 128, 192, 256, 384),
        "depth": (0, 1, 2, 4, 6),
        "heads": (1, 2, 4, 8, 16),
        "mlp": (0, 0.5, 1, 2, 4),
    }
)
TEXT_PRESETS: Mapping[str, VitOptions] = {"encoder": ENCODER, "encoder-large": LARGE}

PRESETS: Mapping[str, VitOptions] = {
    "tiny": TINY,
    "plain": PLAIN,
    "small": SMALL,
    "deit-tiny": _deit((96, 128, 160, 192), (1, 2, 3)),
    "deit-small": _deit((192, 256, 320, 384), (2, 4, 6)),
    "deit-base": _deit((384, 512, 640, 768), (4, 6, 8, 12)),
    "revit-tiny": _revit((128, 160, 192), (1, 2, 3, 4), (8, 16)),
    "revit-small": _revit((256, 320, 384), (2, 4, 6, 8), (8, 16, 24, 32, 40)),
    "revit-base": _revit((512, 640, 768), (4, 8, 12, 16), (24, 40, 64, 80)),
}


def preset(name: str) -> VitOptions:
    """The options of the preset called `name`.

    Raises:
        BadOption: there is no such preset.
    """
    if name not in PRESETS:
        raise BadOption(f"no preset {name!r}{meant(name, PRESETS)}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def vit_space(images: Images, name: str = AUTO, changes: Mapping[str, str] | None = None) -> Vit:
    """Space `vit` with the options of the preset `name`, for data like `images`.

    `changes` replaces fields, written as on the command line: `{"embed": "16,32", "pool": "cls"}`. Networks normalise their
    input by the mean and standard deviation of `images` per channel.

    Raises:
        BadOption: the preset or a field is unknown, or a value does not fit its field.
        BadData: no patch size fits the images.
    """
    name = "tiny" if name == AUTO else name
    options = options_of(preset(name), changes or {})
    return Vit(options, image_of(images), len(images.classes), images.classes, name)


def text_space(texts: Texts, name: str = AUTO, changes: Mapping[str, str] | None = None) -> Text:
    """Space `text` with the options of the preset `name`, for data like `texts`; `changes` as in `vit_space`.

    Raises:
        BadOption: the preset or a field is unknown, or a value does not fit its field.
    """
    name = "encoder" if name == AUTO else name
    if name not in TEXT_PRESETS:
        raise BadOption(
            f"space 'text' has no preset {name!r}{meant(name, TEXT_PRESETS)}; it has {', '.join(TEXT_PRESETS)}"
        )
    options = options_of(TEXT_PRESETS[name], changes or {})
    return Text(options, texts.text, len(texts.classes), texts.classes, name)


def decoder_space(texts: Texts, name: str = AUTO, changes: Mapping[str, str] | None = None) -> Decoder:
    """Space `decoder` with the options of the preset `name`, for data like `texts`; `changes` as in `vit_space`.

    Raises:
        BadOption: the preset or a field is unknown, or a value does not fit its field.
    """
    name = "decoder" if name == AUTO else name
    if name not in DECODER_PRESETS:
        raise BadOption(
            f"space 'decoder' has no preset {name!r}{meant(name, DECODER_PRESETS)}; it has {', '.join(DECODER_PRESETS)}"
        )
    return Decoder(options_of(DECODER_PRESETS[name], changes or {}), texts.text, 0, (), name)


def options_of(base: VitOptions, changes: Mapping[str, str]) -> VitOptions:
    """`base` with fields replaced, written as on the command line.

    Raises:
        BadOption: an unknown field, or a value that does not fit it.
    """
    parsed = {
        field: [part.strip() for part in value.split(",")]
        if isinstance(getattr(base, field, None), tuple) or is_width(field)
        else value
        for field, value in changes.items()
    }
    return options_with(base, parsed)


def image_of(images: Images) -> ImageInput:
    """The input of networks for `images`: their shape, and their mean and deviation per channel."""
    (spec,) = images.specs()
    channels, height, width = map(int, spec.example)
    return ImageInput(
        channels=channels,
        height=height,
        width=width,
        mean=tuple(round(float(value), 6) for value in images.mean),
        std=tuple(round(float(value), 6) for value in images.std),
    )
