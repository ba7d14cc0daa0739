"""The pass: what it changes, what it leaves, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.networks import answering, assembled, hybrid, images, random_model
from wb.compress.depth.drop import removed
from wb.compress.nvit import nvit
from wb.compress.nvit.cost import Cost
from wb.compress.nvit.costs import counted
from wb.compress.nvit.nvit import NViT, Pruned, between, check_reachable
from wb.compress.nvit.saliency import score
from wb.compress.nvit.settings import BLOCK, METHODS, Method, Settings
from wb.core.architecture import Architecture, Block, Stage, axis_sizes, resize
from wb.core.errors import BadData, BadOption, BudgetMissed
from wb.core.measures.metrics import METRICS, Limit
from wb.core.records import ImageInput, Nowhere, Pool
from wb.core.records.ffns import Inverted
from wb.core.records.mixers import Depthwise
from wb.core.records.norms import BatchNorm
from wb.core.records.stems import MobileStem
from wb.data import Dataset
from wb.data.split import Images
from wb.models.counting import count_macs, count_parameters
from wb.models.model import Model, from_network
from wb.models.network import build
from wb.models.passes.base import apply
from wb.tasks.classes import CLASSES
from wb.training.statistics import with_statistics
from wb.training.train import Finetune
from wb.training.train import score as accuracy


@pytest.fixture(scope="module")
def costs(small: Architecture) -> dict[str, Cost]:
    return {metric: counted(small, metric) for metric in ("macs", "params")}


@pytest.mark.parametrize("method", METHODS)
def test_a_pass_to_targets(trained: Model, stripes: Dataset, costs: dict[str, Cost], method: Method) -> None:
    targets = {metric: 0.5 * cost(trained.architecture) for metric, cost in costs.items()}
    settings = Settings(method=method, rounds=3, calibration=32, seed=5)
    told: list[tuple[int, str]] = []
    step = NViT(stripes, targets, costs, settings, report=lambda *what: told.append(what))
    result = apply(step, trained)
    counts = {"macs": count_macs(result.architecture).value, "params": count_parameters(result.architecture).value}
    for metric, count in counts.items():
        assert count <= targets[metric] * (1 + 1e-9)
    assert max(counts[metric] / targets[metric] for metric in targets) > 0.93, "no more than asked for"
    rounds = [(number, what) for number in (1, 2, 3) for what in ("scoring", "compensating")]
    turned = method != "magnitude"
    assert told == [*([(0, "rotating")] if turned else []), *rounds], "each of the last cuts is made up for"
    assert [one.name for one in result.history] == [*(one.name for one in trained.history), "prune nvit"]
    done = result.history[-1]
    assert done.seed == 5
    assert done.arguments["targets"] == targets
    assert done.arguments["dropped"] == removed(trained.architecture, result.architecture)
    assert (done.arguments["method"], done.arguments["rounds"], done.arguments["distilled"]) == (method, 3, False)
    assert (done.arguments["rotate"], done.arguments["compensate"]) == (turned, True)
    again = apply(NViT(stripes, targets, costs, settings), trained)
    assert again.fingerprint() == result.fingerprint()


def test_saliency_beats_chance(trained: Model, stripes: Dataset, costs: dict[str, Cost]) -> None:
    """Without any training or compensation after the cut, which would make up for chance."""
    targets = {"params": 0.5 * costs["params"](trained.architecture)}

    def scored(method: Method, seed: int) -> float:
        settings = Settings(method=method, rounds=2, calibration=96, seed=seed, rotate=False, compensate=False)
        network = NViT(stripes, targets, costs, settings)(trained).network()
        return accuracy(network, stripes.validation, CLASSES, torch.device("cpu")).value

    assert accuracy(trained.network(), stripes.validation, CLASSES, torch.device("cpu")).value > 0.9
    assert scored("nvit", 0) > np.mean([scored("random", seed) for seed in range(3)]) + 0.1


def test_as_it_is_weights_are_those_of_the_model(trained: Model, stripes: Dataset, costs: dict[str, Cost]) -> None:
    targets = {"macs": 0.6 * costs["macs"](trained.architecture)}
    as_is = Settings(rounds=2, calibration=32, rotate=False, compensate=False)
    cut = NViT(stripes, targets, costs, as_is)(trained)
    for name, weight in cut.weights.items():
        assert set(weight.flatten().tolist()) <= set(trained.weights[name].flatten().tolist()), name


def test_recovery_trains_between_rounds(trained: Model, stripes: Dataset, costs: dict[str, Cost]) -> None:
    targets = {"macs": 0.6 * costs["macs"](trained.architecture)}
    seen: list[int] = []
    dense = trained.network()

    def teacher(images: Tensor) -> Tensor:
        seen.append(len(images))
        logits: Tensor = dense(images)
        return logits

    settings = Settings(rounds=3, recovery=2, calibration=32, rotate=False, compensate=False)
    told: list[str] = []
    result = apply(NViT(stripes, targets, costs, settings, teacher, lambda _, what: told.append(what)), trained)
    assert told == ["scoring", "recovering"] * 2 + ["scoring"]
    assert seen == [32] * 4, "two steps after each round but the last"
    assert [one.name for one in result.history] == ["train", "prune nvit"], "recovery is part of the pass"
    assert result.history[-1].arguments["distilled"] is True
    head = set(result.weights["head"].flatten().tolist())
    assert not head <= set(trained.weights["head"].flatten().tolist())


def test_kinds_that_are_kept_stay(trained: Model, stripes: Dataset, costs: dict[str, Cost]) -> None:
    targets = {"macs": 0.7 * costs["macs"](trained.architecture)}
    settings = Settings(rounds=2, keep=("embed", "heads", "blocks"), calibration=32, align=2)
    sizes = axis_sizes(NViT(stripes, targets, costs, settings)(trained).architecture)
    before = axis_sizes(trained.architecture)
    assert sizes.keys() == before.keys(), "no sub-layer went"
    assert all(size == before[name] for name, size in sizes.items() if name.endswith((".embed", ".heads")))
    assert all(size % 2 == 0 or size == before[name] for name, size in sizes.items())
    assert sizes != before


@pytest.mark.parametrize(
    ("keep", "kinds"), [(("embed",), ("mlp", "qk", "v")), (("embed", "v"), ("mlp", "qk", "heads"))]
)
def test_scores_follow_their_units(
    trained: Model, stripes: Dataset, costs: dict[str, Cost], keep: tuple[str, ...], kinds: tuple[str, ...]
) -> None:
    """A unit's magnitude does not change when others go, unless these were what it is read by: so that both ways agree."""
    step = NViT(stripes, {}, costs, Settings(method="magnitude", keep=keep))
    state = step.scored(Pruned(trained))
    for share in (0.8, 0.6):
        state = step.cut(state, {"macs": share * costs["macs"](trained.architecture)})
        fresh = score(state.model.network(), [], "magnitude")
        sizes = axis_sizes(state.model.architecture)
        assert state.scores.keys() <= fresh.keys()
        compared = [name for name in state.scores if name.endswith(kinds)]
        assert compared
        for name in compared:
            assert state.scores[name].shape[-1] == sizes[name]
            torch.testing.assert_close(state.scores[name], fresh[name])
    assert sizes != axis_sizes(trained.architecture)


def test_momentum_mixes_the_rounds(trained: Model, stripes: Dataset, costs: dict[str, Cost]) -> None:
    settings = Settings(method="random", momentum=0.75, keep=("embed",))
    step = NViT(stripes, {}, costs, settings)
    first = step.scored(Pruned(trained))
    cut = step.cut(first, {"params": 0.7 * costs["params"](trained.architecture)})
    second = step.scored(cut)
    alone = replace(step, settings=settings.model_copy(update={"momentum": 0.0})).scored(cut)
    assert second.rounds == 2
    assert second.scores.keys() == alone.scores.keys()
    for name, value in second.scores.items():
        torch.testing.assert_close(value, 0.75 * cut.scores[name] + 0.25 * alone.scores[name])
    assert any(not torch.equal(value, first.scores[name]) for name, value in alone.scores.items())


def test_the_way_has_equal_factors() -> None:
    shares = [between(100.0, 25.0, i / 4) for i in range(5)]
    assert shares == pytest.approx([100.0 / 4 ** (i / 4) for i in range(5)])
    assert between(10.0, 20.0, 0.5) == 20.0, "a limit that is kept stays where it is"


def test_what_is_refused(trained: Model, stripes: Dataset, costs: dict[str, Cost]) -> None:
    before = {name: weight.clone() for name, weight in trained.weights.items()}
    targets = {"macs": 0.5 * costs["macs"](trained.architecture)}
    with pytest.raises(
        BadOption, match="no axis hidden, depth to keep; this model has embed, heads, qk, v, mlp, blocks"
    ):
        NViT(stripes, targets, costs, Settings(keep=("hidden", "v", "depth")))(trained)
    with pytest.raises(
        BudgetMissed, match=r"macs <= 1 cannot be reached, the least is ~.* with --keep blocks,embed; allow"
    ):
        NViT(stripes, {"macs": 1.0}, costs, Settings(rounds=1, keep=("embed", "blocks"), calibration=16))(trained)
    other = answering(resize(trained.architecture, {}), classes=4, labels=())
    with pytest.raises(BadData, match="have 3 classes, and the model has"):
        NViT(stripes, targets, costs)(Model(other, trained.weights))
    broken = {**trained.weights, "head_bias": torch.full((3,), float("nan"))}
    with pytest.raises(BadData, match="the loss on the calibration images is nan"):
        NViT(stripes, targets, costs)(Model(trained.architecture, broken))
    assert all(torch.equal(weight, before[name]) for name, weight in trained.weights.items())


def test_a_budget_is_reachable_where_pruning_reaches_it(small: Architecture, stripes: Dataset) -> None:
    """A pool goes for its gate's score; methods without gates cannot drop it, as it has no units."""
    stage = small.stages[0].model_copy(update={"blocks": (*small.stages[0].blocks, Block(mixer=Pool()))})
    a = small.model_copy(update={"stages": (stage,)})
    network = build(a)
    network.reset()
    model = from_network(a, network)
    cost = {"params": counted(a, "params")}
    nothing = a.model_copy(update={"stages": (stage.model_copy(update={"blocks": ()}),)})
    ends = cost["params"](nothing)
    settings = Settings(rounds=1, keep=("embed",), calibration=16)
    check_reachable((Limit(METRICS["params"], ends),), cost, model, settings)
    pruned = NViT(stripes, {"params": ends * (1 + 1e-9)}, cost, settings)(model)
    assert count_parameters(pruned.architecture).value == pytest.approx(ends)
    for method in ("taylor", "magnitude", "random"):
        other = settings.model_copy(update={"method": method})
        with pytest.raises(BudgetMissed, match=r"params <= .* cannot be reached"):
            check_reachable((Limit(METRICS["params"], ends),), cost, model, other)


def test_statistics_are_those_of_what_is_left() -> None:
    split = Images(images(hybrid(), 24).numpy(), np.arange(24) % 3)
    noise = Dataset("noise", "noise", split, split, split, ("a", "b", "c"), "0")
    model, dense = random_model(hybrid(), gain=1.0), count_macs(hybrid()).value
    costs = {"macs": counted(hybrid(), "macs")}
    pruned = apply(NViT(noise, {"macs": 0.6 * dense}, costs, Settings(rounds=1, calibration=16, batch=8)), model)
    assert count_macs(pruned.architecture).value <= 0.6 * dense
    again = with_statistics(pruned, noise.train)
    assert all(torch.equal(weight, again.weights[name]) for name, weight in pruned.weights.items())


def wide(side: int = 8) -> Architecture:
    """A network of maps whose widths are three blocks of channels."""
    image = ImageInput(channels=3, height=side, width=side, mean=(0.3,) * 3, std=(0.4,) * 3)
    blocks = (Block(mixer=Depthwise(), ffn=Inverted(mlp=24)),)
    stage, stem = Stage(embed=24, blocks=blocks, plane="map"), MobileStem(patch=2, width=24)
    return assembled(
        input=image, stem=stem, stages=(stage,), position=Nowhere(), last=BatchNorm(), labels=("a", "b", "c")
    )


def noise_of(a: Architecture) -> Dataset:
    split = Images(images(a, 24).numpy(), np.arange(24) % 3)
    return Dataset("noise", "noise", split, split, split, ("a", "b", "c"), "0")


@pytest.mark.parametrize(("align", "multiple"), [(None, BLOCK), (1, 1)])
def test_channels_of_maps_stay_in_whole_blocks(align: int | None, multiple: int) -> None:
    a, settings = wide(), Settings(rounds=1, calibration=16, batch=8, align=align)
    goal = {"params": 0.45 * count_parameters(a).value}
    pruned = NViT(noise_of(a), goal, {"params": counted(a, "params")}, settings)(random_model(a, gain=1.0))
    sizes = axis_sizes(pruned.architecture)
    assert sizes != axis_sizes(a)
    assert all(size % multiple == 0 for size in sizes.values())
    assert any(size % BLOCK for size in sizes.values()) == (multiple == 1)
    assert pruned.history[-1].arguments["align"] == multiple


def test_convolutions_recover_by_their_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    a, found = wide(24), []

    class Told(Finetune):
        def __call__(self, model: Model, /) -> Model:
            found.append(self.recipe)
            return model

    monkeypatch.setattr(nvit, "Finetune", Told)
    NViT(noise_of(a), {}, {}, Settings(recovery=2)).recovered(Pruned(random_model(a)))
    assert [(one.optimizer, one.learning_rate, one.flip) for one in found] == [("muon", 1e-3, "off")]


def test_both_bring_what_is_left_nearer(trained: Model, stripes: Dataset, costs: dict[str, Cost]) -> None:
    """To what the trained model answers: heads in their bases by what is cut then, and compensation by what it fits."""
    targets = {"macs": 0.4 * costs["macs"](trained.architecture)}
    images = torch.from_numpy(stripes.validation.pixels(np.arange(len(stripes.validation))))

    def error(**how: bool) -> float:
        chosen = {"rounds": 3, "calibration": 64, "rotate": False, "compensate": False, **how}
        settings = Settings.model_validate(chosen)
        pruned = NViT(stripes, targets, costs, settings)(trained)
        with torch.no_grad():
            return float((pruned.network()(images) - trained.network()(images)).square().mean())

    assert error(compensate=True) < 0.8 * error()
    assert error(rotate=True, compensate=True) < 0.8 * error(rotate=True)
