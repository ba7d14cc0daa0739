"""What a model file says of its early exits. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from wb.core.architecture import Architecture, explain
from wb.core.errors import BadArtefact, BadOption
from wb.core.measures.readings import Reading
from wb.core.records import Frozen
from wb.core.records.wirings import path_of
from wb.core.stage import Stage

KEY = "wb.exits"  # in the metadata of model files and graphs
MOST = 64


class Exits(Frozen):
    """Where a network may be left: `after` these blocks, in order of execution.

    `beta` is what the whole network's latency was worth to the gates, in probability of the right class; None where they are
    the cheapest that kept the accuracy on validation images. `costs` are the latencies of leaving at each exit and, the last,
    of none, gates included; they are empty where they were not measured.
    """

    after: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST)]
    beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = 0.0
    costs: tuple[Reading, ...] = ()

    @field_validator("after")
    @classmethod
    def _each_once(cls, after: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(after)) < len(after):
            raise ValueError("a block has one exit at most")
        return after

    @property
    def dial(self) -> str:
        """What the gates were chosen by, in words."""
        return "accuracy kept" if self.beta is None else f"beta {self.beta:g}"

    @property
    def names(self) -> tuple[str, ...]:
        """The exits by name, and `end` for the network's own head."""
        return (*self.after, "end")

    @property
    def shares(self) -> tuple[float, ...]:
        """The costs as shares of the last one's."""
        return tuple(cost.value / self.costs[-1].value for cost in self.costs)


def read_exits(metadata: Mapping[str, str], what: str) -> Exits | None:
    """The record in the metadata of a file called `what`; None if it has no exits.

    Raises:
        BadArtefact: it is damaged.
    """
    text = metadata.get(KEY)
    if text is None:
        return None
    try:
        return Exits.model_validate_json(text)
    except ValidationError as error:
        raise BadArtefact(f"the early exits in {what} are damaged: {explain(error)}; make them again") from error


def places(architecture: Architecture) -> tuple[str, ...]:
    """The blocks after which a network can be left.

    All but the last, those that are switched off, and those of a path ensemble behind which nothing is in its sum yet.
    """
    return tuple(name for name, stage, block in architecture.blocks() if not block.off and _leaves(name, stage))[:-1]


def _leaves(name: str, stage: Stage) -> bool:
    """Whether anything leaves a stage after the block of that name."""
    last = path_of(int(name.partition(".b")[2]), "ffn")
    return stage.wiring.leaves([path for path in stage.paths if path <= last])


def chosen(architecture: Architecture, wanted: Sequence[str], most: int = 3) -> tuple[str, ...]:
    """The blocks with exits: those `wanted`, else at most `most`, evenly spaced among all where there can be some.

    Raises:
        BadOption: no block of that name, or no place for an exit.
    """
    possible = places(architecture)
    if not possible:
        raise BadOption("the network has a single block, after which its own head stands; early exits need two blocks")
    unknown = [name for name in wanted if name not in possible]
    if unknown:
        raise BadOption(f"no exit can stand after {', '.join(unknown)}; there are {', '.join(possible)}")
    if wanted:
        return tuple(name for name in possible if name in wanted)
    count = min(most, len(possible))
    return tuple(
        dict.fromkeys(possible[(number * (len(possible) + 1)) // (count + 1) - 1] for number in range(1, count + 1))
    )
