"""The configuration of a search from a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from wb.core.commands.option import Cli, listed, structured
from wb.core.errors import BadOption
from wb.jobs.frame.config import SAMPLES, JobConfig, LearningRate, Seed
from wb.jobs.frame.output import config_of
from wb.search.trained.budgets import parse_points
from wb.spaces.columnar.presets import AUTO
from wb.spaces.operators import OFFERED
from wb.training.recipes.recipe import RecipeOptions

HALF = "latency=0.5x"  # where neither budgets nor a front are given


class TrainedConfig(JobConfig):
    """Everything that determines a search from a trained model, apart from the model and the machine."""

    budget: Annotated[
        tuple[str, ...],
        Field(description="latency, macs, params, size or energy of each network: latency=0.5x,0.3x are two networks."),
        Cli(default=HALF, typed=list[str]),
    ] = ()
    front: Annotated[
        Annotated[int, Field(ge=2, le=100)] | None,
        Field(description="So many networks, down to --budget, or to the least latency that there is."),
        Cli(default="one for each budget"),
    ] = None
    calibration: Annotated[
        int,
        Field(ge=16, description="Training images that alternatives are fitted to; half as many more score them."),
        Cli(SAMPLES),
    ] = 1024
    alternatives: Annotated[
        Annotated[int, Field(ge=3)] | None,
        Field(description="Score at most so many alternatives of each sub-layer, those that fit best for their work."),
        Cli(default="all"),
    ] = None
    distil: Annotated[
        int, Field(ge=0, description="Steps of training for each alternative, towards what its sub-layer gave.")
    ] = 0
    mixers: Annotated[
        tuple[str, ...],
        Field(description="Other mixers to try in the place of mixers: names, or auto for all that take less work."),
        Cli(default="none", typed=str, parse=listed),
    ] = ()
    align: Annotated[int, Field(ge=1, description="Make numbers of hidden units multiples of this.")] = 1
    finetune: Annotated[int, Field(ge=0, description="Epochs of fine-tuning for each network.")] = 20
    learning_rate: LearningRate = 1e-3
    training: RecipeOptions = RecipeOptions()
    seed: Seed = 0

    @model_validator(mode="after")
    def _has_points(self) -> TrainedConfig:
        points = parse_points(self.texts)
        if self.front is not None and (len(points) > 1 or len(points[0]) > 1):
            raise BadOption(
                "--front goes down to one budget on one metric; give for example --front 12 --budget macs=0.1x"
            )
        return self

    @field_validator("mixers", mode="before")
    @classmethod
    def _split(cls, mixers: object) -> object:
        return listed(mixers) if isinstance(mixers, str) else mixers

    @field_validator("mixers")
    @classmethod
    def _known(cls, mixers: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in mixers if name not in (AUTO, *OFFERED)]
        if unknown:
            raise BadOption(
                f"--mixers {unknown[0]} is no mixer; there are {', '.join(OFFERED)}, and {AUTO} for some of them"
            )
        return tuple(dict.fromkeys(mixers))

    @property
    def texts(self) -> tuple[str, ...]:
        """The budgets, as they are given."""
        return self.budget or (HALF,)


def configured(given: Mapping[str, Any]) -> TrainedConfig:
    """The options of `wb search --from` by the names of fields, as a configuration.

    Raises:
        BadOption: an option of searches with a supernet, or a value that does not fit.
    """
    whole = structured(TrainedConfig, given)
    for name in whole:
        if name not in TrainedConfig.model_fields:
            option = f"--{'set' if name == 'changes' else name.replace('_', '-')}"
            instead = "; --finetune says how long networks are trained" if name == "epochs" else ""
            raise BadOption(
                f"{option} is of searches with a supernet, and --from needs none; leave one of the two out{instead}"
            )
    return config_of(TrainedConfig, "search", whole)
