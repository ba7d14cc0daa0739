"""What the recipe is worth: a small convolutional network and space `vit`, by old and new recipe, at equal CPU seconds.

The old recipe of the convolutional network is what anyone would try first (flips, shifts, AdamW, one cycle); that of `vit` is
recipe `plain`. The new one is what `auto` chooses. Epochs are as many as a first one says that fit into the time.

    python benchmarks/recipe.py imagefolder:PATH/animals --seconds 60
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from convnets import convnet
from tables import Table, begin, parser_of, told
from torch import nn

from wb.data import Dataset, load
from wb.models.network import build
from wb.spaces.presets import vit_space
from wb.tasks.classes import CLASSES
from wb.training.choose import Setting, chosen
from wb.training.fit import Recipe
from wb.training.recipe import RecipeOptions
from wb.training.train import fit_module, score

CPU = torch.device("cpu")
PROBE = 2  # epochs that are timed, after one for warming up
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
        shape = (data.channels, data.height, data.width)
        return lambda epochs: chosen(options, Setting(parameters, len(data.train), shape, epochs, data.classes))

    def old(epochs: int) -> Recipe:
        return Recipe(epochs=epochs, **(TRIED_FIRST if network == "convnet" else {}))

    return {"old": old, "new": by("auto"), **{name: by(name) for name in more}}


def trained(
    make: Callable[[int], nn.Module], recipe: Callable[[int], Recipe], data: Dataset, seconds: float, seed: int
) -> Result:
    """One training of about `seconds` CPU seconds."""
    fit_module(make(seed), data, recipe(1), task=CLASSES, seed=seed)
    start = time.process_time()
    fit_module(make(seed), data, recipe(PROBE), task=CLASSES, seed=seed)
    epochs = max(1, round(seconds * PROBE / (time.process_time() - start)))
    module, start = make(seed), time.process_time()
    fit_module(module, data, recipe(epochs), task=CLASSES, seed=seed)
    took = time.process_time() - start
    validation, test = (score(module, split, CLASSES, CPU).value for split in (data.validation, data.test))
    return Result(epochs, took, validation, test)


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    data = load(options.data)
    title = (
        f"{data.name}, {len(data.train):,} images, {options.seconds:g} CPU s for each training, {options.seeds} seeds"
    )
    table = Table(title, ("network", "recipe", "parameters", "epochs", "CPU s", "validation %", "test %"), ("recipe",))
    said = []
    for name, make in networks(data, options.preset).items():
        parameters = sum(weight.numel() for weight in make(0).parameters())
        for title, recipe in recipes(name, parameters, data, list(options.recipe)).items():
            found = []
            for seed in range(options.seeds):
                found.append(trained(make, recipe, data, options.seconds, seed))
                told(f"{name}, {title}, seed {seed}: {found[-1]}")
            epochs, seconds, validation, test = (np.array(column) for column in zip(*found, strict=True))
            table.row(
                name,
                title,
                f"{parameters:,}",
                f"{epochs.mean():.0f}",
                f"{seconds.mean():.0f}",
                f"{100 * validation.mean():.1f} ± {100 * validation.std(ddof=1):.1f}",
                f"{100 * test.mean():.1f} ± {100 * test.std(ddof=1):.1f}",
            )
            said.append(f"{name}, {title}: {recipe(round(epochs.mean())).text}.")
    out.table(table)
    for line in said:
        out.say(line)


if __name__ == "__main__":
    main()
