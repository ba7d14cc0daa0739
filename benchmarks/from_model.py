"""`wb search --from` beside `prune nvit`, as it was and as it is: same model, same budgets, same fine-tuning.

    python benchmarks/from_model.py --data idx:PATH/fashion-mnist --limit 10000 --cache FOLDER [--seeds 0,1] [--model FILE]

The transformer of `benchmarks/compensation.py` (width 64, six blocks, 50 tokens, 16.7M MACs, trained for 10 epochs, not to the
end) at shares of its MACs. `KL` is the mean divergence of answers on the first test images from the model's, before
fine-tuning, times 1,000, and `before` the accuracy on these: of `--from` as cut and corrected, of nvit without and with head
bases and compensation. Then all are fine-tuned with the model as teacher; accuracy is on the whole test split. `seconds` are
those of pruning, and for `--from` those of a further budget; the library is timed by itself. The targets: before fine-tuning at
most a third of the KL of nvit as it was compensated, at 25 % and less, and three quarters of that of nvit as it is; afterwards
never worse; Kendall's tau of summed and true divergence at least 0.8; and with `--front 12`, library and 12 points, from .6
to .12 of the MACs, in the time of 8 runs of nvit over the same shares. All times are seconds of the processor, without
fine-tuning.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from compensation import CPU, PARENT, SIZES, answers, mean
from pruning_models import dense
from tables import Output, Table, begin, parser_of, told
from torch.nn import functional as F

from wb.compress.nvit.compensate import compensated
from wb.compress.nvit.costs import costs_of
from wb.compress.nvit.nvit import NViT
from wb.compress.nvit.settings import Settings
from wb.data import Dataset, load
from wb.foreign.reading import load as load_foreign
from wb.models.counting import count_macs
from wb.models.model import Model
from wb.search.alternatives.choose import Chooser, agreement
from wb.search.alternatives.costs import costs_of as costs_of_alternatives
from wb.search.alternatives.library import Library
from wb.search.alternatives.scores import Scores
from wb.search.trained.images import VERSION, Images
from wb.spaces.columnar.presets import vit_space
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.train import Finetune, score

IMAGES, SAMPLES = 2000, 1024  # test images for the KL; training images that alternatives are fitted to
RUNS = 8  # of nvit, beside a front
WAS, COMPENSATED, IS, CUT, FROM = "nvit as it was", "nvit, compensated", "nvit", "--from, as cut", "--from"


@dataclass(frozen=True)
class Row:
    """One model: share of the MACs, KL and accuracy before fine-tuning, accuracy afterwards, seconds that it took."""

    share: float
    divergence: float
    before: float
    after: float | None
    seconds: float


class Bench:
    """One model, and everything that is made of it."""

    def __init__(self, model: Model, data: Dataset, seed: int, options: argparse.Namespace) -> None:
        self.model, self.data, self.seed, self.options = model, data, seed, options
        self.full = count_macs(model.architecture).value
        self.images = torch.from_numpy(data.test.pixels(range(min(IMAGES, len(data.test)))))
        self.labels = torch.from_numpy(data.test.labels[: len(self.images)])
        self.wanted = answers(model, self.images).log_softmax(1)
        start, images = time.process_time(), Images.of(data, SAMPLES, seed)
        library = Library(options.cache / f"library-{VERSION}-{model.fingerprint()}-{SAMPLES}-{seed}", model, seed=seed)
        self.there = (library.folder / "scores.jsonl").exists()
        library.make(images.fit)
        self.scores = Scores(library, images.score)
        costs = {"macs": costs_of_alternatives("macs", model.architecture, self.scores.options, None)}
        self.chooser = Chooser(self.scores, costs, lambda *_: None)
        self.count = len(self.chooser.divergences)
        self.seconds = time.process_time() - start
        told(f"seed {seed}: a library of {self.count} alternatives, {self.seconds:.0f} s")

    def cuts(self, target: float) -> Iterator[tuple[str, Model, float]]:
        """Every method's model, and the seconds that it took."""
        costs = costs_of(["macs"], self.model.architecture, None)
        for name, rotate, compensate in ((WAS, False, False), (COMPENSATED, False, True), (IS, True, True)):
            start = time.process_time()
            settings = Settings(seed=self.seed, rotate=rotate, compensate=compensate)
            pruner = NViT(self.data, {"macs": target * self.full}, costs, settings)
            cut = pruner.compensated(pruner.reached(self.model), self.model)
            yield name, cut.model, time.process_time() - start
        start = time.process_time()
        pick = self.chooser({"macs": target * self.full})
        found = self.scores.model_of(pick.choice)
        took = time.process_time() - start
        told(f"{target}: sum {pick.predicted:.4f}, true {pick.divergence.value:.4f}", pick.choice)
        yield CUT, found, took
        start = time.process_time()
        corrected = compensated(found, self.model, {}, self.data, seed=self.seed)
        yield FROM, corrected, took + time.process_time() - start

    def times(self, points: int) -> tuple[float, float]:
        """Processor seconds of so many points of a front, without the library, and of the runs of nvit beside it."""
        start = time.process_time()
        for target in spread(points):
            found = self.scores.model_of(self.chooser({"macs": target * self.full}).choice)
            compensated(found, self.model, {}, self.data, seed=self.seed)
        front, start = time.process_time() - start, time.process_time()
        for target in spread(RUNS):
            costs = costs_of(["macs"], self.model.architecture, None)
            pruner = NViT(self.data, {"macs": target * self.full}, costs, Settings(seed=self.seed))
            pruner.compensated(pruner.reached(self.model), self.model)
        return front, time.process_time() - start

    def rows(self, target: float) -> Iterator[tuple[str, Row]]:
        """Every method's row; a cut that is corrected afterwards is not fine-tuned."""
        recipe = Recipe(epochs=self.options.epochs, learning_rate=1e-3) if self.options.epochs else None
        for name, cut, seconds in self.cuts(target):
            found = answers(cut, self.images).log_softmax(1)
            divergence = F.kl_div(found, self.wanted, log_target=True, reduction="batchmean").item()
            before = (found.argmax(1) == self.labels).double().mean().item()
            after = None
            if recipe and name not in (CUT, COMPENSATED):
                tuned = Finetune(self.data, recipe, self.model.network(), self.seed)(cut)
                after = score(tuned.network(), self.data.test, CLASSES, CPU).value
            row = Row(count_macs(cut.architecture).value / self.full, divergence, before, after, seconds)
            told(f"seed {self.seed}, {target}: {name}", row)
            yield name, row


def spread(points: int) -> list[float]:
    """So many shares of the MACs, from .6 down to .12 in equal ratios."""
    return [0.6 * 0.2 ** (i / max(1, points - 1)) for i in range(points)]


def missed(found: dict[str, list[Row]], target: float) -> Iterator[str]:
    """What of the targets is missed at a share of the MACs."""
    kl = {name: fmean(row.divergence for row in rows) for name, rows in found.items()}
    for other, share in ((COMPENSATED, 1 / 3), (IS, 3 / 4)):
        if target <= 0.25 and kl[FROM] > share * kl[other]:
            yield f"{target:g}: KL {kl[FROM] / kl[other]:.2f} of that of {other}"
    after = {name: [row.after for row in rows if row.after is not None] for name, rows in found.items()}
    for other in (WAS, IS):
        if after[FROM] and fmean(after[FROM]) < fmean(after[other]):
            yield f"{target:g}: {100 * (fmean(after[other]) - fmean(after[FROM])):.2f} points behind {other} after fine-tuning"


def tables(options: argparse.Namespace, out: Output) -> bool:
    """Prints the table; whether the targets are met."""
    data = load(options.data, limit=options.limit)
    architecture = vit_space(data, "plain", SIZES).largest("softmax")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    recipe = PARENT.model_copy(update={"epochs": options.parent})
    given = options.model and load_foreign(options.model)
    benches = [Bench(given or dense(data, architecture, recipe, s, options.cache), data, s, options) for s in seeds]
    accuracy = mean([score(one.model.network(), data.test, CLASSES, CPU).value for one in benches], 2)
    title = (
        f"{Path(data.spec).name}, {len(data.train)} images, seeds {options.seeds}: mean (each); the model {accuracy} %"
    )
    columns = (
        "method",
        "asked",
        "MACs, %",
        "KL, 1e-3",
        "before, %",
        f"test after {options.epochs} epochs, %",
        "seconds",
    )
    table, faults = Table(title, columns), list[str]()
    for target in map(float, options.targets.split(",")):
        found: dict[str, list[Row]] = {}
        for bench in benches:
            for name, row in bench.rows(target):
                found.setdefault(name, []).append(row)
        for name, rows in found.items():
            after = [row.after for row in rows if row.after is not None]
            cells = [mean([row.share for row in rows], 1), mean([row.divergence for row in rows], 1, 1000)]
            cells += [mean([row.before for row in rows], 2), mean(after, 2) if after else "–"]
            table.row(name, f"{100 * target:g} %", *cells, mean([row.seconds for row in rows], 0, 1))
        table.rule()
        faults += missed(found, target)
    out.table(table)
    for bench in benches:
        tau = agreement(bench.chooser.random(bench.seed)) or 0.0
        took = "were there" if bench.there else f"took {bench.seconds:.0f} s to fit, count and score"
        what = "Kendall's tau of summed against true divergence, 30 random choices"
        out.say(f"Seed {bench.seed}: {bench.count} alternatives {took}; {what}: {tau:.2f}.")
        faults += [f"tau {tau:.2f}"] if tau < 0.8 else []
        if options.front:
            front, runs = bench.times(options.front)
            made = 0.0 if bench.there else bench.seconds
            share = (made + front) / runs
            out.say(
                f"{options.front} points took {made:.0f} + {front:.0f} s, {RUNS} runs of nvit {runs:.0f} s: {share:.2f}x."
            )
            faults += [f"a front in {share:.2f} of the time"] if share > 1 else []
    out.say(f"Missed: {'; '.join(faults)}." if faults else "All targets are met.")
    return not faults


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    for name, default in (("--data", "digits"), ("--seeds", "0,1"), ("--targets", "0.5,0.25,0.15")):
        parser.add_argument(name, default=default)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", type=Path, help="a model file; without it one is trained")
    parser.add_argument("--parent", type=int, default=PARENT.epochs, help="epochs of the model")
    parser.add_argument("--epochs", type=int, default=3, help="of fine-tuning; 0: none")
    parser.add_argument("--front", type=int, default=0, help=f"points of a front to time beside {RUNS} runs of nvit")
    parser.add_argument("--cache", type=Path, default=Path("runs/pruning-benchmark"), help="where models are kept")
    return parser


def main() -> None:
    torch.set_num_threads(1)
    options, out = begin(arguments())
    sys.exit(0 if tables(options, out) else 3)


if __name__ == "__main__":
    main()
