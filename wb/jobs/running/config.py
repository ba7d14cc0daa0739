"""How `wb run` runs a network."""

from __future__ import annotations

from typing import Annotated

from pydantic import ByteSize, Field

from wb.core.commands.option import Cli
from wb.core.records import Frozen
from wb.data.spec import colour
from wb.jobs.frame.config import Truncate
from wb.scale.line.places import Places


class SharedConfig(Frozen):
    """Which processes compute what of a network."""

    pipeline: Annotated[
        int,
        Field(ge=1, description="Stages, each a process with some of the blocks, which hands batches on to the next."),
    ] = 1
    tensor: Annotated[
        int,
        Field(ge=1, description="Processes that divide the heads and hidden units of a stage among them."),
    ] = 1
    resident: Annotated[
        ByteSize | None,
        Field(
            description="Most bytes of weights that a process has at a time, 500MB; others are read when they are needed."
        ),
        Cli(typed=str, default="all of its part"),
    ] = None

    @property
    def places(self) -> Places:
        """The processes."""
        return Places(self.pipeline, self.tensor)

    @property
    def shares(self) -> bool:
        """Whether anything was asked for."""
        return self.places.count > 1 or self.resident is not None


class RunConfig(SharedConfig):
    """Which processes compute what of a network, and what it is run on; `data` is None where that is said otherwise."""

    batch: Annotated[int, Field(ge=1, le=4096, description="Examples at a time.")] = 8
    data: Annotated[
        str | None,
        Field(description="Data whose test split it is run on, named as everywhere (`wb data`)."),
        Cli(default="what is given, or the lines of the standard input"),
    ] = None
    by_index: Annotated[
        bool, Field(description="Take the classes of the data in their order, though they are named otherwise.")
    ] = False
    truncate: Truncate = False
    top: Annotated[int, Field(ge=1, description="Classes to show of each example, the most probable first.")] = 3
    background: Annotated[
        str | None,
        Field(description="What transparent pictures are laid on: white, black or #rrggbb."),
        Cli(default="that of the data it was trained with, else white", parse=colour),
    ] = None
