"""Fine-tuning within a job, and readings written into a model's history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from wb.core.architecture import Architecture
from wb.core.measures.readings import Readings
from wb.data import Dataset
from wb.models.counting import count_parameters
from wb.models.model import Model, load, save
from wb.models.passes.base import apply
from wb.training.recipes.choose import recipe_for
from wb.training.recipes.recipe import Recipe, RecipeOptions
from wb.training.train import Finetune


class Tuning(Protocol):
    """A configuration with fine-tuning."""

    @property
    def training(self) -> RecipeOptions:
        """What is asked of the recipe."""
        ...

    @property
    def finetune(self) -> int:
        """Epochs."""
        ...

    @property
    def learning_rate(self) -> float | None:
        """The peak, None for what the recipe says."""
        ...

    def tuned_for(self, architecture: Architecture) -> Tuning:
        """The same, with the settings that depend on the network."""
        ...


def tuning(config: Tuning, network: Architecture | float, data: Dataset) -> Recipe:
    """How a network, or one of so many parameters, is fine-tuned."""
    if isinstance(network, Architecture):
        config, parameters, convolutions = config.tuned_for(network), count_parameters(network).value, network.has_maps
    else:
        parameters, convolutions = network, False
    return recipe_for(
        config.training,
        parameters,
        data,
        config.finetune,
        finetune=True,
        learning_rate=config.learning_rate,
        convolutions=convolutions,
    )


def recipes(config: Tuning, network: Architecture, data: Dataset | None) -> dict[str, str]:
    """What the record and the page say of the fine-tuning, if there is any."""
    return {"fine-tuning": tuning(config, network, data).text} if config.finetune and data is not None else {}


def tuned(tune: Finetune, model: Model, work: Path, name: str, began: Callable[[], None]) -> Model:
    """`model`, fine-tuned; training continues from the last checkpoint in `work`, and a finished file `name` is read back.

    `began` is called if there is anything to train.
    """
    path = work / f"{name}.safetensors"
    if not path.exists():
        began()
        save(apply(replace(tune, checkpoint=work / f"{name}.checkpoint"), model), path, force=True)
    return load(path)


def signed(model: Model, readings: Readings, step: int = -1) -> Model:
    """`model` with readings written into one step of its history."""
    steps = list(model.history)
    steps[step] = steps[step].model_copy(update={"readings": readings})
    return replace(model, history=tuple(steps))
