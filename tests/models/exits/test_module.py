"""Networks with early exits: what leaves where, and what is as it was without them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.exiting import KINDS, exiting, given, images
from tests.networks import of_digits, random_model, wired
from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.core.records.wirings import Ensemble
from wb.models.exits.files import exits_of, load_exiting, save_exiting
from wb.models.exits.module import pooled
from wb.models.exits.record import KEY, Exits, chosen, places, read_exits
from wb.models.model import load, save


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_each_image_is_answered_by_the_exit_that_it_leaves_by_alone_and_in_a_batch(kind: str) -> None:
    model = given(kind)
    network, pixels = model.network(), images(model.trunk, 16)
    answers = network.everything(pixels)
    left = network.left_at(answers)
    assert len(set(left.tolist())) > 1, "some go further than others"
    wanted = torch.stack(answers, 1)[torch.arange(16), left]
    assert torch.allclose(network(pixels), wanted, atol=1e-6)
    assert torch.allclose(torch.cat([network(one) for one in pixels.split(1)]), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_gates_that_never_leave_are_the_network_without_exits(kind: str) -> None:
    model = given(kind)
    pixels = images(model.trunk, 5)
    never = model.forced(len(model.record.after)).network()
    assert torch.equal(never(pixels), model.trunk.network()(pixels))
    first = model.forced(0).network()
    assert torch.equal(first(pixels), first.everything(pixels)[0])


def test_what_is_not_needed_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = given("tokens").forced(0)
    network = model.network()
    monkeypatch.setattr(network.trunk, "end", lambda _: pytest.fail("the end was computed"))
    network(images(model.trunk, 2))


def test_pooling_is_over_places_alone() -> None:
    x = torch.randn(2, 5, 3)
    tokens = x[:, 1:].double()
    wanted = torch.cat([tokens.mean(1), tokens.square().sum(1).sqrt()], 1).float()
    assert torch.allclose(pooled(x, 1), wanted, atol=1e-6)
    as_map = x[:, 1:].transpose(1, 2).reshape(2, 3, 2, 2)
    assert torch.allclose(pooled(as_map, 0), wanted, atol=1e-6)
    assert torch.allclose(pooled(x, 1, views=2), wanted.mean(0, keepdim=True), atol=1e-6)


def test_a_file_gives_back_what_it_was_made_of_and_other_readers_refuse_it(tmp_path: Path) -> None:
    model, path = given("maps"), tmp_path / "e.safetensors"
    save_exiting(model, path)
    back = load_exiting(path)
    assert (back.record, back.trunk.architecture) == (model.record, model.trunk.architecture)
    assert all(torch.equal(back.weights[name], weight) for name, weight in model.weights.items())
    assert exits_of(path) == model.record
    with pytest.raises(Unsupported, match=r"has early exits.*add exits \(`wb exits`\)"):
        load(path)
    plain = tmp_path / "plain.safetensors"
    save(model.trunk, plain)
    assert exits_of(plain) is None
    with pytest.raises(BadArtefact, match="a model without early exits; `wb exits"):
        load_exiting(plain)
    with pytest.raises(BadOption, match=r"end it in \.safetensors"):
        save_exiting(model, tmp_path / "e.pt")


def test_damaged_exits_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadArtefact, match="the early exits in f are damaged: after"):
        read_exits({KEY: json.dumps({"after": []})}, "f")
    model = given("tokens")
    broken = {name: weight for name, weight in model.weights.items() if not name.endswith("gate")}
    save_exiting(type(model)(model.trunk, model.record, broken), tmp_path / "e.safetensors")
    with pytest.raises(BadArtefact, match=r"the exits' weights do not fit .*gate: given nothing"):
        load_exiting(tmp_path / "e.safetensors")
    elsewhere = type(model)(model.trunk, Exits(after=("s3.b0",)), model.weights)
    save_exiting(elsewhere, tmp_path / "g.safetensors")
    with pytest.raises(BadArtefact, match="has exits after blocks that its network lacks"):
        load_exiting(tmp_path / "g.safetensors")


def test_exits_are_spaced_evenly_and_only_where_they_can_be() -> None:
    deep = of_digits(depth=8)
    assert chosen(deep, ()) == ("s0.b1", "s0.b3", "s0.b5")
    assert chosen(deep, ("s0.b4", "s0.b2")) == ("s0.b2", "s0.b4"), "in order of execution"
    assert places(deep)[-1] == "s0.b6"
    with pytest.raises(BadOption, match=r"no exit can stand after s0\.b7; there are s0\.b0"):
        chosen(deep, ("s0.b7",))
    with pytest.raises(BadOption, match="a single block"):
        chosen(of_digits(depth=1), ())
    assert exiting(random_model(of_digits(depth=2))).record.after == ("s0.b0",)


def test_no_exit_stands_where_nothing_is_in_the_sum_of_a_path_ensemble_yet() -> None:
    """Its features would be zero for every image."""
    a = wired(of_digits(depth=4), "path_ensemble")
    assert places(a) == ("s0.b0", "s0.b1", "s0.b2")
    for cut, expected in ((2, ("s0.b0", "s0.b1", "s0.b2")), (3, ("s0.b1", "s0.b2")), (8, ())):
        stage = a.stages[0].model_copy(update={"wiring": Ensemble(cut=cut)})
        assert places(a.model_copy(update={"stages": (stage,)})) == expected
