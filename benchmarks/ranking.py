"""Does what chooses finalists rank networks as training them in full does?

Trains a supernet, takes sub-networks spread over the space by MACs, and trains each of them alone in full, judged on 2,500
test images, filled up from the training split where there are fewer. Beside that accuracy it reads: MACs; accuracy inherited
from the supernet; after one and after three epochs from the supernet's weights with the largest network as teacher, as a
search's rungs do; what chooses finalists, the forecast from these readings; and accuracy after three epochs from scratch. All of
these are read on the validation images that a search ranks with. For each: Kendall's tau with training in full, over all networks
and within the better half, with 68 % bootstrap intervals over networks; the mean gap to training in full, over all networks and
over the best four; and its CPU seconds for each network. `--again` trains in full with another seed as well, judged on the same
images: what chance leaves of an order, and so about the most that a reading can have.

    python benchmarks/ranking.py --data idx:PATH/fashion-mnist --limit 4000 --epochs 15
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata
from tables import Table, begin, parser_of, told

from wb.core.architecture import Architecture
from wb.core.space import random_choices
from wb.data import Dataset, load
from wb.data.split import Images
from wb.data.stratify import carve
from wb.models.counting import count_macs, count_parameters
from wb.models.network import Network
from wb.search.beginning.config import SearchConfig
from wb.search.beginning.recipes import supernet_recipe, tuning_recipe
from wb.search.fidelity.forecast import predicted
from wb.search.fidelity.rungs import EPOCHS
from wb.search.fidelity.teacher import largest
from wb.search.fidelity.yardstick import held_back, ranking
from wb.search.supernet import Supernet, train_supernet
from wb.spaces.spaces import SpaceName, space_for
from wb.tasks.known import task_of
from wb.training.recipes.choose import recipe_for
from wb.training.recipes.recipe import Recipe
from wb.training.train import Finetune, score, train

POOL = 400  # random networks, of which those that are trained are taken, evenly by MACs
JUDGES = 2500  # images that judge training in full
TARGET, TARGET_HALF = 0.85, 0.6
AGAIN = "in full, another seed"
INHERITED, SCRATCH, CHOOSES = "inherited", f"{max(EPOCHS)} epochs from scratch", "forecast, which chooses finalists"
Floats = NDArray[np.float64]


@dataclass
class Reader:
    """What one way of reading says of each network, and its CPU seconds for all of them."""

    values: list[float] = field(default_factory=list)
    seconds: float = 0.0


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--space", choices=get_args(SpaceName), default="auto")
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--epochs", type=int, default=15, help="of the supernet, and of training in full")
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--again", action="store_true", help="train in full with another seed too")
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap")
    return parser


def with_judges(data: Dataset) -> Dataset:
    """`data` with `JUDGES` test images; where there are fewer, training images are taken for it, of every class its share."""
    lacking = JUDGES - len(data.test)
    if lacking <= 0:
        return replace(data, test=data.test.take(np.arange(JUDGES)))
    left, more = carve(data.train, lacking / len(data.train))
    images, labels = (
        np.concatenate([getattr(part, name) for part in (data.test, more)]) for name in ("images", "labels")
    )
    return replace(data, train=left, test=Images(images, labels, data.test.preparation))


def spread(supernet: Supernet, count: int) -> list[Architecture]:
    """So many random networks, evenly by MACs from the smallest to the largest of a pool."""
    space, rng = supernet.space, random.Random(0)
    pool = sorted((space.decode(random_choices(space, rng)) for _ in range(POOL)), key=lambda a: count_macs(a).value)
    return [pool[round(i * (POOL - 1) / (count - 1))] for i in range(count)]


def read(options: argparse.Namespace, data: Dataset) -> tuple[dict[str, Reader], Floats, str]:
    """The readers by name, the accuracies of training in full, and a note on what was read."""
    ranks = ranking(data, held_back(data))
    config = SearchConfig(epochs=options.epochs)
    space, cpu = space_for(data, options.space, options.preset), torch.device("cpu")
    start = time.process_time()
    supernet = train_supernet(space, ranks, supernet_recipe(config, space, ranks), seed=0).to(cpu)
    note = f"space {space.name}, supernet of {options.epochs} epochs in {time.process_time() - start:.0f} CPU s"
    told(note)
    task, teacher, readers = task_of(space.largest()), largest(supernet), {}
    full, seconds = [], 0.0

    def add(name: str, value: Callable[[], float]) -> None:
        reader, begun = readers.setdefault(name, Reader()), time.process_time()
        reader.values.append(value())
        reader.seconds += time.process_time() - begun

    def own(a: Architecture, part: Dataset, epochs: int) -> Recipe:
        return recipe_for(config.training, count_parameters(a).value, part, epochs, convolutions=a.has_maps)

    def judged(network: Network) -> float:
        return score(network, ranks.validation, task, cpu).value

    def whole(a: Architecture, seed: int) -> float:
        return score(train(a, data, own(a, data, options.epochs), seed=seed).network(), data.test, task, cpu).value

    for number, a in enumerate(spread(supernet, options.networks)):
        model = supernet.extract(a, ranks.train)
        add("MACs", lambda a=a: count_macs(a).value)  # type: ignore[misc]
        add(INHERITED, lambda m=model: judged(m.network()))  # type: ignore[misc]
        for epochs in EPOCHS:
            tune = Finetune(ranks, tuning_recipe(config, space, ranks, epochs), teacher)
            add(_rung(epochs), lambda t=tune, m=model: judged(t(m).network()))  # type: ignore[misc]
        add(SCRATCH, lambda a=a: judged(train(a, ranks, own(a, ranks, max(EPOCHS)), seed=0).network()))  # type: ignore[misc]
        begun = time.process_time()
        full.append(whole(a, 0))
        seconds += time.process_time() - begun
        if options.again:
            add(AGAIN, lambda a=a: whole(a, 1))  # type: ignore[misc]
        told(
            number, *(f"{name} {reader.values[-1]:.4f}," for name, reader in readers.items()), f"in full {full[-1]:.4f}"
        )
    judges = f"{len(ranks.validation)} images read, {len(data.test)} judge"
    return readers, np.array(full), f"{note}; training in full {seconds / len(full):.1f} CPU s each; {judges}"


def combined(readers: dict[str, Reader]) -> None:
    """Adds what combines other readings: the forecast of a search, and rungs and scratch with the rank of the MACs."""
    work = np.array(readers["MACs"].values)
    known = [np.array(readers[name].values) for name in (INHERITED, *map(_rung, EPOCHS))]
    seconds = sum(readers[name].seconds for name in (INHERITED, *map(_rung, EPOCHS)))
    readers[CHOOSES] = Reader(predicted(work, known).tolist(), seconds)
    for name in (_rung(max(EPOCHS)), SCRATCH):
        both = rankdata(readers[name].values) + rankdata(work)
        readers[f"{name}, with the rank of MACs"] = Reader(both.tolist(), readers[name].seconds)


def tau(values: Floats, full: Floats) -> float:
    """Kendall's tau; 0 where either is constant."""
    found = float(kendalltau(values, full).statistic)
    return 0.0 if np.isnan(found) else found


def interval(values: Floats, full: Floats, draws: int) -> tuple[float, float]:
    """The 68 % interval of tau over networks drawn with replacement; pairs of a network with itself tie and count for nothing."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(full), (draws, len(full)))
    low, high = np.quantile([tau(values[pick], full[pick]) for pick in picks], [0.16, 0.84])
    return float(low), float(high)


def table(readers: dict[str, Reader], full: Floats, options: argparse.Namespace, title: str) -> Table:
    """One row a reader."""
    columns = ("read from", "tau (68 %)", "tau, better half (68 %)", "gap, all / best 4", "CPU s each")
    found, best = Table(title, columns), np.argsort(-full)
    half, four = best[: len(full) // 2], best[:4]
    for name, reader in readers.items():
        values = np.array(reader.values)
        cells = []
        for part in (np.arange(len(full)), half):
            low, high = interval(values[part], full[part], options.draws)
            cells.append(f"{tau(values[part], full[part]):.2f} ({low:.2f} to {high:.2f})")
        accuracy = (values >= 0).all() and (values <= 1).all()
        gap = 100 * (full - values)
        cells.append(f"{gap.mean():.1f} / {gap[four].mean():.1f}" if accuracy else "")
        found.row(name, *cells, f"{reader.seconds / len(full):.2f}")
    return found


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    data = with_judges(load(options.data, limit=options.limit))
    readers, full, note = read(options, data)
    combined(readers)
    out.table(table(readers, full, options, f"{len(full)} networks; {note}"))
    values = np.array(readers[CHOOSES].values)
    half = np.argsort(-full)[: len(full) // 2]
    whole, upper = tau(values, full), tau(values[half], full[half])
    met = whole >= TARGET and upper >= TARGET_HALF
    out.say(
        f"What chooses finalists: tau {whole:.2f}, in the better half {upper:.2f}; targets {TARGET} and {TARGET_HALF}: "
        f"{'met' if met else 'missed'}"
    )
    raise SystemExit(0 if met else 3)


def _rung(epochs: int) -> str:
    return f"+ {epochs} epoch{'s' if epochs > 1 else ''} alone"


if __name__ == "__main__":
    main()
