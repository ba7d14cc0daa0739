"""Is accuracy inherited from the supernet a guide to accuracy after training alone?

Trains a supernet, takes sub-networks spread over the space by size, trains each of them alone with the same recipe and the
same data, and prints both accuracies (validation, in torch) with Kendall's tau between them, and that of counted MACs.

    python benchmarks/supernet_honesty.py --data idx:PATH/fashion-mnist --limit 4000 --epochs 20
"""

from __future__ import annotations

import argparse
import random
import time

import numpy as np
import torch
from scipy.stats import kendalltau
from tables import Table, begin, parser_of, told

from wb.core.space import random_choices
from wb.data import load
from wb.models.counting import count_macs
from wb.search.supernet import train_supernet
from wb.spaces.columnar.presets import vit_space
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.train import score, train


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1, help="of the networks trained alone")
    return parser


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    data = load(options.data, limit=options.limit)
    space = vit_space(data)
    recipe = Recipe(epochs=options.epochs)
    rng = random.Random(0)
    pool = sorted((space.decode(random_choices(space, rng)) for _ in range(400)), key=lambda a: count_macs(a).value)
    chosen = [pool[round(i * (len(pool) - 1) / (options.networks - 1))] for i in range(options.networks)]
    start = time.perf_counter()
    supernet = train_supernet(space, data, recipe, seed=0).to(cpu)
    seconds = time.perf_counter() - start
    title = f"{data.spec}, {len(data.train)} images, {options.epochs} epochs; supernet trained in {seconds:.0f} s"
    table = Table(title, ("network", "MACs", "inherited", "alone (mean)", "alone (sd)"))
    inherited, alone = [], []
    for a in chosen:
        inherited.append(score(lambda x, a=a: supernet.run(a, x), data.validation, CLASSES, cpu).value)
        scores = [
            score(train(a, data, recipe, seed=seed).network(), data.validation, CLASSES, cpu).value
            for seed in range(options.seeds)
        ]
        alone.append(float(np.mean(scores)))
        macs = count_macs(a)
        table.row(
            a.key[:8],
            macs.text(),
            f"{100 * inherited[-1]:.2f}",
            f"{100 * alone[-1]:.2f}",
            f"{100 * np.std(scores):.2f}",
        )
        told(f"{a.key[:8]} {macs.text()} inherited {inherited[-1]:.4f} alone {alone[-1]:.4f}")
    out.table(table)
    macs_only = kendalltau([count_macs(a).value for a in chosen], alone).statistic
    tau = kendalltau(inherited, alone).statistic
    out.say(f"Kendall tau, inherited against alone: {tau:.3f}; MACs against alone: {macs_only:.3f}")
    out.say(f"mean difference, alone - inherited: {100 * (np.mean(alone) - np.mean(inherited)):+.2f} points")


if __name__ == "__main__":
    main()
