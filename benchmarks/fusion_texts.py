"""Fusion of two encoders of texts: of different seeds, and of different halves of the classes.

    python benchmarks/fusion_texts.py csv:train.csv,test.csv [--pairs 3] [--suite seeds] [--markdown]

`seeds`: parents of seeds 2k and 2k + 1 are trained exactly alike. `halves`: each is trained on the texts of every second class
alone, so that either knows half of them, though both have a score for all; is the fused network above both? In both suites the
rows are those of `benchmarks/fusion.py` that texts have: our methods, averaging, regression without alignment, and the
published method, each one-shot and after epochs on all training texts with labels. The rate of tuning is chosen for each row,
pair and column by the loss on the validation split. Parents are the usual network of space text and are trained by its
recipe. Fusion uses training texts without labels. Tables have mean ± population standard deviation over the pairs of
accuracy on the test split, in percent. An interrupted run continues from --cache.

Exit code 3 if one-shot `regress` is not above averaging, regression without alignment and the published method, or, in
`halves`, not above both parents.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from fusion_models import Bench, Cache
from fusion_rows import CALIBRATION, ROWS, Cells, Pair, cells, pair_of, parents
from fusion_tables import show, told
from tables import Output, begin, parser_of

from wb.core.architecture import Architecture
from wb.data import Dataset, Split, load
from wb.data.dataset import fingerprint_of
from wb.models.counting import count_parameters
from wb.spaces.spaces import space_for
from wb.training.recipes.choose import recipe_for
from wb.training.recipes.recipe import RecipeOptions

EPOCHS = 16  # of parents
TUNED = f"regress, {CALIBRATION} images"
BELOW = ("vanilla", "published", "regress without alignment")  # beginnings of what `regress` has to be above
LEFT_OUT = ("random network", "vanilla, head fitted", "scratch")  # rows that say nothing more of texts


def half(data: Dataset, which: int) -> Dataset:
    """The data with training and validation texts of every second class alone; all classes keep their scores."""

    def of(split: Split) -> Split:
        return split.take(np.flatnonzero(split.labels % 2 == which))

    train, validation = of(data.train), of(data.validation)
    print_ = fingerprint_of(data.classes, train, validation, data.test)
    return replace(data, train=train, validation=validation, fingerprint=print_)


def pairs_of(bench: Bench, architecture: Architecture, suite: str, count: int) -> Iterator[Pair]:
    """The pairs of a suite, one by one."""
    for number in range(count):
        if suite == "seeds":
            yield pair_of(bench, architecture, number)
        else:
            halves = [replace(bench, data=half(bench.data, which)) for which in (0, 1)]
            one, two = (own.parent(architecture, 2 * number + which) for which, own in enumerate(halves))
            yield Pair(bench, one, two, 100 + number)


def table(bench: Bench, architecture: Architecture, options: argparse.Namespace, suite: str, out: Output) -> bool:
    """Computes all rows on all pairs, prints them and the verdict; whether the targets are met."""
    epochs = tuple(int(n) for n in options.epochs.split(",") if n)
    found: defaultdict[str, list[Cells]] = defaultdict(list)
    for number, pair in enumerate(pairs_of(bench, architecture, suite, options.pairs)):
        for name, one in parents(pair).items():
            found[name].append(one)
        for name, row in ROWS.items():
            if name.startswith(LEFT_OUT) or not re.search(options.rows, name):
                continue
            plain, distilled = cells(pair, row, epochs)
            for label, one in ((name, plain), (f"{name}, distilled", distilled)):
                if one:
                    found[label].append(one)
                    told(f"{suite}, pair {number}, {label}", one)
    columns = ["one-shot", *(f"{n} ep" for n in epochs)]
    title = f"{suite}: test accuracy (%) of {bench.data.spec}, {options.pairs} pairs (images: texts)"
    show(out, title, found, columns)
    return verdict(found, suite, columns, out)


def verdict(found: Mapping[str, list[Cells]], suite: str, columns: list[str], out: Output) -> bool:
    """Says whether one-shot `regress` is above what it has to be above; and the same after tuning, which decides nothing."""
    if TUNED not in found:
        return True
    met = True
    beaten = [name for name in found if name.startswith(BELOW) or (suite == "halves" and name.startswith("parent "))]
    for column in columns:
        own = mean(found[TUNED], column)
        above = {name: value for name in beaten if (value := mean(found[name], column)) is not None}
        if own is None or not above:
            continue
        best = max(above, key=above.__getitem__)
        reached = own > above[best]
        met = met and (reached or column != "one-shot")
        said = "above" if reached else "not above"
        value, other = 100 * own, 100 * above[best]
        out.say(f"{suite}, {column}: {TUNED} has {value:.1f} %, {said} the best of the others, {best} ({other:.1f} %).")
    return met


def mean(pairs: list[Cells], column: str) -> float | None:
    """The mean accuracy in a column, None where a row has none."""
    values = [one[column]["accuracy"] for one in pairs if column in one]
    return fmean(values) if values else None


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("texts", help="csv:TRAIN,TEST, jsonl:… or listops")
    parser.add_argument("--suite", dest="which", choices=("seeds", "halves", "both"), default="both")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--epochs", default="1", help='of fine-tuning, one column each; "" for none')
    parser.add_argument("--rates", default="1e-4,3e-4,1e-3,2e-3", help="learning rates to choose from")
    parser.add_argument("--parent-epochs", type=int, default=EPOCHS)
    parser.add_argument("--limit", type=int, help="training texts")
    parser.add_argument("--rows", default="", help="a regular expression; rows that it is found in")
    parser.add_argument("--cache", type=Path, default=Path("runs/fusion-benchmark/texts.jsonl"))
    return parser


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    data = load(options.texts, limit=options.limit)
    architecture = space_for(data, "text").usual()
    parameters = count_parameters(architecture).value
    plain = recipe_for(RecipeOptions(), parameters, data, options.parent_epochs)
    rates = tuple(map(float, options.rates.split(",")))
    bench = Bench(data, Cache(options.cache), options.parent_epochs, rates, plain)
    suites = ("seeds", "halves") if options.which == "both" else (options.which,)
    met = [table(bench, architecture, options, suite, out) for suite in suites]
    if not all(met):
        sys.exit(3)


if __name__ == "__main__":
    main()
