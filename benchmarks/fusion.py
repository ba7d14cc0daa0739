"""Fusion of two independently trained transformers: every method of ours and the published one, before and after fine-tuning.

    python benchmarks/fusion.py digits [--pairs 5]
    python benchmarks/fusion.py images --data idx:PATH/fashion-mnist --limit 5000 [--pairs 3]
    python benchmarks/fusion.py sizes [--pairs 3]      (parents of unequal width, depth, and one that was pruned)
    python benchmarks/fusion.py scale [--images 512 --threads 2]      (time and memory at ViT-Base's size)

Parents of seeds 2k and 2k + 1 are trained exactly alike, and fused with equal weights on the axes of the second. Tables have
mean ± population standard deviation over the pairs of accuracy on the test split, in percent; the learning rate of
fine-tuning is chosen for each row, pair and column by the loss on the validation split. `digits`: 1,200 training, 197
validation, 400 test images. Plain cross-entropy, no augmentation, batches of 32, for parents and fine-tuning alike. Fusion
uses training images without their labels. `barrier`: cross-entropy of the average minus the mean of the parents', in nats.
`CPU s`: CPU seconds of fusing one pair. An interrupted run continues from --cache.
"""

from __future__ import annotations

import argparse
import os
import re
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from fusion_models import Bench, Cache, digits, network
from fusion_rows import ROWS, Cells, cells, pair_of, parents
from fusion_scale import scale
from fusion_sizes import sizes
from fusion_tables import show, told
from tables import Output, begin, parser_of

from wb.data import load


def table(bench: Bench, options: argparse.Namespace, patch: int, out: Output) -> None:
    """Computes all rows on all pairs; prints cells as they come and the table after each pair."""
    epochs = tuple(int(n) for n in options.epochs.split(",") if n)
    columns = ["one-shot", *(f"{n} ep" for n in epochs)]
    found: defaultdict[str, list[Cells]] = defaultdict(list)
    for number in range(options.pairs):
        pair = pair_of(bench, network(bench.data, patch), number)
        for name, one in parents(pair).items():
            found[name].append(one)
        for name, row in ROWS.items():
            if not re.search(options.rows, name):
                continue
            plain, distilled = cells(pair, row, epochs)
            for label, one in ((name, plain), (f"{name}, distilled", distilled)):
                if one:
                    found[label].append(one)
                    told(f"pair {number}, {label}", one)
        title = f"{bench.data.spec}: test accuracy (%), {number + 1} pairs"
        show(out, title, found, columns, interim=number + 1 < options.pairs)


def bench_of(options: argparse.Namespace) -> Bench:
    """The data of a suite with its cache."""
    rates = tuple(map(float, options.rates.split(",")))
    if options.suite == "images":
        if options.data is None:
            raise SystemExit("images needs --data, e.g. idx:PATH/fashion-mnist")
        return Bench(load(options.data, limit=options.limit), Cache(options.cache), options.parent_epochs or 15, rates)
    return Bench(digits(), Cache(options.cache), options.parent_epochs or 25, rates)


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("suite", choices=("digits", "images", "sizes", "scale"))
    parser.add_argument("--data", help="in images")
    parser.add_argument("--limit", type=int, default=5000, help="training images, in images")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--epochs", default="1,10", help='of fine-tuning, one column each; "" for none')
    parser.add_argument("--rates", default="1e-4,3e-4,1e-3,2e-3", help="learning rates to choose from")
    parser.add_argument("--parent-epochs", type=int, help="25 on digits, 15 in images")
    parser.add_argument("--rows", default="", help="a regular expression; rows that it is found in")
    parser.add_argument("--cache", type=Path, default=Path("runs/fusion-benchmark/results.jsonl"))
    parser.add_argument("--images", type=int, default=0, help="to regress on, in scale")
    parser.add_argument("--threads", type=int, default=1, help="in scale")
    return parser


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    if options.suite == "scale":
        scale(options, out)
    elif options.suite == "sizes":
        options.pairs = options.pairs or 3
        sizes(bench_of(options), options.pairs, out)
    else:
        options.pairs = options.pairs or (5 if options.suite == "digits" else 3)
        table(bench_of(options), options, 2 if options.suite == "digits" else 4, out)


if __name__ == "__main__":
    main()
