"""The configuration of `wb prune depgraph`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from wb.core.commands.option import Cli
from wb.jobs.frame.config import SAMPLES, Data, DataConfig, DeviceName, Seed, Threads
from wb.training.recipes.recipe import RecipeOptions


class DepgraphConfig(DataConfig):
    """Everything that determines the pruning of a module, apart from the module, how its images are prepared, and the machine.

    `keep` has names of layers whose outputs stay; `cost` is what saliency is divided by, the budget's metric by default.
    """

    budget: Annotated[
        tuple[str, ...],
        Field(description="macs=0.5x, params=1M, or latency=0.7x; a share of the module's, or absolute."),
        Cli(typed=list[str]),
    ]
    weights: Annotated[
        Path | None, Field(description="State dict to load (.safetensors or .pt)."), Cli(default="the module's own")
    ] = None
    data: Data = "digits"
    calib: Annotated[
        int, Field(ge=1, description="Training images that the saliency sees, each round."), Cli(SAMPLES)
    ] = 512
    batch: Annotated[int, Field(ge=1, description="Images per mini-batch of the saliency.")] = 16
    rounds: Annotated[int, Field(ge=1, description="Rounds in which the budget is approached.")] = 5
    round_to: Annotated[int, Field(ge=1, description="Make numbers of channels multiples of this.")] = 1
    cost: Annotated[
        str | None,
        Field(description="What saliency is divided by: macs, params or none."),
        Cli(default="the budget's"),
    ] = None
    keep: Annotated[
        tuple[str, ...],
        Field(description="A layer that keeps its outputs; may be repeated."),
        Cli(default="none", typed=list[str]),
    ] = ()
    finetune: Annotated[int, Field(ge=0, description="Epochs of fine-tuning afterwards.")] = 6
    learning_rate: Annotated[float, Field(ge=0, description="Peak of the learning rate, in fine-tuning.")] = 1e-3
    training: RecipeOptions = RecipeOptions()
    distill: Annotated[bool, Field(description="Fine-tune with the dense module as teacher.")] = True
    device: DeviceName = "cpu"
    threads: Threads = 1
    seed: Seed = 0

    @model_validator(mode="after")
    def _once(self) -> Self:
        self.training.check_once("what a module of yours drops is its own affair")
        return self
