"""What the recipe is worth: a small convolutional network and space `vit`, by old and new recipe, at equal CPU seconds.

The old recipe of the convolutional network is what anyone would try first (flips, shifts, AdamW, one cycle); that of `vit` is
recipe `plain`. The new one is what `auto` chooses. Epochs are as many as some timed steps say that fit into the time.

    python benchmarks/recipe.py imagefolder:PATH/animals --seconds 60
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
from convnets import convnet
from tables import Table, begin, parser_of, told
from torch import nn

from wb.data import Dataset, load
from wb.models.network import build
from wb.spaces.columnar.presets import vit_space
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.recipes.choose import LONG, recipe_for
from wb.training.recipes.recipe import RecipeOptions
from wb.training.train import fit_module, score

CPU = torch.device("cpu")
PROBE = 640  # images of the timed steps
TRIED_FIRST = {"flip": "on", "batch": 64, "label_smoothing": 0.0}


class Result(NamedTuple):
    """One training: epochs, CPU seconds, and the shares of validation and test images that are right."""

    epochs: int
    seconds: float
    validation: float
    test: float


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("data", help="as for --data of wb train")
    parser.add_argument("--seconds", type=float, default=60.0, help="of CPU time, for each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1, help="trainings at the same time, each on one thread")
    parser.add_argument("--preset", default="tiny", help="of space vit")
    parser.add_argument("--recipe", nargs="*", default=(), help="other recipes to compare, by name")
    return parser


def networks(data: Dataset, preset: str) -> dict[str, Callable[[int], nn.Module]]:
    """Makers of fresh networks, by name; each takes a seed."""

    def vit(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build(vit_space(data, preset).largest("softmax"))
            network.reset()
        return network

    return {
        "convnet": lambda seed: convnet(data.channels, len(data.classes), seed),
        f"vit {preset}": vit,
    }


def recipes(network: str, parameters: int, data: Dataset, more: list[str]) -> dict[str, Callable[[int], Recipe]]:
    """Recipes by name, for a number of epochs."""

    def by(name: str) -> Callable[[int], Recipe]:
        options = RecipeOptions.model_validate({"recipe": name})
        return lambda epochs: recipe_for(options, parameters, data, epochs, convolutions=network == "convnet")

    def old(epochs: int) -> Recipe:
        return Recipe(epochs=epochs, **(TRIED_FIRST if network == "convnet" else {}))

    return {"old": old, "new": by("auto"), **{name: by(name) for name in more}}


def pace(make: Callable[[int], nn.Module], recipe: Callable[[int], Recipe], data: Dataset) -> float:
    """CPU seconds of an epoch, from some steps after others for warming up."""
    few = replace(data, train=data.train.take(np.linspace(0, len(data.train) - 1, PROBE).astype(int)))
    for _ in range(2):
        module, start = make(0), time.process_time()
        fit_module(module, few, recipe(LONG).model_copy(update={"epochs": 1}), task=CLASSES)
    return (time.process_time() - start) * len(data.train) / len(few.train)


def trained(module: nn.Module, recipe: Recipe, data: Dataset, seed: int) -> Result:
    """One training, and its readings."""
    start = time.process_time()
    fit_module(module, data, recipe, task=CLASSES, seed=seed)
    took = time.process_time() - start
    validation, test = (score(module, split, CLASSES, CPU).value for split in (data.validation, data.test))
    return Result(recipe.epochs, took, validation, test)


def one(options: argparse.Namespace, name: str, kind: str, seed: int) -> tuple[Result, str]:
    """One training by the names of its network and recipe, and the recipe in words."""
    torch.set_num_threads(1)
    data = load(options.data)
    make = networks(data, options.preset)[name]
    parameters = sum(weight.numel() for weight in make(0).parameters())
    recipe = recipes(name, parameters, data, list(options.recipe))[kind]
    chosen = recipe(max(1, round(options.seconds / pace(make, recipe, data))))
    found = trained(make(seed), chosen, data, seed)
    told(f"{name}, {kind}, seed {seed}: {found}")
    return found, chosen.text


def main() -> None:
    options, out = begin(arguments())
    data = load(options.data)
    title = (
        f"{data.name}, {len(data.train):,} images, {options.seconds:g} CPU s for each training, {options.seeds} seeds"
    )
    table = Table(title, ("network", "recipe", "epochs", "CPU s", "validation %", "test %"), ("recipe",))
    pairs = [(name, kind) for name in networks(data, options.preset) for kind in ("old", "new", *options.recipe)]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        # seed by seed, so that whatever else the machine does meets all alike
        tasks = {
            (*pair, seed): pool.submit(one, options, *pair, seed) for seed in range(options.seeds) for pair in pairs
        }
        results = {task: future.result() for task, future in tasks.items()}
    said = []
    for name, kind in pairs:
        found = [results[name, kind, seed] for seed in range(options.seeds)]
        columns = np.array([result for result, _ in found]).T
        epochs, seconds, validation, test = ((column.mean(), column.std(ddof=1)) for column in columns)
        shares = (f"{100 * mean:.1f} ± {100 * spread:.1f}" for mean, spread in (validation, test))
        table.row(name, kind, f"{epochs[0]:.0f}", f"{seconds[0]:.0f}", *shares)
        said.append(f"{name}, {kind}: {found[0][1]}.")
    out.table(table)
    for line in said:
        out.say(line)


if __name__ == "__main__":
    main()
