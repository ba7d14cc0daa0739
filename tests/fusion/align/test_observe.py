"""Activations as hooks on the networks see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.architecture import Block, resize
from wb.core.records import Cosformer, Lmu, Mlp, Pool, Softmax
from wb.fusion.align import observe as module
from wb.fusion.align.observe import observe
from wb.fusion.match.depth import Match
from wb.fusion.match.placed import place
from wb.models.model import Model
from wb.training.refit.trace import network_of

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit


def streams(kit: Kit, model: Model) -> dict[str, Tensor]:
    """(tokens, width) before each sub-layer that a norm stands in front of, and before the last norm."""
    network = network_of(model)
    found: dict[str, Tensor] = {}
    for name, part in network.named_modules():
        if "norm" in name.rsplit(".", 1)[-1]:
            part.register_forward_pre_hook(lambda _, x, name=name: found.update({name: x[0].flatten(0, 1)}))
    network(kit.pictures(40).double())
    return found


def products(a: Tensor, b: Tensor) -> Tensor:
    return a.T @ b


def test_units_are_seen_behind_what_reads_the_stream(kit: Kit) -> None:
    """Hidden units before GELU; queries and keys together, head by head, and values."""
    one, two = kit.model(kit.network((kit.softmax,))), kit.model(kit.network((kit.softmax,)), 1)
    found = observe(place(one, two, ((0,),)), two, kit.pictures(40))
    values: list[dict[str, Tensor]] = []
    for model in (one, two):
        w = {name.removeprefix("stages.0.0."): weight for name, weight in model.weights.items()}
        seen = streams(kit, model)
        x, y = (
            F.layer_norm(seen[f"stages.0.0.{n}"], (8,), w[f"{n}.gain"], w[f"{n}.shift"], 1e-6)
            for n in ("norm1", "norm2")
        )
        heads = {c: torch.einsum("rd,hkd->rhk", x, w[f"mixer.w{c}"]) + w[f"mixer.b{c}"] for c in "qkv"}
        values.append({**heads, "mlp": y @ w["ffn.up"].T + w["ffn.up_bias"]})
    a, b = values
    torch.testing.assert_close(found.products["s0.b0.mlp"], products(a["mlp"], b["mlp"]))
    expected = sum(torch.einsum("rik,rjl->ijkl", a[c], b[c]) for c in "qk")
    torch.testing.assert_close(found.products["s0.b0.qk"], expected)
    expected = torch.einsum("rik,rjl->ijkl", a["v"], b["v"])
    torch.testing.assert_close(found.products["s0.b0.v"], expected)
    assert found.rows == {"s0.embed": 3 * 640, "s0.b0.mlp": 640, "s0.b0.qk": 2 * 640, "s0.b0.v": 640}


def test_streams_are_seen_at_each_sublayer_and_at_the_end_all_tokens_alike(kit: Kit) -> None:
    one, two = kit.model(kit.network((kit.softmax,))), kit.model(kit.network((kit.softmax,)), 1)
    found = observe(place(one, two, ((0,),)), two, kit.pictures(40))
    expected = torch.zeros(8, 8).double()
    for name in ("stages.0.0.norm1", "stages.0.0.norm2", "norm"):
        a, b = (streams(kit, model)[name] for model in (one, two))
        a, b = (x / x.square().mean(dim=1, keepdim=True).sqrt() for x in (a, b))
        expected += products(a, b)
    torch.testing.assert_close(found.products["s0.embed"], expected)
    assert float(found.squares["s0.embed"][0].sum()) == pytest.approx(3 * 640 * 8)


def test_a_model_has_all_in_common_with_itself(kit: Kit) -> None:
    mixers = (Softmax(heads=2, qk=3, v=4), Cosformer(heads=2, qk=3, v=4), Lmu(memory=3, hidden=4), Pool())
    blocks = tuple(Block(mixer=mixer, ffn=Mlp(mlp=5)) for mixer in mixers)
    model = kit.model(kit.network(blocks, (Block(ffn=Mlp(mlp=5)),)))
    found = observe(place(model, model, ((0, 1, 2, 3), (0,))), model, kit.pictures())
    assert {"s0.b1.v", "s0.b2.hidden", "s1.embed", "s1.b0.mlp"} <= found.products.keys()
    for axis, (own, other) in found.squares.items():
        torch.testing.assert_close(own, other)
        if found.products[axis].dim() == 2:
            torch.testing.assert_close(found.products[axis].diagonal(), own)


@pytest.mark.parametrize("match", [((0, None, 1),), ((None, 1, 0),), ((None, None, 1),), ((None, None, None),)])
def test_what_stands_for_nothing_runs_all_the_same(kit: Kit, match: Match) -> None:
    """At the end both streams are those of the whole networks."""
    one = kit.model(kit.network((kit.softmax, Block(mixer=Pool(), ffn=Mlp(mlp=5)))))
    two = kit.model(kit.network((kit.softmax,) * 3), 1)
    if match == ((None, 1, 0),):
        one = kit.model(kit.network((Block(mixer=Pool()), Block(mixer=Pool(), ffn=Mlp(mlp=5)))))
    found = observe(place(one, two, match), two, kit.pictures(40))
    a, b = (streams(kit, model)["norm"] for model in (one, two))
    a, b = (x / x.square().mean(dim=1, keepdim=True).sqrt() for x in (a, b))
    if match == ((None, None, None),):
        torch.testing.assert_close(found.products["s0.embed"], products(a, b))
    assert torch.isfinite(found.products["s0.embed"]).all()
    assert ("s0.b0.mlp" in found.products) == (match[0][0] is not None)


def test_other_sizes_have_products_of_both(kit: Kit) -> None:
    two = kit.model()
    sizes = {"s0.embed": 5, "s0.b0.heads": 2, "s0.b0.qk": 6, "s0.b1.mlp": 7}
    one = kit.model(resize(two.architecture, sizes), 1)
    found = observe(place(one, two, ((0, 1),)), two, kit.pictures())
    assert found.products["s0.embed"].shape == (5, 8)
    assert found.products["s0.b0.qk"].shape == (2, 3, 6, 4)
    assert found.products["s0.b1.mlp"].shape == (7, 9)


def test_at_most_so_many_tokens_are_compared_the_same_in_every_call(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 100)
    model = kit.model(kit.network((kit.softmax,)))
    placed = place(model, model, ((0,),))
    first, again, other = (observe(placed, model, kit.pictures(70), seed) for seed in (1, 1, 2))
    assert first.rows["s0.b0.mlp"] == pytest.approx(100, abs=2)
    assert torch.equal(first.products["s0.b0.mlp"], again.products["s0.b0.mlp"])
    assert not torch.equal(first.products["s0.b0.mlp"], other.products["s0.b0.mlp"])
