"""The recipes of a search: of the supernet, and of the finalists."""

from __future__ import annotations

from collections.abc import Mapping

from wb.core.architecture import Architecture
from wb.data import Dataset
from wb.models.counting import count_parameters
from wb.search.beginning.config import SearchConfig
from wb.search.supernet import WARM_UP, ElasticSpace
from wb.training.recipes.choose import recipe_for
from wb.training.recipes.recipe import Recipe

FINETUNE_RATE = 2e-3  # high, because a sub-network shared its weights with all others and has far to go
START_RATE = 1e-3  # of a supernet whose weights are trained already


def supernet_recipe(config: SearchConfig, space: ElasticSpace, data: Dataset) -> Recipe:
    """How the supernet is trained: as its largest network would be, but that it runs once over each batch."""
    largest = space.largest()
    parameters = count_parameters(largest).value
    recipe = recipe_for(
        config.training,
        parameters,
        data,
        config.epochs,
        finetune=config.start is not None,
        learning_rate=None if config.start is None else START_RATE,
        convolutions=largest.has_maps,
    )
    return recipe.model_copy(update={"rdrop": 0.0})


def alone(config: SearchConfig) -> float:
    """The share of the steps in which the supernet's largest network trains alone: none where it is trained already."""
    return WARM_UP if config.start is None else 0.0


def tuning_recipe(
    config: SearchConfig, space: ElasticSpace, data: Dataset, epochs: int, network: Architecture | None = None
) -> Recipe:
    """How a `network` is trained alone; without one, how candidates are: all as the smallest, so that they compare."""
    parameters, maps = count_parameters(network or space.smallest()).value, space.largest().has_maps
    return recipe_for(
        config.training,
        parameters,
        data,
        epochs,
        finetune=True,
        learning_rate=None if maps else FINETUNE_RATE,  # Muon's own is as high
        convolutions=maps,
    )


def told_recipes(recipes: Mapping[int, Recipe]) -> str:
    """How finalists are trained, in words: once where all are trained alike, else for each group with their numbers."""
    alike: dict[Recipe, list[int]] = {}
    for number, recipe in recipes.items():
        alike.setdefault(recipe.model_copy(update={"why": ""}), []).append(number)
    if len(alike) == 1:
        return next(iter(recipes.values())).text
    named = [
        recipe.model_copy(update={"why": f"for {', '.join(map(str, numbers))}"}) for recipe, numbers in alike.items()
    ]
    return "; ".join(recipe.text for recipe in named)
