"""Do other mixers pay in `wb search --from` (`--mixers auto`), and from how many tokens on?

    python benchmarks/other_mixers.py --data idx:PATH/fashion-mnist --limit 1000 --cache FOLDER [--patches 4,2,1]

A small softmax transformer without class token, so that all mixers are possible, is trained on the same 28x28 images cut into
patches of 4, 2 and 1 pixels: 49, 196 and 784 tokens. One library has everything, other mixers trained by local distillation
among it. For each budget the program chooses once without other mixers and once with them; `KL` is the true divergence of what
it chose from the model's answers, on the training images that score, before any correction, times 1,000. `mixers` are the
other mixers that were chosen. The second table has those that are scored, which are the best for their work: work and time as
shares of those of the mixer that is there, the error of what they give as a share of its variance, and their KL alone.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from pruning_models import dense
from tables import Output, Table, begin, parser_of, told

from wb.core import program
from wb.core.errors import BudgetMissed
from wb.data import Dataset, load
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device
from wb.models.model import Model
from wb.search.alternatives.choose import Chooser
from wb.search.alternatives.costs import Costs, costs_of
from wb.search.alternatives.library import Library
from wb.search.alternatives.option import WHOLE
from wb.search.alternatives.scores import Scores
from wb.search.trained.images import VERSION, Images
from wb.spaces.columnar.presets import vit_space
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.train import score

SIZES = {"depth": "2", "heads": "4", "qk": "8", "v": "8", "embed": "32", "mlp": "2", "mixer": "softmax", "pool": "mean"}
METRICS = ("macs", "latency")


class Without(Chooser):
    """Chooses among all but other mixers."""

    @cached_property
    def items(self) -> dict[str, list[program.Item]]:
        """Those of the library that are of the mixer that is there."""
        known = self.scores.options
        return {
            slot: [item for item in items if known[slot][item.name].mixer is None]
            for slot, items in super().items.items()
        }


def scores_of(model: Model, data: Dataset, options: argparse.Namespace) -> Scores:
    """The scores of a library with other mixers."""
    images = Images.of(data, options.samples, options.seed)
    folder = options.cache / f"mixers-{VERSION}-{model.fingerprint()}-{options.samples}-{options.seed}"
    library = Library(folder, model, seed=options.seed, mixers=options.mixers.split(","))
    library.make(images.fit, lambda done, of: told("library", done, of))
    scores = Scores(library, images.score, options.alternatives)
    scores.make(lambda what, done, of: told(what, done, of) if done % 20 == 0 else None)
    return scores


def chosen(chooser: Chooser, metric: str, share: float) -> tuple[str, str]:
    """KL of what a chooser takes at a share of a metric, and the other mixers in it."""
    whole = chooser.costs[metric](dict.fromkeys(chooser.scores.options, WHOLE))
    try:
        pick = chooser({metric: share * whole})
    except BudgetMissed:
        return "none keeps it", ""
    known = chooser.scores.options
    found = [known[slot][name].mixer for slot, name in pick.choice.items()]
    counts = Counter(one.kind for one in found if one is not None)
    said = ", ".join(f"{count}x {kind}" for kind, count in counts.items()) or "none"
    return f"{1000 * pick.divergence.value:.2f}", said


def alone(scores: Scores, costs: Mapping[str, Costs]) -> list[tuple[str, ...]]:
    """What is scored of other mixers: work and time as shares of what is there, error and KL; medians of the sub-layers."""
    scored = scores.make()
    found: dict[str, list[tuple[float, ...]]] = {}
    for slot, options in scores.options.items():
        for name, option in options.items():
            if option.mixer is not None and (slot, name) in scored:
                shares = [costs[metric].each[slot, name] / costs[metric].each[slot, WHOLE] for metric in METRICS]
                found.setdefault(name, []).append((*shares, option.error, 1000 * scored[slot, name].value))
    return [(name, *(f"{median(values):.3g}" for values in zip(*rows, strict=True))) for name, rows in found.items()]


def tables(options: argparse.Namespace, out: Output) -> None:
    """Prints both tables."""
    data = load(options.data, limit=options.limit)
    title = f"{Path(data.spec).name}, {len(data.train)} images, seed {options.seed}"
    table = Table(
        f"{title}: KL, 1e-3, of what is chosen",
        ("tokens", "model, %", "limit", "without other mixers", "with them", "mixers chosen"),
    )
    single = Table("Other mixers alone", ("tokens", "mixer", "MACs", "time", "error", "KL, 1e-3"), left=("mixer",))
    for patch in options.patches.split(","):
        architecture = vit_space(data, "plain", {**SIZES, "patch": patch}).largest("softmax")
        recipe = Recipe(epochs=options.epochs, learning_rate=2e-3)
        model = dense(data, architecture, recipe, options.seed, options.cache)
        tokens = str(architecture.layout.tokens)
        accuracy = score(model.network(), data.validation, CLASSES, torch.device("cpu")).value
        start, scores = time.process_time(), scores_of(model, data, options)
        costs = {metric: costs_of(metric, architecture, scores.options, LatencyTable(Device())) for metric in METRICS}
        told(f"{tokens} tokens: {time.process_time() - start:.0f} s of the processor for library, scores and costs")
        choosers = [kind(scores, costs, lambda *_: None) for kind in (Without, Chooser)]
        for metric in METRICS:
            for share in map(float, options.targets.split(",")):
                without, with_them = (chosen(one, metric, share) for one in choosers)
                table.row(tokens, f"{100 * accuracy:.1f}", f"{metric} {share:g}x", without[0], *with_them)
                told(tokens, metric, share, without, with_them)
        table.rule()
        for row in alone(scores, costs):
            single.row(tokens, *row)
        single.rule()
    out.table(table)
    out.table(single)


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    for name, default in (
        ("--data", "digits"),
        ("--patches", "4,2,1"),
        ("--targets", "0.5,0.25,0.15"),
        ("--mixers", "auto"),
    ):
        parser.add_argument(name, default=default)
    for name, default in (("--seed", 0), ("--epochs", 8), ("--samples", 192), ("--alternatives", 12)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--limit", type=int)
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/other-mixers"), help="where models and libraries are kept"
    )
    return parser


def main() -> None:
    torch.set_num_threads(1)
    options, out = begin(arguments())
    tables(options, out)


if __name__ == "__main__":
    main()
