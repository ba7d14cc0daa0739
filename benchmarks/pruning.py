"""Our pruning beside torch-pruning 1.6: same models, same calibration images, same target, same fine-tuning and teacher.

    python benchmarks/pruning.py digits [--seeds 0,1,2] [--targets 0.5,0.25,0.15]
    python benchmarks/pruning.py latency --data idx:PATH/fashion-mnist --limit 10000 --cache FOLDER
    python benchmarks/pruning.py digits --model vit.safetensors --data idx:PATH/mnist   (any model file of wb)

`digits` cuts the stock model to shares of its MACs, without any training between rounds, and fine-tunes for 6 epochs.
`latency` cuts a transformer of 36M MACs to half its measured ONNX Runtime latency, all models timed together at the end.
Accuracy is on the test split; mean and standard deviation over the seeds. A model that ends more than 1 % from its target is
a miss: it is listed with the cost that it reached, and left out of the means. torch-pruning was tuned (some twenty settings)
on these seeds by the test accuracy, ours on validation. `dense, trained on` is the dense model after the same further
epochs, and shows the effect of fine-tuning alone.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from pruning_latency import latency_rows
from tables import Output, Table, begin, parser_of, told
from torch_pruning_methods import METHODS, run
from torch_pruning_vit import to_plain

from wb.compress.nvit.costs import costs_of
from wb.compress.nvit.nvit import NViT
from wb.compress.nvit.settings import Settings
from wb.core.errors import BudgetMissed
from wb.data import Dataset, load
from wb.models.counting import count_macs
from wb.models.model import Model
from wb.models.model import load as load_model
from wb.spaces.stock import Stock
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.train import Finetune, score

RECIPE = Recipe(epochs=6, learning_rate=1e-3)
TOLERANCE = 0.01
CPU = torch.device("cpu")
OURS = {
    "wb nvit, 20 rounds": {"rounds": 20},
    "wb nvit, 10 rounds": {"rounds": 10},
    "wb nvit, 10 rounds, as is": {"rounds": 10, "rotate": False, "compensate": False},
    "wb nvit, one shot": {"rounds": 1},
    "wb nvit, 10 rounds, cost ignored": {"rounds": 10, "eta": 0.0},
    "wb taylor, 10 rounds": {"rounds": 10, "method": "taylor"},
    "wb magnitude, 10 rounds": {"rounds": 10, "method": "magnitude"},
    "wb random, 10 rounds": {"rounds": 10, "method": "random"},
}
THEIRS = (
    "taylor default, local",
    "taylor default, isomorphic",
    "hessian as shipped, isomorphic",
    "magnitude, isomorphic",
    "taylor tuned",
    "taylor tuned, 5 steps, heads",
    "taylor tuned, 10 steps, heads",
    "hessian tuned, 5 steps, heads",
)


@dataclass(frozen=True)
class Row:
    """One run of one method: accuracies before and after fine-tuning, the share of MACs reached, whether that is the target."""

    before: float
    after: float
    share: float
    hit: bool


def ours(model: Model, data: Dataset, target: float, seed: int, options: dict[str, object]) -> Row:
    """Our pass alone, without training before the reading `before`."""
    dense = count_macs(model.architecture).value
    settings = Settings.model_validate({"seed": seed, **options})
    pruner = NViT(data, {"macs": target * dense}, costs_of(["macs"], model.architecture, None), settings)
    try:
        pruned = pruner(model)
    except BudgetMissed:
        return Row(0.0, 0.0, 1.0, hit=False)
    share = count_macs(pruned.architecture).value / dense
    tuned = Finetune(data, RECIPE, model.network(), seed)(pruned)
    before, after = (score(m.network(), data.test, CLASSES, CPU).value for m in (pruned, tuned))
    return Row(before, after, share, abs(share - target) <= TOLERANCE * target)


def theirs(model: Model, data: Dataset, target: float, seed: int, name: str) -> Row:
    """torch-pruning on the same model."""
    found = run(to_plain(model), data, METHODS[name], target, seed, RECIPE)
    return Row(found.before, found.after, found.share, found.hit)


def methods(only: str | None) -> Iterator[tuple[str, Callable[[Model, Dataset, float, int], Row]]]:
    """Every method by name; `only` keeps those whose name contains it."""
    for name, options in OURS.items():
        if only is None or only in name:
            yield name, lambda m, d, t, s, options=options: ours(m, d, t, s, options)
    for name in THEIRS:
        if only is None or only in f"torch-pruning {name}":
            yield f"torch-pruning {name}", lambda m, d, t, s, name=name: theirs(m, d, t, s, name)


def spread(values: list[float]) -> str:
    """Mean and standard deviation, in percent; a dash for none."""
    return "–" if not values else f"{100 * fmean(values):.1f} ± {100 * pstdev(values):.1f}"


def digits(options: argparse.Namespace, out: Output) -> None:
    """Every method at every target; prints rows as they come and the table at the end."""
    data = load(options.data, limit=options.limit)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    models = {seed: load_model(options.model) if options.model else Stock(data, seed)() for seed in seeds}
    dense = [score(model.network(), data.test, CLASSES, CPU).value for model in models.values()]
    title = f"{data.spec}: test accuracy, mean ± sd of seeds {options.seeds}; dense {spread(dense)} %"
    table = Table(title, ("method", "MACs", "before", "after", "reached", "missed"))
    for target in map(float, options.targets.split(",")):
        for name, method in methods(options.only):
            rows = [method(model, data, target, seed) for seed, model in models.items()]
            hits = [row for row in rows if row.hit]
            missed = [f"{100 * row.share:.1f} %" for row in rows if not row.hit]
            cells = (
                name,
                f"{100 * target:g} %",
                spread([row.before for row in hits]),
                spread([row.after for row in hits]),
                spread([row.share for row in hits]),
                f"{len(missed)} of {len(rows)}, at {', '.join(missed)}" if missed else "",
            )
            table.row(*cells)
            told(*cells)
        table.rule()
    out.table(table)


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("suite", choices=("digits", "latency"))
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", type=Path, help="prune this model instead of trained ones")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--targets", default="0.5,0.25,0.15")
    parser.add_argument("--only", help="methods whose name contains this")
    parser.add_argument("--finetune", type=int, default=10, help="epochs, in the latency suite")
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/pruning-benchmark"), help="where dense models are kept"
    )
    return parser


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    if options.suite == "digits":
        digits(options, out)
    else:
        latency_rows(options, out)


if __name__ == "__main__":
    main()
