"""The options of space `hybrid`: what a search may choose for each stage, and what is the same for all of its networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from wb.core.architecture import explain
from wb.core.errors import BadOption
from wb.core.layout import Layout
from wb.core.nearest import meant
from wb.core.records import Frozen, ImageInput
from wb.core.records.base import Activation
from wb.core.space import Option
from wb.spaces.columnar.options import MOST, Sizes
from wb.spaces.operators import MAP_FFNS, MERGE_KINDS, NONE, TAUGHT, from_cheap_to_dear

DEEPEST = 32  # blocks of a stage
SIDES = (0, 3, 5, 7)
Kinds = Annotated[tuple[str, ...], Field(min_length=1)]
Sides = Annotated[tuple[int, ...], Field(min_length=1)]
ORDERS: Mapping[str, tuple[object, ...]] = {
    "mixer": (NONE, *TAUGHT),
    "ffn": tuple(MAP_FFNS),
    "merge": tuple(MERGE_KINDS),
    "act": ("relu", *(name for name in get_args(Activation) if name != "relu")),
}


class StageOptions(Frozen):
    """What the blocks of one stage may be, all alike; every field lists its options from small to large.

    A stage is a map if its mixer computes on maps. Then its feed-forward is an `ffn`, `ratio` times as wide as the stream (half
    of that in blocks of two dense convolutions), `mid` is the side of the depthwise convolution inside it, and `se` the share of
    its hidden channels that squeeze and excitation has; 0 is none. Any other mixer makes it a stage of tokens: with heads of
    `channels`, as many as the fewest channels allow, and a two-layer perceptron of that ratio.
    """

    embed: Sizes
    depth: Annotated[tuple[Annotated[int, Field(ge=0, le=DEEPEST)], ...], Field(min_length=1)]
    merge: Kinds = ("dw3",)
    mixer: Kinds = ("depthwise",)
    kernel: Sides = (3,)
    ffn: Kinds = ("inverted",)
    ratio: Annotated[tuple[Annotated[float, Field(gt=0, le=16)], ...], Field(min_length=1)] = (2,)
    mid: Sides = (0,)
    se: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)] = (0,)
    act: Kinds = ("relu",)
    channels: Sizes = (16,)

    @field_validator("*")
    @classmethod
    def _in_order(cls, values: tuple[object, ...], field: ValidationInfo) -> tuple[object, ...]:
        """Names in the order in which they are known, numbers from small to large."""
        name = str(field.field_name)
        if name in ORDERS:
            return from_cheap_to_dear([str(value) for value in values], [str(value) for value in ORDERS[name]])
        numbers = [float(str(value)) for value in values]
        if numbers != sorted(set(numbers)):
            raise ValueError(f"{values} has to go from small to large, without repeats")
        wrong = [side for side in numbers if name in ("kernel", "mid") and side not in SIDES[name == "kernel" :]]
        if wrong:
            raise ValueError(f"a kernel cannot be {wrong[0]:g} wide; choose 3, 5 or 7" + (", or 0" * (name == "mid")))
        return values


class HybridOptions(Frozen):
    """The options of the space. `patch` 0 takes 2 for images up to 48 pixels, then what leaves at most 56 places a side."""

    stages: Annotated[tuple[StageOptions, ...], Field(min_length=1, max_length=6)]
    stem_width: Sizes
    patch: Annotated[int, Field(ge=0, le=MOST)] = 0

    @property
    def choices(self) -> dict[str, tuple[Option, ...]]:
        """Every choice of the space with its options, also where there is one: `stem_width`, `s0.embed`, …"""
        found: dict[str, tuple[Option, ...]] = {"stem_width": self.stem_width}
        for i, stage in enumerate(self.stages):
            found |= {
                f"s{i}.{name}": getattr(stage, name) for name in StageOptions.model_fields if i or name != "merge"
            }
        return found

    def replaced(self, changes: Mapping[str, str]) -> HybridOptions:
        """These options with some replaced, as the command line has them: `{"s1.embed": "32,64", "ratio": "1,2"}`.

        A field of a stage without the stage's name is changed in all stages.

        Raises:
            BadOption: an unknown field or a value that does not fit it.
        """
        whole = self.model_dump()
        own = [name for name in HybridOptions.model_fields if name != "stages"]
        of_stages = list(StageOptions.model_fields)
        names = [*own, *of_stages, *(f"s{i}.{name}" for i in range(len(self.stages)) for name in of_stages)]
        for name, text in changes.items():
            if name not in names:
                raise BadOption(
                    f"space 'hybrid' has no field {name!r}{meant(name, names)}; its fields are {', '.join(own)}, and those of a "
                    f"stage, for example s0.embed: {', '.join(of_stages)}"
                )
            values = [part.strip() for part in text.split(",")]
            place, _, field = name.rpartition(".")
            if name in own:
                whole[name] = values if isinstance(whole[name], tuple) else text
            for i, stage in enumerate(whole["stages"]):
                if field in stage and place in ("", f"s{i}") and name not in own:
                    stage[field] = values
        try:
            return HybridOptions.model_validate(whole)
        except ValidationError as error:
            raise BadOption(f"space 'hybrid' cannot take {dict(changes)}: {explain(error)}") from error


def fitting_patch(image: ImageInput) -> int:
    """How many pixels a side become one place of the first stage: 2 for small images, then what leaves at most 56 places."""
    side = max(image.height, image.width)
    return 2 if side <= 48 else next((patch for patch in (2, 4, 8, 16) if side <= 56 * patch), 32)


def step(options: HybridOptions, image: ImageInput) -> int:
    """How many pixels a side become one place of the last stage; all multiples of it can be halved as often as stages need."""
    return (options.patch or fitting_patch(image)) * int(2 ** (len(options.stages) - 1))


def fitted(options: HybridOptions, image: ImageInput) -> HybridOptions | None:
    """The options with those merges that can halve images of that size; None where a stage is left without any."""
    patch = options.patch or fitting_patch(image)
    if image.height % patch or image.width % patch:
        return None
    layout, stages = Layout((image.height // patch, image.width // patch)), [options.stages[0]]
    for stage in options.stages[1:]:
        able = tuple(kind for kind in stage.merge if MERGE_KINDS[kind].lacks(layout) is None)
        if min(layout.shape) < 2 or not able:
            return None
        stages.append(stage.model_copy(update={"merge": able}))
        layout = MERGE_KINDS[able[0]].sample().layout(layout)
    return options.model_copy(update={"stages": tuple(stages)})
