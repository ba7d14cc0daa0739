"""Space `vit`: columnar vision transformers whose blocks differ freely in mixer and in every width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import get_args

from wb.core.architecture import Architecture
from wb.core.errors import BadData, BadOption
from wb.core.layout import Layout
from wb.core.records import ImageInput, Mixer, Stem
from wb.core.space import Choices
from wb.spaces.columnar.columns import Columnar
from wb.spaces.columnar.options import VitOptions, smallest_patch
from wb.spaces.columnar.revit import seed_architecture
from wb.spaces.operators import FFN_KINDS, OFFERED, STEM_KINDS, squared


class Vit(Columnar):
    """The architectures that `options` allow for images of one shape.

    Raises:
        BadData: no patch size fits the images.
        BadOption: options that contradict each other, or exceed the bounds of an architecture.
    """

    name = "vit"

    def __init__(
        self, options: VitOptions, image: ImageInput, classes: int, labels: Sequence[str] = (), preset: str = "custom"
    ) -> None:
        super().__init__(options, image, classes, labels, preset)
        self.image = image
        self.patch = options.patch or smallest_patch(image, options.grid)
        for stem in options.stem:
            field = STEM_KINDS[stem].model_fields.get("patch")
            possible = () if field is None else get_args(field.annotation)
            if possible and self.patch not in possible:
                raise BadOption(
                    f"a {STEM_KINDS[stem].title} cannot have patch={self.patch}; choose {', '.join(map(str, possible[:-1]))} or "
                    f"{possible[-1]}, or stem=patch"
                )
        if image.height % self.patch or image.width % self.patch:
            raise BadData(
                f"images of {image.height}x{image.width} cannot be cut into patches of {self.patch}; choose --image-size or "
                "another preset (see `wb spaces`)"
            )
        for kinds, offered, names in (("mixers", OFFERED, options.mixer), ("feed-forwards", FFN_KINDS, options.ffn)):
            needing = [name for name in names if name in offered and not offered[name].supports.prefix]
            if options.pool == "cls" and needing:
                raise BadOption(
                    f"{kinds} {', '.join(needing)} need the grid, where a class token has no place; say pool=mean"
                )
        self._check_tops("fewer or smaller options")

    def stem(self, kind: str, widths: Choices) -> Stem:
        fields = {"patch": self.patch, **widths}
        record = STEM_KINDS[kind]
        found: Stem = record.model_validate({n: value for n, value in fields.items() if n in record.model_fields})
        return found

    def mixer(self, kind: str, sizes: Choices, embed: int) -> Mixer | None:
        found = super().mixer(kind, sizes, embed)
        return found and squared(found, self._layout)

    @cached_property
    def _layout(self) -> Layout:
        return Layout((self.image.height // self.patch, self.image.width // self.patch))

    @property
    def seeds(self) -> Mapping[str, Callable[[], Architecture]]:
        """`largest`, `smallest`, and `revit`, which raises `BadOption` where the preset has none."""
        return {"revit": partial(seed_architecture, self), "largest": self.largest, "smallest": self.smallest}

    def usual(self) -> Architecture:
        """The largest network with softmax attention."""
        return self.largest("softmax")
