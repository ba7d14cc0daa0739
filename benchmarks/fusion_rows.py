"""The rows of the table of `benchmarks/fusion.py`: models made from two parents, and their readings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from fusion_models import Bench, Key, ensemble, initial, judge, pixels
from torch import Tensor

from wb.core.architecture import Architecture
from wb.fusion.fit.correct import correct
from wb.fusion.fuse import fuse
from wb.fusion.settings import Settings
from wb.models.model import Model
from wb.models.network import Network
from wb.training.refit.fits import Ridge
from wb.training.refit.trace import cut

CALIBRATION = 600
PAPERS = 200  # images that the published code looks at
Cells = dict[str, dict[str, float]]  # one row of one pair: by column


@dataclass(frozen=True)
class Pair:
    """Two parents, the images that fusions may use, and the seed of everything that follows."""

    bench: Bench
    one: Model
    two: Model
    seed: int

    @property
    def loss(self) -> float:
        """The mean of both parents on the test split, which barriers are measured from."""
        return (self.bench.judged(self.one)["loss"] + self.bench.judged(self.two)["loss"]) / 2


Make = Callable[[Pair, Tensor | None], Model]


@dataclass(frozen=True)
class Row:
    """One row: how its model is made from a pair, and what is computed for it (fine-tuning, distillation, barrier)."""

    make: Make
    images: int | None = 0  # None: all of them
    tuned: bool = False
    distilled: bool = False
    barrier: bool = False
    name: str = ""  # what determines the model beside the parents and images


def fused(settings: Settings, images: int | None = 0, anchor: int = 2, **what: bool) -> Row:
    """A fusion on the axes of the second parent, or of the first."""
    settings = settings.model_copy(update={"anchor": anchor})

    def make(pair: Pair, looked: Tensor | None) -> Model:
        return fuse([pair.one, pair.two], ["A", "B"], settings, looked).model

    return Row(make, images, name=settings.model_dump_json(), **what)


def unaligned(pair: Pair, images: Tensor | None) -> Model:
    """`regress` on the average of the parents as they are."""
    found = fuse([pair.one, pair.two], ["A", "B"], Settings(method="vanilla", anchor=2), keep=True)
    if found.parents is None or images is None:
        raise ValueError("nothing to correct with")
    return correct(found.average, found.parents, found.shares, images)


def with_head(start: Callable[[Pair], Model]) -> Make:
    """A network whose head alone is fitted to the mean of the parents' logits, as `regress` fits it."""

    def make(pair: Pair, images: Tensor | None) -> Model:
        if images is None:
            raise ValueError("nothing to fit on")
        model = start(pair)
        net, parents = model.network(), [pair.one.network(), pair.two.network()]
        fit = Ridge(model.weights["head"], model.weights["head_bias"], Settings().ridge)
        with torch.no_grad():
            for part in cut(images):
                read = net.pooled(_stream(net, part))
                fit.add(read, [(0.5, parent(part)) for parent in parents])
        head, bias = fit.solve()
        return replace(model, weights={**model.weights, "head": head.float(), "head_bias": bias.float()})

    return make


def _stream(net: Network, images: Tensor) -> Tensor:
    state = net.begin(images)
    for at in net.walk(0):
        state = at(state)
    return state.stream


def random(pair: Pair) -> Model:
    """A network with initial weights."""
    return initial(pair.two.architecture, 10_000 + pair.seed)


def vanilla(pair: Pair) -> Model:
    """The plain average."""
    return fuse([pair.one, pair.two], ["A", "B"], Settings(method="vanilla", anchor=2)).model


PUBLISHED = {
    "published, activations, Sinkhorn .08": fused(
        Settings(method="ot", stat="activations", solver="sinkhorn", reg=0.08), PAPERS, tuned=True
    ),
    "published, weights, Sinkhorn .06": fused(
        Settings(method="ot", stat="weights", solver="sinkhorn", reg=0.06), tuned=True
    ),
    "published, activations, EMD": fused(Settings(method="ot", stat="activations", solver="emd"), PAPERS),
    "published, weights, EMD": fused(Settings(method="ot", stat="weights", solver="emd")),
}
ROWS = {
    "vanilla": fused(Settings(method="vanilla"), tuned=True, barrier=True),
    **PUBLISHED,
    "perm, weights": fused(Settings(method="perm"), barrier=True),
    "perm, activations": fused(Settings(method="perm", stat="activations"), CALIBRATION, barrier=True),
    "orth, weights": fused(Settings(method="orth"), barrier=True),
    "orth, weights + repair": fused(Settings(method="orth", repair=True), CALIBRATION),
    "orth, activations": fused(Settings(method="orth", stat="activations"), CALIBRATION, barrier=True),
    "orth, activations + repair": fused(
        Settings(method="orth", stat="activations", repair=True), CALIBRATION, tuned=True
    ),
    f"regress, {CALIBRATION} images": fused(Settings(method="regress"), CALIBRATION, tuned=True, distilled=True),
    "regress, all images": fused(Settings(method="regress"), None),
    f"regress on activations, {CALIBRATION} images": fused(Settings(method="regress", stat="activations"), CALIBRATION),
    f"regress without alignment, {CALIBRATION} images": Row(unaligned, CALIBRATION, name="unaligned"),
    "regress without alignment, all images": Row(unaligned, None, name="unaligned"),
    f"vanilla, head fitted, {CALIBRATION} images": Row(with_head(vanilla), CALIBRATION, name="head of vanilla"),
    f"random network, head fitted, {CALIBRATION} images": Row(with_head(random), CALIBRATION, name="head of random"),
    "parent B, trained on": Row(lambda pair, _: pair.two, tuned=True, distilled=True, name="B"),
    "scratch": Row(lambda pair, _: random(pair), tuned=True, name="random"),
}


def made(pair: Pair, row: Row) -> tuple[Model, float]:
    """The row's model, and the CPU seconds that making it took."""
    cache, data = pair.bench.cache, pair.bench.data
    prints = {"one": pair.one.fingerprint(), "two": pair.two.fingerprint(), "data": data.fingerprint}
    looked = None if row.images == 0 else pixels(data, row.images)
    images = None if looked is None else hashlib.sha256(looked.numpy().data).hexdigest()[:16]
    key: Key = {"row": row.name, "images": images, "seed": pair.seed, "code": cache.code, **prints}
    return cache.timed(key, lambda: row.make(pair, looked))


def cells(pair: Pair, row: Row, epochs: tuple[int, ...]) -> tuple[Cells, Cells]:
    """The cells of the row by column, and those with distillation, if any."""
    model, seconds = made(pair, row)
    bench = pair.bench
    one_shot = bench.judged(model)
    found: Cells = {"one-shot": one_shot, "seconds": {"value": seconds}}
    if row.barrier:
        found["barrier"] = {"value": one_shot["loss"] - pair.loss}
    distilled: Cells = {}
    for n in epochs if row.tuned else ():
        found[f"{n} ep"] = bench.tuned(model, n, pair.seed)
    for n in epochs if row.distilled else ():
        distilled[f"{n} ep"] = bench.tuned(model, n, pair.seed, [pair.one, pair.two])
    return found, distilled


def parents(pair: Pair) -> dict[str, Cells]:
    """Both parents and their ensemble."""
    both = [pair.one, pair.two]
    key: Key = {"ensemble": [p.fingerprint() for p in both], "data": pair.bench.data.fingerprint}
    together = pair.bench.cache.numbers(key, lambda: judge(ensemble(both), pair.bench.data.test))
    return {
        "parent A": {"one-shot": pair.bench.judged(pair.one)},
        "parent B": {"one-shot": pair.bench.judged(pair.two)},
        "ensemble": {"one-shot": together},
    }


def pair_of(bench: Bench, architecture: Architecture, number: int) -> Pair:
    """Parents of seeds 2k and 2k + 1."""
    one, two = (bench.parent(architecture, 2 * number + i) for i in (0, 1))
    return Pair(bench, one, two, 100 + number)
