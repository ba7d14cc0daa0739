"""Head bases and compensation in `prune nvit` and `prune depth`: what each is worth, before and after fine-tuning.

    python benchmarks/compensation.py --data idx:PATH/fashion-mnist --limit 10000 --cache FOLDER [--seeds 0,1]

A transformer of width 64 with six blocks of four heads (50 tokens, 16.7M MACs, trained for 10 epochs, not to the end) is cut to
shares of its MACs by 10 rounds without training between them, and by dropping sub-layers. `KL` is the mean divergence of its
answers on the first test images from the dense model's, as cut, times 1,000. Then every model is fine-tuned for 3 epochs with
the dense model as teacher; accuracy is on the whole test split. A row is printed as it comes. The target: with both, at most a
third of the KL that is left with neither, at every share; and the ratio to compensation alone is told.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from pruning_models import dense
from tables import Output, Table, begin, parser_of, told
from torch import Tensor
from torch.nn import functional as F

from wb.compress.depth.drop import DropLayers
from wb.compress.nvit.compensate import compensated
from wb.compress.nvit.costs import costs_of
from wb.compress.nvit.nvit import NViT
from wb.compress.nvit.settings import Settings
from wb.core.architecture import Architecture
from wb.core.errors import BudgetMissed
from wb.data import Dataset, load
from wb.models.counting import count_macs
from wb.models.model import Model
from wb.spaces.columnar.presets import vit_space
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.train import Finetune, score

SIZES = {"embed": "64", "depth": "6", "heads": "4", "qk": "16", "v": "16", "mlp": "4", "patch": "4", "mixer": "softmax"}
PARENT = Recipe(epochs=10, learning_rate=2e-3)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Row:
    """One model: its share of the MACs, KL to the dense model and accuracy as cut, accuracy after fine-tuning."""

    share: float
    divergence: float
    before: float
    after: float | None


def cuts(model: Model, data: Dataset, target: float, seed: int, *, depth: bool) -> Iterator[tuple[str, Model]]:
    """Every method's model at that share of the MACs; one that cannot reach it is left out."""
    full = count_macs(model.architecture).value
    costs = costs_of(["macs"], model.architecture, None)
    for rotate, alone, both in ((False, "nvit, neither", "nvit, compensated"), (True, "nvit, rotated", "nvit, both")):
        settings = Settings(seed=seed, rotate=rotate, compensate=False)
        yield alone, NViT(data, {"macs": target * full}, costs, settings).reached(model).model
        pruner = NViT(data, {"macs": target * full}, costs, settings.model_copy(update={"compensate": True}))
        yield both, pruner.compensated(pruner.reached(model), model).model

    if not depth:
        return

    def enough(architecture: Architecture) -> bool:
        return count_macs(architecture).value <= target * full

    try:
        dropped = DropLayers(data, enough)(model)
    except BudgetMissed as error:
        told("depth", target, error)
        return
    yield "depth", dropped
    yield "depth, compensated", compensated(dropped, model, {}, data, seed=seed)


def answers(model: Model, images: Tensor) -> Tensor:
    """Logits (n, classes)."""
    network = model.network()
    with torch.inference_mode():
        return torch.cat([network(part) for part in images.split(250)])


def rows(
    model: Model, data: Dataset, target: float, seed: int, options: argparse.Namespace
) -> Iterator[tuple[str, Row]]:
    """Every method's row at that share of the MACs."""
    images = torch.from_numpy(data.test.pixels(range(min(options.images, len(data.test)))))
    wanted, full = answers(model, images).log_softmax(1), count_macs(model.architecture).value
    recipe = Recipe(epochs=options.epochs, learning_rate=1e-3) if options.epochs else None
    for name, cut in cuts(model, data, target, seed, depth=options.depth):
        found = answers(cut, images).log_softmax(1)
        divergence = F.kl_div(found, wanted, log_target=True, reduction="batchmean").item()
        before = score(cut.network(), data.test, CLASSES, CPU).value
        tuned = Finetune(data, recipe, model.network(), seed)(cut) if recipe else None
        after = None if tuned is None else score(tuned.network(), data.test, CLASSES, CPU).value
        row = Row(count_macs(cut.architecture).value / full, divergence, before, after)
        told(f"seed {seed}, {target}: {name}", row)
        yield name, row


def mean(values: list[float], digits: int, scale: float = 100) -> str:
    """The mean and, of several seeds, each value."""
    each = f" ({', '.join(f'{scale * value:.{digits}f}' for value in values)})" if len(values) > 1 else ""
    return f"{scale * fmean(values):.{digits}f}{each}"


def tables(options: argparse.Namespace, out: Output) -> bool:
    """Prints the table; whether the target is met at every share."""
    data = load(options.data, limit=options.limit)
    architecture = vit_space(data, "plain", SIZES).largest("softmax")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    models = {seed: dense(data, architecture, PARENT, seed, options.cache) for seed in seeds}
    accuracy = [score(model.network(), data.test, CLASSES, CPU).value for model in models.values()]
    title = f"{data.spec}, {len(data.train)} images, seeds {options.seeds}: mean (each); dense {mean(accuracy, 2)} %"
    table = Table(
        title, ("method", "asked", "MACs, %", "KL as cut, 1e-3", "test as cut, %", f"after {options.epochs} epochs, %")
    )
    ratios: dict[str, float] = {}
    for target in map(float, options.targets.split(",")):
        found: dict[str, list[Row]] = {}
        for seed, model in models.items():
            for name, row in rows(model, data, target, seed, options):
                found.setdefault(name, []).append(row)
        for name, of in found.items():
            after = [row.after for row in of if row.after is not None]
            cells = [mean([row.share for row in of], 1), mean([row.divergence for row in of], 1, 1000)]
            cells += [mean([row.before for row in of], 2), mean(after, 2) if after else "–"]
            table.row(name, f"{100 * target:g} %", *cells)
        table.rule()
        kl = {name: fmean(row.divergence for row in of) for name, of in found.items()}
        for other in ("nvit, neither", "nvit, compensated"):
            ratios[f"{100 * target:g} %, both to {other.removeprefix('nvit, ')}"] = kl["nvit, both"] / kl[other]
    out.table(table)
    out.say("KL as cut, " + "; ".join(f"{name}: {ratio:.2f}" for name, ratio in ratios.items()) + ".")
    return all(ratio <= 1 / 3 for name, ratio in ratios.items() if name.endswith("neither"))


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--targets", default="0.25,0.15")
    parser.add_argument("--epochs", type=int, default=3, help="of fine-tuning; 0: none")
    parser.add_argument("--no-depth", dest="depth", action="store_false", help="leave out dropping of sub-layers")
    parser.add_argument("--images", type=int, default=2000, help="test images for the KL")
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/pruning-benchmark"), help="where dense models are kept"
    )
    return parser


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    met = tables(options, out)
    sys.exit(0 if met else 3)


if __name__ == "__main__":
    main()
