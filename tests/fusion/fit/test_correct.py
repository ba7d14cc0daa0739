"""What is right already stays; what is not comes nearer to the parents; moments are the averages of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.networks import wired
from wb.core.architecture import Architecture, Block, resize
from wb.core.records import ConvStem, Cosformer, Lmu, Mlp, Nowhere, PatchStem, Pool, Sinusoid, Softmax
from wb.fusion.fit.correct import correct
from wb.fusion.fuse import Fused, fuse
from wb.fusion.settings import Settings
from wb.models.model import Model
from wb.training.refit import beside
from wb.training.refit.trace import network_of

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit

Kind = Literal["regress", "repair"]
kinds = pytest.mark.parametrize("kind", ["regress", "repair"])


def fused(kit: Kit, kind: Kind, *models: Model, count: int = 40, **chosen: object) -> Fused:
    """By `regress`, or by `orth` with `repair`."""
    how = {"method": "regress"} if kind == "regress" else {"method": "orth", "repair": True}
    names = [f"m{i}" for i in range(len(models))]
    return fuse(models, names, Settings.model_validate({**how, **chosen}), kit.pictures(count), keep=True)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), kind=st.sampled_from(["regress", "repair"]))
def test_with_all_of_the_weight_on_the_anchor_nothing_changes(
    kit: Kit, data: st.DataObject, seed: int, kind: Kind
) -> None:
    architecture = data.draw(kit.networks)
    models = [kit.model(architecture, seed + i) for i in range(2)]
    kit.same(fused(kit, kind, *models, weights=(0, 1), anchor=2).model, models[1], 1e-6)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), kind=st.sampled_from(["regress", "repair"]))
def test_copies_stay_what_they_are(kit: Kit, data: st.DataObject, seed: int, kind: Kind) -> None:
    model = kit.model(data.draw(kit.networks), seed)
    kit.same(fused(kit, kind, kit.turned(model), model).model, model, 1e-6)


MANY = tuple(
    Block(mixer=mixer, ffn=Mlp(mlp=9))
    for mixer in (Softmax(heads=3, qk=4, v=3), Cosformer(heads=2, qk=3, v=4), Lmu(memory=4, hidden=6))
)


def error(kit: Kit, model: Model, parents: list[Model], images: Tensor) -> float:
    """How far the logits are from the average of the parents'."""
    target = torch.stack([kit.run(parent, images) for parent in parents]).mean(0)
    return float((kit.run(model, images) - target).square().mean())


SHAPES: list[dict[str, object]] = [
    {},
    {"norm": "post"},
    {"stem": ConvStem(patch=2, width=5)},
    {"stem": ConvStem(patch=4, width=5)},
    {"position": Sinusoid()},
    {"position": Nowhere(), "stem": ConvStem(patch=2, width=5)},
]


@pytest.mark.parametrize(
    ("stages", "shape"), [*((n, shape) for n in (1, 2) for shape in SHAPES), (1, {"pool": "cls"})], ids=str
)
def test_regression_brings_strangers_nearer_to_their_average(kit: Kit, shape: dict[str, object], stages: int) -> None:
    architecture = kit.network(*[MANY, (kit.softmax,)][:stages], **shape)  # type: ignore[arg-type]
    parents = [kit.model(architecture, i) for i in range(2)]
    found = fused(kit, "regress", *parents, count=80)
    images = kit.pictures(200)
    for seen in (images[:80], images[80:]):
        assert error(kit, found.model, parents, seen) < 0.7 * error(kit, found.average, parents, seen)


@pytest.mark.parametrize("stem", [PatchStem(patch=2), ConvStem(patch=2, width=5)], ids=["patch", "conv"])
@kinds
def test_where_sublayers_read_other_sums_copies_stay_and_strangers_come_nearer(
    kit: Kit, kind: Kind, stem: PatchStem | ConvStem
) -> None:
    """What a stem and a merge give is not what is read behind them, which has factors."""
    architecture = wired(kit.network(MANY, (kit.softmax,), stem=stem), "averaged")
    parents = [kit.model(architecture, i) for i in range(2)]
    kit.same(fused(kit, kind, kit.turned(parents[0]), parents[0]).model, parents[0], 1e-6)
    kit.same(fused(kit, kind, *parents, weights=(0, 1), anchor=2).model, parents[1], 1e-6)
    if kind == "regress":
        found = fused(kit, kind, *parents, count=80)
        assert error(kit, found.model, parents, kit.pictures(80)) < 0.7 * error(
            kit, found.average, parents, kit.pictures(80)
        )


@kinds
def test_parents_of_other_sizes_and_depths_are_looked_at_as_they_are(kit: Kit, kind: Kind) -> None:
    """A parent whose blocks stand for nothing in the fused one runs all the same."""
    large = kit.model(kit.network((kit.softmax, Block(mixer=Pool()), kit.softmax)))
    small = kit.model(resize(kit.network(), {"s0.embed": 6, "s0.b0.heads": 2, "s0.b1.mlp": 5}), 1)
    for pair in ((large, small), (small, large)):
        found = fused(kit, kind, *pair, count=80)
        assert found.model.architecture == pair[0].architecture
        if kind == "regress":
            images = kit.pictures(80)
            assert error(kit, found.model, [*pair], images) < error(kit, found.average, [*pair], images)


def test_a_strong_pull_leaves_the_weights_of_the_average(kit: Kit) -> None:
    """Only biases and positions follow the means."""
    parents = [kit.model(seed=i) for i in range(2)]
    found = fused(kit, "regress", *parents, ridge=1e12)
    for name, weight in found.average.weights.items():
        if "bias" not in name and not name.split(".")[-1].startswith("b") and name != "position":
            torch.testing.assert_close(found.model.weights[name], weight, rtol=1e-6, atol=1e-6)


def test_positions_that_are_not_trained_take_no_error_over(kit: Kit) -> None:
    parents = [kit.model(kit.network(position=Sinusoid()), i) for i in range(2)]
    found = fused(kit, "regress", *parents)
    torch.testing.assert_close(found.model.weights["position"], found.average.weights["position"])


def seen(kit: Kit, model: Model) -> dict[str, tuple[Tensor, Tensor]]:
    """Means and deviations of what the only block's parts add, and of its hidden units."""
    found: dict[str, Tensor] = {}
    network = network_of(model)
    for name in ("mixer", "ffn"):
        network.get_submodule(f"stages.0.0.{name}").register_forward_hook(
            lambda part, x, y, name=name: found.update({name: y.flatten(0, 1), f"{name}.in": x[0].flatten(0, 1)})
        )
    network(kit.pictures(40).double())
    up, bias = (model.weights[f"stages.0.0.ffn.{name}"] for name in ("up", "up_bias"))
    values = {"mixer": found["mixer"], "ffn": found["ffn"], "units": found["ffn.in"] @ up.T + bias}
    return {name: (y.mean(0), y.std(0, correction=0)) for name, y in values.items()}


def test_moments_of_units_and_of_what_is_written_are_the_averages(kit: Kit) -> None:
    """In vanilla, whose axes are those of the parents: of what each sub-layer adds, and of hidden units."""
    parents = [kit.model(kit.network((kit.softmax,)), i) for i in range(2)]
    found = fuse(parents, ["a", "b"], Settings(method="vanilla", repair=True, weights=(1, 3)), kit.pictures(40))
    moments = [seen(kit, model) for model in (*parents, found.model)]
    for name, wanted in moments[2].items():
        for i, value in enumerate(wanted):
            torch.testing.assert_close(value, 0.25 * moments[0][name][i] + 0.75 * moments[1][name][i], msg=name)


def test_without_blocks_there_is_the_head_and_nothing_to_repair(kit: Kit) -> None:
    bare: Architecture = kit.network((kit.off,))
    parents = [kit.model(bare, i) for i in range(2)]
    images = kit.pictures(80)
    assert error(kit, fused(kit, "regress", *parents).model, parents, images) < 1e-2
    found = fused(kit, "repair", *parents)
    kit.same(found.model, found.average)


def test_only_so_many_tokens_are_fitted_on(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "ROWS", 300)
    parents = [kit.model(seed=i) for i in range(2)]
    one, again, other = (fused(kit, "regress", *parents, count=80, seed=seed).model for seed in (0, 0, 1))
    assert one.fingerprint() == again.fingerprint()
    assert one.fingerprint() != other.fingerprint()
    images = kit.pictures(80)
    assert error(kit, one, parents, images) < error(kit, fused(kit, "regress", *parents).average, parents, images)


@kinds
def test_the_average_is_not_touched_and_progress_is_reported(kit: Kit, kind: Kind) -> None:
    found = fused(kit, kind, kit.model(), kit.model(seed=1))
    assert found.reference is not None
    assert found.parents is not None
    average = found.reference
    before = {name: weight.clone() for name, weight in average.weights.items()}
    seen: list[tuple[int, int]] = []
    halves = (0.5, 0.5)
    result = correct(average, found.parents, halves, kit.pictures(), kind, report=lambda *step: seen.append(step))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all(torch.equal(before[name], weight) for name, weight in average.weights.items())
    assert result.architecture == average.architecture
    assert not any(weight.requires_grad for weight in result.weights.values())
