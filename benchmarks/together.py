"""The supernet of the demo trained by one process and by several: the difference of its weights, and what a step takes.

Numbers are rounded otherwise where sums of gradients have other parts, and training makes that grow: kernels have kinks, and Adam
divides small gradients by small ones. So the same is done by one process that sees the images of each batch in reverse order,
which is the same step but for rounding.

    python benchmarks/together.py --processes 2
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from ranks import RANK, processes
from tables import Table, begin, parser_of, told
from torch import nn

from wb.data import load
from wb.models.network import skeleton
from wb.scale import team as teams
from wb.scale.joining import joined
from wb.search.beginning.config import SearchConfig
from wb.search.beginning.recipes import supernet_recipe
from wb.search.supernet import Supernet, sandwich
from wb.spaces.spaces import space_for
from wb.training.fit import Batch, fit
from wb.training.linear import decayed

NEAR = 1e-5
TYPES = {"float64": torch.float64, "float32": torch.float32}


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("--processes", type=int, default=2, help="beside one (default 2)")
    parser.add_argument("--epochs", type=int, default=1, help="of training (default 1)")
    parser.add_argument("--type", choices=TYPES, default="float32", help="of one process that this script starts")
    parser.add_argument("--reverse", action="store_true", help="of one process that this script starts")
    parser.add_argument(RANK, help="of one process that this script starts: the file that it writes")
    return parser


@dataclass
class Timed:
    """Counts steps, and the time that goes into averaging, of `Team.reduce`."""

    steps: int = 0
    seconds: float = 0.0
    entries: int = 0
    reduce: Any = field(default_factory=lambda: teams.Team.reduce)

    def __call__(self, team: teams.Team, weights: dict[str, nn.Parameter], share: float, loss: float) -> float:
        begun = time.perf_counter()
        found = float(self.reduce(team, weights, share, loss))
        self.seconds += time.perf_counter() - begun
        self.steps += 1
        self.entries += sum(weight.grad.numel() for weight in weights.values() if weight.grad is not None)
        return found


def main() -> int:
    """Prints the table; 3 if weights are farther from each other than they may be."""
    parser = arguments()
    given = parser.parse_args()
    if given.rank is not None:
        found = one(TYPES[given.type], given.epochs, reverse=given.reverse)
        Path(given.rank).write_text(json.dumps(found))
        return 0
    options, out = begin(parser)
    columns = (
        "numbers",
        "processes",
        "steps",
        "s a step",
        "of it averaging",
        "gradients a step, MB",
        "weights differ by",
    )
    title = f"The supernet of the demo (vit/tiny, digits, batches of 32), epochs: {options.epochs}"
    table, apart = Table(title, columns, left=("processes",)), dict[str, float]()
    for kind in TYPES:
        first = dict[str, torch.Tensor]()
        for count, reverse in ((1, False), (1, True), (options.processes, False)):
            told(f"{count} processes, {kind}")
            more = ["--reverse"] if reverse else []
            each = processes(__file__, count, ["--epochs", str(options.epochs), "--type", kind, *more])[0]
            weights = {name: torch.tensor(value, dtype=TYPES[kind]) for name, value in each.pop("weights").items()}
            first = first or weights
            far = max(float((weights[name] - first[name]).abs().max()) for name in first)
            apart[kind] = far
            name = f"{count}, batches reversed" if reverse else str(count)
            steps = each["steps"]
            cells = [f"{each['seconds'] / steps:.3f}", f"{each['averaging'] / each['seconds']:.0%}"]
            size = f"{each['entries'] * TYPES[kind].itemsize / steps / 1e6:.2f}"
            table.row(kind, name, str(steps), *cells, size, f"{far:.1e}" if reverse or count > 1 else "")
    out.table(table)
    met = {kind: "met" if far < NEAR else "missed" for kind, far in apart.items()}
    out.say(f"Target: at most {NEAR:.0e} apart: {', '.join(f'{how} in {kind}' for kind, how in met.items())}.")
    return 0 if all(far < NEAR for far in apart.values()) else 3


def one(dtype: torch.dtype, epochs: int, *, reverse: bool) -> dict[str, Any]:
    """What one process trains: its weights, if it is the first, and what that took."""
    torch.set_num_threads(1)
    data, config = load("digits"), SearchConfig(epochs=epochs, space="vit")
    space = space_for(data, config.space, config.preset, config.changes)
    recipe = supernet_recipe(config, space, data).model_copy(update={"flip": "off"})
    timed, supernet = Timed(), Supernet.fresh(space, 0)
    supernet.weights = {name: nn.Parameter(weight.detach().to(dtype)) for name, weight in supernet.weights.items()}
    step = sandwich(supernet, recipe, 0)

    def backward(batch: Batch) -> float:
        inputs, labels = batch.inputs.to(dtype), batch.labels
        if reverse:
            inputs, labels = inputs.flip(0), labels.flip(0)
        return step(replace(batch, inputs=inputs, labels=labels))

    teams.Team.reduce = lambda *given: timed(*given)  # type: ignore[method-assign]
    with joined() as team:
        begun = time.perf_counter()
        decays = {name for top in space.tops() for name in decayed(skeleton(top))}
        fit(supernet.weights, backward, data.train, recipe, seed=0, decayed=decays, team=team)
        seconds = time.perf_counter() - begun
    found = {"steps": timed.steps, "seconds": seconds, "averaging": timed.seconds, "entries": timed.entries}
    weights = {name: weight.tolist() for name, weight in supernet.weights.items()} if team.leads else {}
    return {**found, "weights": weights}


if __name__ == "__main__":
    raise SystemExit(main())
