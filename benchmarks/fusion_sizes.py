"""Fusing parents of unequal sizes on digits: of other widths, of other depths, and one that was pruned unevenly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict

from fusion_models import PLAIN, Bench, Key, network
from fusion_rows import PAPERS, Cells, Pair, Row, cells, fused, parents
from fusion_tables import show, told
from tables import Output

from wb.compress.nvit.costs import costs_of
from wb.compress.nvit.nvit import NViT
from wb.compress.nvit.settings import Settings as PruneSettings
from wb.fusion.settings import Settings
from wb.models.counting import count_macs
from wb.models.model import Model
from wb.training.train import Finetune

EPOCHS = 3
SHARE = 0.5  # of the MACs that pruning leaves
RECIPE = PLAIN.model_copy(update={"epochs": 6})  # after pruning, with the labels alone
METHODS = {
    "orth, weights": (Settings(), 0),
    "orth, activations + repair": (Settings(stat="activations", repair=True), None),
    "regress": (Settings(method="regress"), None),
}
PUBLISHED = Settings(method="ot", stat="activations", solver="sinkhorn", reg=0.08)
COLUMNS = ["one-shot", "of the smaller", f"{EPOCHS} ep"]
Parents = Callable[[Bench, int], tuple[Model, Model]]  # the larger one first


def widths(bench: Bench, number: int) -> tuple[Model, Model]:
    """Width 64 with 4 heads, and half of everything."""
    large, small = network(bench.data, 2), network(bench.data, 2, width=32, heads=2)
    return bench.parent(large, 2 * number), bench.parent(small, 2 * number + 1)


def depths(bench: Bench, number: int) -> tuple[Model, Model]:
    """Five blocks and three."""
    large, small = network(bench.data, 2), network(bench.data, 2, depth=3)
    return bench.parent(large, 2 * number), bench.parent(small, 2 * number + 1)


def uneven(bench: Bench, number: int) -> tuple[Model, Model]:
    """A dense network, and one of another seed that was pruned to half its MACs and fine-tuned."""
    architecture = network(bench.data, 2)
    dense, start = (bench.parent(architecture, 2 * number + i) for i in (0, 1))
    settings = PruneSettings(seed=number)
    key: Key = {"pruned": start.fingerprint(), "share": SHARE, **settings.model_dump(mode="json"), **asdict(RECIPE)}

    def prune() -> Model:
        target = {"macs": SHARE * count_macs(architecture).value}
        pruned = NViT(bench.data, target, costs_of(["macs"], architecture, None), settings)(start)
        return Finetune(bench.data, RECIPE, seed=number)(pruned)

    return dense, bench.cache.model(key, prune)


CASES: dict[str, Parents] = {
    "width 64 and 32": widths,
    "depth 5 and 3": depths,
    "dense and pruned to half its MACs": uneven,
}


def rows(case: str) -> Iterator[tuple[str, Row]]:
    """Every fusion of a larger first and a smaller second parent, and the second with the same further training."""
    yield "smaller, trained on", Row(lambda pair, _: pair.two, tuned=True, name="two")
    for into, anchor, weights in (
        ("small, 1/2 of each", 2, (1.0, 1.0)),
        ("small, 1/4 of the larger", 2, (1.0, 3.0)),
        ("large, 1/2 of each", 1, (1.0, 1.0)),
    ):
        methods = {**METHODS, **({"published, activations, Sinkhorn": (PUBLISHED, PAPERS)} if case[0] == "w" else {})}
        for name, (settings, images) in methods.items():
            chosen = settings.model_copy(update={"weights": weights})
            yield f"into {into}: {name}", fused(chosen, images, anchor=anchor, tuned=name == "regress")


def sizes(bench: Bench, pairs: int, out: Output) -> None:
    """Prints a table for each kind of unequal parents."""
    for case, make in CASES.items():
        found: defaultdict[str, list[Cells]] = defaultdict(list)
        for number in range(pairs):
            pair = Pair(bench, *make(bench, number), seed=100 + number)
            smaller = bench.judged(pair.two)["accuracy"]
            for name, one in parents(pair).items():
                found[name.replace("parent A", "larger parent").replace("parent B", "smaller parent")].append(one)
            for name, row in rows(case):
                one, _ = cells(pair, row, (EPOCHS,))
                one["of the smaller"] = {"accuracy": one["one-shot"]["accuracy"] / smaller}
                found[name].append(one)
                told(f"{case}, pair {number}, {name}", one)
        title = f"{case}, {bench.data.spec}: test accuracy (%), {pairs} pairs"
        show(out, title, found, COLUMNS, barrier=False)
