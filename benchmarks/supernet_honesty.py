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
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

from wb.core.space import random_choices
from wb.data import load
from wb.models.counting import count_macs
from wb.search.supernet import train_supernet
from wb.spaces.presets import vit_space
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.train import score, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1, help="of the networks trained alone")
    options = parser.parse_args()
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
    table = Table(
        title=f"{data.spec}, {len(data.train)} images, {options.epochs} epochs; supernet trained in {seconds:.0f} s"
    )
    for column in ("network", "MACs", "inherited", "alone (mean)", "alone (sd)"):
        table.add_column(column, justify="right")
    inherited, alone = [], []
    for a in chosen:
        inherited.append(score(lambda x, a=a: supernet.run(a, x), data.validation, CLASSES, cpu).value)
        scores = [
            score(train(a, data, recipe, seed=seed).network(), data.validation, CLASSES, cpu).value
            for seed in range(options.seeds)
        ]
        alone.append(float(np.mean(scores)))
        macs = count_macs(a)
        table.add_row(
            a.key[:8],
            macs.text(),
            f"{100 * inherited[-1]:.2f}",
            f"{100 * alone[-1]:.2f}",
            f"{100 * np.std(scores):.2f}",
        )
        print(f"{a.key[:8]} {macs.text()} inherited {inherited[-1]:.4f} alone {alone[-1]:.4f}", flush=True)
    Console().print(table)
    macs_only = kendalltau([count_macs(a).value for a in chosen], alone).statistic
    print(
        f"Kendall tau, inherited against alone: {kendalltau(inherited, alone).statistic:.3f}; MACs against alone: {macs_only:.3f}"
    )
    print(f"mean difference, alone - inherited: {100 * (np.mean(alone) - np.mean(inherited)):+.2f} points")


if __name__ == "__main__":
    main()
