"""The space that a name and a preset mean, for images of one shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from wb.core.errors import BadOption
from wb.core.nearest import meant
from wb.core.specs import IDS
from wb.spaces.base import NetworkSpace
from wb.spaces.columnar import presets
from wb.spaces.columnar.presets import AUTO, Images, Texts, decoder_space, image_of, text_space, vit_space
from wb.spaces.hybrid import presets as hybrid_presets
from wb.spaces.hybrid.space import Hybrid

SpaceName = Literal["auto", "vit", "hybrid", "text", "decoder"]


class Data(Images, Texts, Protocol):
    """What determines a space, of images or of texts, and what they are for (`wb.tasks`)."""

    @property
    def task(self) -> str: ...


_IMAGES = ("vit", "hybrid")
PHOTOGRAPH = 24  # pixels a side, from which on `auto` is `hybrid`


def space_for(
    images: Data, name: str = AUTO, preset: str = AUTO, changes: Mapping[str, str] | None = None
) -> NetworkSpace:
    """The space called `name` with the options of `preset`, of which `changes` replaces some, for data like `images`.

    `auto` is `hybrid` for images of 24 pixels a side and more, unless the preset is one of `vit`; its preset then follows
    from their size.

    Raises:
        BadOption: the preset or a field is unknown, or a value does not fit its field.
        BadData: the images cannot be cut or halved as the space needs.
    """
    texts = images.specs()[0].name == IDS
    foreseen = texts and images.task == "next"
    has, fitting = ("passages", ("decoder",)) if foreseen else ("texts", ("text",)) if texts else ("images", _IMAGES)
    if name not in (AUTO, *fitting):
        raise BadOption(
            f"space {name!r} is not for {has}, which the data are; say --space {' or '.join(fitting)}, or leave it out"
        )
    if foreseen:
        return decoder_space(images, preset, changes)
    if texts:
        return text_space(images, preset, changes)
    image = image_of(images)
    if name == AUTO:
        small = min(image.height, image.width) < PHOTOGRAPH
        name = "vit" if preset in presets.PRESETS or (preset == AUTO and small) else "hybrid"
    if name == "vit":
        return vit_space(images, preset, changes)
    known = hybrid_presets.PRESETS
    chosen = hybrid_presets.default_for(image) if preset == AUTO else preset
    if chosen not in known:
        raise BadOption(
            f"space 'hybrid' has no preset {chosen!r}{meant(chosen, [*known, *presets.PRESETS])}; it has "
            f"{', '.join(known)}, and space 'vit' "
            f"{', '.join(presets.PRESETS)}"
        )
    options = known[chosen].replaced(changes or {})
    return Hybrid(options, image, len(images.classes), images.classes, chosen)
