"""The configuration of `wb sweep aspect`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from wb.core.commands.option import Cli, listed, structured
from wb.core.errors import BadOption
from wb.jobs.frame.config import PASSES, SCRATCH, DataConfig, DeviceName, Seed, Threads
from wb.jobs.frame.output import config_of
from wb.training.recipes.recipe import RecipeOptions

if TYPE_CHECKING:
    from wb.data import Dataset

Count = Annotated[int, Field(ge=1, le=65536)]


class AspectConfig(DataConfig):
    """Which shapes are compared on which data, and how they are trained.

    A shape is a number of blocks, `heads` heads divided among them, and hidden units. All shapes are of one stream and
    one kind of block: those of the usual network of `preset`.
    """

    heads: Annotated[Count, Field(description="Heads in all blocks together, whatever the depth.")] = 12
    depths: Annotated[
        tuple[Count, ...],
        Field(description="Numbers of blocks that divide the heads: 6,3,1. The most is what others are compared with."),
        Cli(default="6,3,1", typed=str, parse=listed),
    ] = (6, 3, 1)
    preset: Annotated[
        str,
        Field(
            description="Blocks and stream are those of the usual network of this preset, of space vit, text or decoder; "
            "`wb spaces` lists them. auto: by the data."
        ),
    ] = "auto"
    embed: Annotated[
        Count | None, Field(description="Channels of the residual stream."), Cli(default="the usual network's")
    ] = None
    hidden: Annotated[
        Count | None,
        Field(description="Hidden units of a block; shapes of equal size have as many as that takes."),
        Cli(default="the usual network's"),
    ] = None
    lengths: Annotated[
        tuple[Count, ...],
        Field(description="Of texts: numbers of tokens that are timed."),
        Cli(default="the usual and the longest", typed=str, parse=listed),
    ] = ()
    seeds: Annotated[int, Field(ge=1, le=100, description="Trainings of each shape, from --seed on.")] = 3
    epochs: Annotated[
        Count | None,
        Field(description="Passes over the training examples."),
        Cli(
            default=f"{SCRATCH}; on " + "; on ".join(f"{noun} {scratch}" for noun, (scratch, _) in PASSES.items()),
        ),
    ] = None
    learning_rate: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | None,
        Field(description="Peak of the learning rate."),
        Cli(default="as the recipe says"),
    ] = None
    batch: Annotated[Count | None, Field(description="Examples per step."), Cli(default="as the recipe says")] = None
    training: RecipeOptions = RecipeOptions()
    device: DeviceName = "cpu"
    threads: Threads = 1
    seed: Seed = 0

    def passes(self, data: Dataset) -> int:
        """The epochs, as given or as usual for such data."""
        return self.epochs or PASSES.get(data.train.noun, (SCRATCH, SCRATCH))[0]

    @model_validator(mode="after")
    def _divided(self) -> Self:
        odd = [depth for depth in self.depths if self.heads % depth]
        if odd:
            fitting = ",".join(str(n) for n in range(self.heads, 0, -1) if self.heads % n == 0)
            raise BadOption(
                f"--depths {','.join(map(str, self.depths))}: {self.heads} heads cannot be divided among {odd[0]} blocks; "
                f"choose among {fitting}, or other --heads"
            )
        if len(set(self.depths)) < 2:
            named = f"{','.join(map(str, self.depths))} is one depth" if self.depths else "names no depth"
            raise BadOption(f"--depths {named}, and a sweep compares several; give two, as 6,1")
        return self


def configured(given: Mapping[str, Any]) -> AspectConfig:
    """The options by the names of fields, as a configuration. Raises `BadOption` for a value that does not fit."""
    return config_of(AspectConfig, "sweep aspect", structured(AspectConfig, given))
