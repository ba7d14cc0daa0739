"""How `nvit` prunes, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from wb.core.architecture import Architecture
from wb.core.commands.option import Cli, listed
from wb.jobs.frame.config import SAMPLES, LearningRate, Seed

Method = Literal["nvit", "taylor", "magnitude", "random"]
BLOCK = 8  # channels: the runtime convolves blocks of 8 or 16, and takes as long for a part of one
METHODS: tuple[Method, ...] = get_args(Method)
REFITTED_ON = 1024  # training images at most; 512 do as well, 128 less well (measured on 10,000 images of clothes)


@dataclass(frozen=True)
class Rules:
    """What may go and how: `keep` names the kinds of axes that stay (`blocks` for whole sub-layers); sizes become
    multiples of `align` (the number of heads is free); `eta` is the weight of the cost.
    """

    keep: frozenset[str] = frozenset()
    align: int = 1
    eta: float = 1.0


class Settings(BaseModel):
    """How to prune, whatever the budget.

    `calibration` images of the training split are scored in mini-batches of `batch`; `momentum` is the weight of earlier
    rounds in the saliency; between rounds come `recovery` steps of training at `learning_rate`. `rotate` and `compensate` are
    `wb.compress.nvit.bases` and `wb.compress.nvit.compensate`; unless it is asked for, magnitudes are those without the bases,
    in which all channels are read by weights of about one length.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Annotated[Method, Field(description="What ranks the units.")] = "nvit"
    keep: Annotated[
        tuple[str, ...],
        Field(description="Axes not to touch: embed,heads,qk,v,mlp,…, or blocks (whole sub-layers)."),
        Cli(default="none", typed=str, parse=listed),
    ] = ()
    align: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="Make dimensions multiples of this."),
        Cli(default=f"1; {BLOCK} in networks with stages of convolutions"),
    ] = None
    eta: Annotated[float, Field(ge=0, le=10, description="Weight of the cost: saliency / cost^eta.")] = 1.0
    rounds: Annotated[int, Field(ge=1, description="Rounds of scoring and cutting; 1 is one-shot.")] = 10
    calibration: Annotated[
        int, Field(ge=1, description="Training images that units are judged on, in each round."), Cli(SAMPLES)
    ] = 640
    batch: Annotated[int, Field(ge=1, description="Images per mini-batch of the saliency.")] = 16
    momentum: Annotated[float, Field(ge=0, le=0.99, description="Weight of earlier rounds in the saliency.")] = 0.5
    recovery: Annotated[int, Field(ge=0, description="Training steps between rounds.")] = 0
    rotate: Annotated[
        bool,
        Field(
            description="First turn every softmax head into the bases that images give it, which is the same function; not by "
            "itself with --method magnitude."
        ),
    ] = True
    compensate: Annotated[
        bool, Field(description="Refit, without labels, what writes to the stream and the head after the last cuts.")
    ] = True
    learning_rate: Annotated[
        LearningRate, Field(description="Peak of the learning rate, in fine-tuning and recovery.")
    ] = 1e-3
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _as_they_are(cls, given: Any) -> Any:
        plain = isinstance(given, Mapping) and given.get("method") == "magnitude" and "rotate" not in given
        return {**given, "rotate": False} if plain else given

    def rules(self, architecture: Architecture) -> Rules:
        """What the selection in a network needs of it."""
        align = self.align or (BLOCK if architecture.has_maps else 1)
        return Rules(frozenset(self.keep), align, self.eta)
