"""The configuration of early exits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from wb.compress.exits.gates import LADDER
from wb.core.commands.option import Cli, structured
from wb.core.errors import BadOption
from wb.jobs.frame.config import JobConfig, LearningRate, ModelData, Seed
from wb.jobs.frame.output import config_of
from wb.training.recipes.recipe import RecipeOptions


class ExitsConfig(JobConfig):
    """Everything that determines early exits, apart from the model and the machine.

    `epochs` are those in which the trunk is tuned with its exits; with none it stays as it is.
    """

    data: ModelData = "digits"
    after: Annotated[
        tuple[str, ...],
        Field(description="A block after which the network can be left: s0.b1."),
        Cli(default="at most three, evenly spaced", typed=list[str]),
    ] = ()
    beta: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | None,
        Field(
            description="What the whole network's latency is worth, in probability of the right class: with 0 nothing leaves "
            "early; of a model with exits the gates alone are trained anew."
        ),
        Cli(default="the cheapest gates that keep validation accuracy"),
    ] = None
    epochs: Annotated[
        int,
        Field(ge=0, description="Epochs in which the trunk is tuned together with its exits; 0: it stays as it is."),
    ] = 0
    learning_rate: LearningRate = 1e-3
    training: RecipeOptions = RecipeOptions()
    seed: Seed = 0

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks that are wanted; several may stand in one text."""
        return tuple(part.strip() for text in self.after for part in text.split(",") if part.strip())

    @property
    def finetune(self) -> int:
        """The epochs, as `wb.jobs.frame.tune` calls them."""
        return self.epochs

    @property
    def betas(self) -> tuple[float, ...]:
        """Those that gates are trained for, in ascending order."""
        return tuple(sorted({*LADDER, *(() if self.beta is None else (self.beta,))}))


def configured(given: Mapping[str, Any], *, exiting: bool) -> ExitsConfig:
    """The options by the names of fields, as a configuration; `exiting` says that the model has exits already.

    Raises:
        BadOption: a value that does not fit, or an option that would do nothing.
    """
    config = config_of(ExitsConfig, "exits", structured(ExitsConfig, given))
    if exiting and (config.after or config.epochs):
        option = "--after" if config.after else "--epochs"
        raise BadOption(
            f"{option} is for a model without exits, and this one has some, whose gates alone are trained anew; leave it out, or "
            "begin with the model that the exits were added to"
        )
    config.training.check_once("exits learn from the last one, each batch once")
    tuning = [name for name in ("learning_rate", *RecipeOptions.model_fields) if given.get(name) is not None]
    if tuning and not config.epochs:
        raise BadOption(f"--{tuning[0].replace('_', '-')} is of tuning the trunk with its exits; add --epochs")
    return config
